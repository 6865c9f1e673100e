#!/usr/bin/env bash
# Make web pages of the Python API from the docstrings: docs/api.sh [FOLDER]. The default is docs/api, which git ignores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PDOC_ALLOW_EXEC=1 .venv/bin/python - "${1:-docs/api}" <<'MAKE'
import pkgutil
import sys
import warnings
from pathlib import Path

import pdoc

import aepretrain

warnings.filterwarnings("error", module="pdoc")  # anything that pdoc cannot document is an error
for name in aepretrain.__all__:  # these names are imported late; pdoc does not find them by itself
    setattr(aepretrain, name, getattr(aepretrain, name))
modules = [one.name for one in pkgutil.iter_modules(aepretrain.__path__, "aepretrain.") if not one.name.endswith("__")]
pdoc.pdoc("aepretrain", *modules, output_directory=Path(sys.argv[1]))
MAKE
