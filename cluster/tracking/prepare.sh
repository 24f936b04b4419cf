#!/usr/bin/env bash
# Make what cluster/tracking/compose.yaml mounts: secrets, each in a file that only you can read, and folders for the data.
# The containers run as you. What is there already is kept.
set -euo pipefail
cd "$(dirname "$0")"

if [ "$(id -u)" = 0 ]; then
    echo "error: the containers run as whoever prepares them, and root they should not be: run this as another user" >&2
    exit 2
fi
umask 077
mkdir -p secrets data/postgres data/s3
printf 'USER_ID=%s\nGROUP_ID=%s\n' "$(id -u)" "$(id -g)" >.env

random() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }
for name in postgres-password admin-password flask-secret; do
    [ -s "secrets/$name" ] || random 24 >"secrets/$name"
done
if [ ! -s secrets/s3-credentials ] || [ ! -s secrets/s3-identities ]; then
    key=$(random 10)
    secret=$(random 24)
    printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$key" "$secret" >secrets/s3-credentials
    printf '{"identities": [{"name": "mlflow", "actions": ["Admin"], "credentials": [%s]}]}\n' \
        "{\"accessKey\": \"$key\", \"secretKey\": \"$secret\"}" >secrets/s3-identities
fi
echo "MLflow's user is admin, its password in $PWD/secrets/admin-password"
