#!/usr/bin/env bash
# Start a Ray node that asks for a token. The first node is the head; others name it:
#
#   cluster/local/start.sh                          on the head
#   cluster/local/start.sh --head-address IP:6379   on every other node, with the head's token file
#
# --block keeps the node in the foreground: it ends with the script. Settings by environment: NODE_IP (the address by which
# other nodes reach this one; default: Ray's choice), PORT (6379), CPUS, GPUS (default: Ray counts them),
# RAY_AUTH_TOKEN_PATH (default ~/.config/satdet/ray-token, made on the head, readable by its owner only).
#
# Ray listens on all interfaces of the machine; who has not got the token is refused. Keep it off the open internet.
set -euo pipefail
cd "$(dirname "$0")/../.."

export RAY_AUTH_MODE=token
export RAY_USAGE_STATS_ENABLED=0
# The autoscaler's own metrics are served to everybody who asks, on all interfaces. No port, no server.
export AUTOSCALER_METRIC_PORT=${AUTOSCALER_METRIC_PORT:--1}
# A node that does not answer for about 16 s counts as lost, and its trials go on elsewhere; by default that takes Ray
# about a minute. The end of a process is noticed at once in any case.
export RAY_health_check_initial_delay_ms=${RAY_health_check_initial_delay_ms:-1000}
export RAY_health_check_period_ms=${RAY_health_check_period_ms:-1000}
export RAY_health_check_timeout_ms=${RAY_health_check_timeout_ms:-3000}
export RAY_health_check_failure_threshold=${RAY_health_check_failure_threshold:-4}
export RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$HOME/.config/satdet/ray-token}
port=${PORT:-6379}

head_address=
arguments=(--disable-usage-stats)
[ -n "${NODE_IP:-}" ] && arguments+=(--node-ip-address "$NODE_IP")
while [ $# -gt 0 ]; do
    case $1 in
        --head-address) head_address=${2:?--head-address needs IP:PORT}; shift 2 ;;
        --block) arguments+=(--block); shift ;;
        *) echo "usage: $0 [--head-address IP:PORT] [--block]" >&2; exit 2 ;;
    esac
done

if [ -L "$RAY_AUTH_TOKEN_PATH" ]; then
    echo "error: $RAY_AUTH_TOKEN_PATH is a symbolic link; name the token's own file" >&2
    exit 2
fi
if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
    if [ -n "$head_address" ]; then
        echo "error: $RAY_AUTH_TOKEN_PATH is missing; copy it from the head" >&2
        exit 2
    fi
    (umask 077 && mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")" &&
        od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$RAY_AUTH_TOKEN_PATH")
fi
folder=$(dirname "$RAY_AUTH_TOKEN_PATH")
if [ -n "$(find "$RAY_AUTH_TOKEN_PATH" ! -uid "$(id -u)" -o ! -type f -o -perm /077)" ]; then
    echo "error: $RAY_AUTH_TOKEN_PATH is not a file that only you can read; make another one, or chmod 600 it" >&2
    exit 2
fi
if [ -n "$(find "$folder" -maxdepth 0 -perm /022 ! -perm -1000)" ]; then
    echo "error: others can replace what is in $folder; chmod go-w it" >&2
    exit 2
fi

[ -n "${CPUS:-}" ] && arguments+=(--num-cpus "$CPUS")
[ -n "${GPUS:-}" ] && arguments+=(--num-gpus "$GPUS")
if [ -n "$head_address" ]; then
    exec .venv/bin/ray start --address "$head_address" "${arguments[@]}"
fi
echo "search on it with:"
echo "  export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$RAY_AUTH_TOKEN_PATH"
echo "  python -m experiments.run backbone_ablation --address ${NODE_IP:-127.0.0.1}:$port"
exec .venv/bin/ray start --head --port "$port" --include-dashboard=false "${arguments[@]}"
