#!/usr/bin/env bash
# Run every check: lint, format, types, tests. Some ten minutes on two cores.
# Arguments go to pytest: ./run_tests.sh -k resume. --chaos runs the chaos tests at full length.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here"
source ./environment.sh
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
if [[ $# -eq 0 ]]; then
    .venv/bin/python -m pytest
    # The short chaos tests run alone, because they would disturb the others. They often wait, so three run at once.
    .venv/bin/python -m pytest -m "chaos and not project" --numprocesses 3 --dist worksteal
elif [[ " $* " == *" --chaos "* ]]; then
    .venv/bin/python -m pytest --numprocesses 0 -rP "$@"
else
    .venv/bin/python -m pytest "$@"
fi
