"""The command line. Each command turns its options into one call of `aepretrain.api` and prints the result.

`aepretrain.api` takes seconds to import: commands import it, so that ``--help`` answers at once.
"""

from aepretrain.cli.program import main, run_program

__all__ = ["main", "run_program"]
