#!/usr/bin/env bash
# Train the whole grid and print the 4x3 table: ten minutes on two cores, and some more the first time, when it makes .venv.
# Arguments are passed on: ./run_all.sh --seeds 0-4 --epochs 5
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here"
source ./environment.sh
exec .venv/bin/aepretrain grid --fallback-dataset digits "$@"
