#!/usr/bin/env bash
# The MLflow server: who has no password is refused. Secrets come from files in SECRETS (default /run/secrets), none is on
# a command line:
#
#   postgres-password    of the user mlflow of the database
#   s3-credentials       [default] aws_access_key_id, aws_secret_access_key
#   admin-password       of MLflow's user admin, at the first start
#   flask-secret         any long random text: signs the sessions of browsers
#
# ALLOWED_HOSTS is what a request may name as its host, separated by commas. Settings by environment: DATABASE_HOST,
# DATABASE_PORT, MLFLOW_S3_ENDPOINT_URL, BUCKET, LISTEN (0.0.0.0: in a container, which publishes it or not), PORT (5000).
set -euo pipefail

secrets=${SECRETS:-/run/secrets}
read_secret() {
    [ -s "$secrets/$1" ] || { echo "error: the secret $secrets/$1 is missing; see cluster/tracking/README.md" >&2; exit 2; }
    cat "$secrets/$1"
}
: "${ALLOWED_HOSTS:?say by which names the server may be called, like mlflow.example.org,127.0.0.1:5000}"

PGPASSWORD=$(read_secret postgres-password)
MLFLOW_AUTH_ADMIN_PASSWORD=$(read_secret admin-password)
MLFLOW_FLASK_SERVER_SECRET_KEY=$(read_secret flask-secret)
read_secret s3-credentials >/dev/null
export PGPASSWORD MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY
export AWS_SHARED_CREDENTIALS_FILE=$secrets/s3-credentials
export MLFLOW_AUTH_ADMIN_USERNAME=admin

# One database for runs, one for users: MLflow migrates each on its own.
server=postgresql+psycopg2://mlflow@${DATABASE_HOST:-postgres}:${DATABASE_PORT:-5432}
settings=$(mktemp)
cat >"$settings" <<SETTINGS
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = $server/mlflow_auth
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
SETTINGS
export MLFLOW_AUTH_CONFIG_PATH=$settings

# The bucket, where the store lets us make it.
python - "${BUCKET:-mlflow}" <<'PYTHON'
import os
import sys

import boto3
from botocore.exceptions import ClientError

client = boto3.client("s3", endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL"))
try:
    client.head_bucket(Bucket=sys.argv[1])
except ClientError as error:
    if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
        sys.exit(f"error: the bucket {sys.argv[1]} cannot be used: {error}")
    client.create_bucket(Bucket=sys.argv[1])
PYTHON

exec mlflow server --app-name basic-auth --host "${LISTEN:-0.0.0.0}" --port "${PORT:-5000}" \
    --allowed-hosts "$ALLOWED_HOSTS" --backend-store-uri "$server/mlflow" \
    --artifacts-destination "s3://${BUCKET:-mlflow}" --serve-artifacts --workers "${WORKERS:-2}"
