#!/usr/bin/env bash
# Run every check: lint, format, types, tests. Arguments go to pytest: ./run_tests.sh -k resume; --chaos for the long tests of crashes
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here"
source ./environment.sh
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/python -m pytest "$@"
