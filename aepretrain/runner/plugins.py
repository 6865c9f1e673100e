"""Plugins: users' modules that register networks, datasets, augmentations and variants when they are imported."""

import importlib
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import entry_points

from aepretrain.config import Execution
from aepretrain.errors import Failure, UsageError
from aepretrain.tracking import one_line

GROUP = "aepretrain.plugins"
"""Entry points of this group name modules of installed packages that are imported before every training."""


def load_plugins(execution: Execution) -> None:
    """Import the plugins of installed packages and those named by the command.

    Raises `UsageError` if one cannot be imported or registers something invalid, and `Failure` if it ends the program.
    """
    for point in sorted(entry_points(group=GROUP)):
        package = point.dist.name if point.dist else "an unknown package"
        _load(f"plugin {point.name!r} of the installed package {package}", point.load)
    if execution.plugins and "" not in sys.path:
        sys.path.insert(0, "")
    for name in execution.plugins:
        _load(f"plugin {name!r}", partial(importlib.import_module, name))


def _load(what: str, load: Callable[[], object]) -> None:
    try:
        load()
    except UsageError as error:
        raise UsageError(f"{what}: {error}") from error
    except Exception as error:
        raise UsageError(f"{what} cannot be imported: {one_line(error)}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise Failure(f"{what} ends the program when it is imported: {type(error).__name__}: {error}") from error
