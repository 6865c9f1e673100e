"""``python -m aepretrain``: the same command as ``aepretrain``."""

from aepretrain.cli import main

if __name__ == "__main__":  # worker processes import this module too
    main()
