#!/usr/bin/env bash
# Start the Ray of one node of a cluster, locked down as cluster/environment.sh says:
#
#   cluster/node.sh head [ray start's options]
#   cluster/node.sh worker HEAD:PORT [ray start's options]
#
# The token's file (RAY_AUTH_TOKEN_PATH) has to be there, the same on every node; cluster/token.sh makes one.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=cluster/environment.sh
. cluster/environment.sh

if [ -z "${RAY_AUTH_TOKEN:-}" ]; then
    if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
        echo "error: $RAY_AUTH_TOKEN_PATH is missing; make it with cluster/token.sh and copy it to every node" >&2
        exit 2
    fi
    if [ "$(stat -c %a "$RAY_AUTH_TOKEN_PATH")" != 600 ]; then
        echo "error: $RAY_AUTH_TOKEN_PATH can be read by others; chmod 600 it, or make another if others could" >&2
        exit 2
    fi
fi

ray=.venv/bin/ray
case ${1:-} in
    head)
        shift
        exec "$ray" start --head --port "${PORT:-6379}" --include-dashboard=false --disable-usage-stats "$@"
        ;;
    worker)
        head=${2:?worker needs the address of the head, HEAD:PORT}
        shift 2
        exec "$ray" start --address "$head" --disable-usage-stats "$@"
        ;;
    *)
        echo "usage: $0 head|worker HEAD:PORT [ray start's options]" >&2
        exit 2
        ;;
esac
