#!/usr/bin/env bash
# Make the pages of the Python API from the docstrings, in a folder (docs/api, which git ignores): docs/api.sh [FOLDER]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PDOC_ALLOW_EXEC=1 .venv/bin/python - "${1:-docs/api}" <<'MAKE'
import pkgutil
import sys
import warnings
from pathlib import Path

import pdoc

import aepretrain

warnings.filterwarnings("error", module="pdoc")  # what it cannot document is an error
for name in aepretrain.__all__:  # imported late, so pdoc would not find them
    setattr(aepretrain, name, getattr(aepretrain, name))
modules = [one.name for one in pkgutil.iter_modules(aepretrain.__path__, "aepretrain.") if not one.name.endswith("__")]
pdoc.pdoc("aepretrain", *modules, output_directory=Path(sys.argv[1]))
MAKE
