"""The command line: options and environment → spec → one call → a printed summary.

Whatever takes seconds to import (PyTorch, MLflow) is imported inside the commands, so that ``--help`` answers at once.
"""

from aepretrain.cli.program import main

__all__ = ["main"]
