"""User and commit of a run."""

import getpass
import subprocess
from functools import lru_cache
from pathlib import Path


def user() -> str:
    """The user's name, or ``unknown``."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as containers have
        return "unknown"


@lru_cache(maxsize=1)
def git_state() -> tuple[str, str]:
    """The commit of the code, and whether it was changed since; both ``unknown`` outside git.

    They are also unknown where the package is installed in an environment inside another checkout.
    """
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", Path(__file__).name], capture_output=True, check=True)
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changes = subprocess.run([*git, "status", "--porcelain", "."], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown", "unknown"
    return commit.stdout.strip(), str(bool(changes.stdout.strip())).lower()
