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

# Ray gives its own agents 15 s to start, which a busy machine or a first import from a shared file system can exceed: what
# ends so early is tried again. A signal ends the node, and is no reason to.
patiently() {
    local attempt status process signalled
    for attempt in 1 2 3 4 5; do
        SECONDS=0
        "$@" &
        process=$!
        trap 'ended=1; kill "$process" 2>/dev/null || true' TERM INT
        while true; do
            signalled=${ended:-}
            status=0
            wait "$process" || status=$?
            [ "$signalled" = "${ended:-}" ] && break
        done
        [ "$status" = 0 ] || [ -n "${ended:-}" ] || [ "$SECONDS" -gt 90 ] && break
        echo "Ray did not start (attempt $attempt of 5)" >&2
    done
    exit "$status"
}

case ${1:-} in
    head)
        shift
        patiently .venv/bin/ray start --head --port "${PORT:-6379}" --include-dashboard=false --disable-usage-stats "$@"
        ;;
    worker)
        head=${2:?worker needs the address of the head, HEAD:PORT}
        shift 2
        patiently .venv/bin/ray start --address "$head" --disable-usage-stats "$@"
        ;;
    *)
        echo "usage: $0 head|worker HEAD:PORT [ray start's options]" >&2
        exit 2
        ;;
esac
