#!/usr/bin/env bash
# Build the image of every node from the checkout: driver, environment of requirements.lock, mount point of the storage.
#
#   cluster/gcp/image.sh PROJECT ZONE BASE_IMAGE STORAGE
#
# BASE_IMAGE is an exact one with NVIDIA's driver and python3.11 or 3.12, as PROJECT/IMAGE; see
#   gcloud compute images list --project=ubuntu-os-accelerator-images --no-standard-images
# STORAGE is what to mount on /srv/satdet, as HOST:/EXPORT (Filestore). Only committed files go into the image.
set -euo pipefail
cd "$(dirname "$0")/../.."

project=${1:?cluster/gcp/image.sh PROJECT ZONE BASE_IMAGE STORAGE}
zone=${2:?which zone}
base=${3:?which base image, as PROJECT/IMAGE}
storage=${4:?which storage, as HOST:/EXPORT}
image=$(sed -n 's|.*global/images/\(satdet-[a-z0-9-]*\)$|\1|p' cluster/gcp/cluster.yaml | sort -u)
machine=satdet-image-build
google() { gcloud --quiet --project "$project" "$@"; }
on_machine() { google compute ssh "$machine" --zone="$zone" --tunnel-through-iap --command="$1"; }

google compute instances create "$machine" --zone="$zone" --machine-type=e2-standard-8 --subnet=satdet --no-address \
    --tags=satdet --no-service-account --no-scopes --image-project="${base%%/*}" --image="${base##*/}" --boot-disk-size=50GB
trap 'google compute instances delete "$machine" --zone="$zone"' EXIT

until on_machine true; do sleep 5; done
git archive --format=tar.gz HEAD | on_machine "sudo mkdir -p /opt/satdet && sudo tar -xz -C /opt/satdet"
on_machine "set -eu
    sudo apt-get update && sudo apt-get install --yes --no-install-recommends make nfs-common python3-venv rsync tmux
    sudo useradd --create-home --shell /bin/bash satdet
    sudo chown -R satdet:satdet /opt/satdet
    sudo -u satdet make -C /opt/satdet env
    sudo -u satdet /opt/satdet/.venv/bin/uv pip install --python /opt/satdet/.venv/bin/python --require-hashes \
        -r /opt/satdet/cluster/requirements.lock
    sudo mkdir -p /srv/satdet
    echo '$storage /srv/satdet nfs defaults,hard,_netdev 0 0' | sudo tee -a /etc/fstab
    echo 'satdet ALL=(root) NOPASSWD: /usr/bin/mount /srv/satdet' | sudo tee /etc/sudoers.d/satdet
    sudo systemctl poweroff" || true
until [ "$(google compute instances describe "$machine" --zone="$zone" --format='value(status)')" = TERMINATED ]; do sleep 5; done
google compute images create "$image" --source-disk="$machine" --source-disk-zone="$zone"
