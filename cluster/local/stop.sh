#!/usr/bin/env bash
# Stop the Ray processes of this machine.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec .venv/bin/ray stop
