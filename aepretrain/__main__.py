"""``python -m aepretrain``: the same command as ``aepretrain``."""

from aepretrain.cli import run_program

if __name__ == "__main__":  # worker processes import this module too
    run_program()
