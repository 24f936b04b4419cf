#!/usr/bin/env bash
# Make the token of a cluster, readable by its owner only, if it is not there: cluster/token.sh [FILE]
set -euo pipefail

token=${1:-${RAY_AUTH_TOKEN_PATH:-$HOME/.config/satdet/ray-token}}
[ -s "$token" ] && exit 0
umask 077
mkdir -p "$(dirname "$token")"
partial=$(mktemp "$token.XXXXXX")
od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$partial"
mv "$partial" "$token"
