"""Somebody who has cloned the repository into an empty folder, with nothing beside it and no variable set."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

LONGEST_S = 1200

NOT_A_USERS = ("AEPRETRAIN_", "MLFLOW_", "PYTEST_", "PYTHON", "VIRTUAL_ENV", "COLUMNS", "FORCE_COLOR")
"""Beginnings of the names of variables that the tests or their machine may have set."""


@dataclass
class Reader:
    """Somebody who has cloned the repository into a folder, and types what the README says into one shell."""

    clone: Path
    activated: bool = False

    def run(self, command: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command, in the clone unless another folder is given."""
        return subprocess.run(
            self.shell(command),
            cwd=folder or self.clone,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    def shell(self, command: str) -> list[str]:
        """The command in bash, where the environment is active if an earlier command has activated it.

        If it takes too long, it is ended together with all that it has started.
        """
        self.activated |= command == "source .venv/bin/activate"
        activate = f"source '{self.clone}/.venv/bin/activate'\n" if self.activated else ""
        return ["timeout", str(LONGEST_S), "bash", "-ec", activate + command]


def environment() -> dict[str, str]:
    """The variables of somebody who has set none for this project and has not activated its environment."""
    found = {name: value for name, value in os.environ.items() if not name.startswith(NOT_A_USERS)}
    found["PATH"] = os.pathsep.join(one for one in found["PATH"].split(os.pathsep) if not one.startswith(sys.prefix))
    return found
