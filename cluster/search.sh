#!/usr/bin/env bash
# Run a declared search unattended, or go on with it where there is one: what a scheduler starts again after a lost node.
#
#   cluster/search.sh NAME|FILE --storage DIR [flags of experiments.run]
#
# It is `python -m experiments.run NAME …`, with --resume if DIR holds a record of that search.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=cluster/environment.sh
. cluster/environment.sh

: "${1:?which search? cluster/search.sh NAME --storage DIR}"
storage=runs
arguments=("$@")
for ((i = 0; i < $#; i++)); do
    case ${arguments[i]} in
        --storage) storage=${arguments[i + 1]:?--storage needs a folder} ;;
        --storage=*) storage=${arguments[i]#--storage=} ;;
        --resume | --fresh) echo "error: ${arguments[i]}: $0 says itself whether to resume" >&2; exit 2 ;;
    esac
done
# A file's search has the name that it declares; what is wrong with a declaration the command says itself.
names='import sys, search_spaces; print(search_spaces.load(sys.argv[1]).name)'
search=$(.venv/bin/python -c "$names" "$1" 2>/dev/null || true)
[ -n "$search" ] && [ -s "$storage/$search/record.jsonl" ] && arguments+=(--resume)
exec .venv/bin/python -m experiments.run "${arguments[@]}"
