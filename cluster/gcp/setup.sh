#!/usr/bin/env bash
# Make what cluster/gcp/cluster.yaml names, once for a project; what is there already is kept:
#
#   cluster/gcp/setup.sh PROJECT REGION
#
# A network without public addresses, ssh through Identity-Aware Proxy only, a service account that can start and end
# instances and nothing else, the pair of ssh keys and the cluster's token.
set -euo pipefail
cd "$(dirname "$0")/../.."

project=${1:?which project? cluster/gcp/setup.sh PROJECT REGION}
region=${2:?which region? cluster/gcp/setup.sh PROJECT REGION}
range=10.20.0.0/20
account=satdet-head@$project.iam.gserviceaccount.com
google() { gcloud --quiet --project "$project" "$@"; }
there() { google "$@" >/dev/null 2>&1; }

google services enable compute.googleapis.com iap.googleapis.com file.googleapis.com

there compute networks describe satdet || google compute networks create satdet --subnet-mode=custom
there compute networks subnets describe satdet --region="$region" ||
    google compute networks subnets create satdet --network=satdet --region="$region" --range="$range" \
        --enable-private-ip-google-access
there compute firewall-rules describe satdet-inside ||
    google compute firewall-rules create satdet-inside --network=satdet --allow=tcp --source-tags=satdet --target-tags=satdet
# 35.235.240.0/20 is where Identity-Aware Proxy connects from.
there compute firewall-rules describe satdet-iap ||
    google compute firewall-rules create satdet-iap --network=satdet --allow=tcp:22 --source-ranges=35.235.240.0/20 \
        --target-tags=satdet
# Outwards, for packages while the image is built.
there compute routers describe satdet --region="$region" ||
    google compute routers create satdet --network=satdet --region="$region"
there compute routers nats describe satdet --router=satdet --region="$region" ||
    google compute routers nats create satdet --router=satdet --region="$region" --auto-allocate-nat-external-ips \
        --nat-all-subnet-ip-ranges

permissions=(
    compute.disks.create compute.images.useReadOnly compute.instances.create compute.instances.delete
    compute.instances.get compute.instances.list compute.instances.setLabels compute.instances.setMetadata
    compute.instances.setTags compute.subnetworks.use compute.zoneOperations.get
)
there iam roles describe satdetHead ||
    google iam roles create satdetHead --title="satdet head: start and end workers" \
        --permissions="$(IFS=,; echo "${permissions[*]}")"
there iam service-accounts describe "$account" || google iam service-accounts create satdet-head
google projects add-iam-policy-binding "$project" --member="serviceAccount:$account" \
    --role="projects/$project/roles/satdetHead" --condition=None >/dev/null

[ -e ~/.ssh/satdet-gcp ] || ssh-keygen -q -t ed25519 -N "" -f ~/.ssh/satdet-gcp
cluster/token.sh
echo "next: a shared folder (README), then cluster/gcp/image.sh $project ZONE BASE_IMAGE STORAGE"
