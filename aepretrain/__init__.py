"""Does pretraining an autoencoder help classification? The whole experiment, tracked in MLflow.

From Python, and in a notebook (`examples/quickstart.ipynb`):

```python
from aepretrain import Settings, run_grid

if __name__ == "__main__":  # not needed in a notebook; a script is imported by its worker processes
    results = run_grid(networks=["fc"], settings=Settings(dataset="digits", ae_epochs=5, cls_epochs=5))
    results.figure().savefig("grid.png")
```

| name | what it is |
| --- | --- |
| `run_grid`, `read_results`, `Results` | train a grid or read one back: `aepretrain.api` |
| `Settings`, `Execution` | what is trained, and how: `aepretrain.config` |
| `Failure`, `UsageError` | what goes wrong, in one line: `aepretrain.config` |
| `Network`, `register_network` | a network of one's own: `aepretrain.networks` |
| `Dataset`, `make_dataset`, `register_dataset` | a dataset of one's own: `aepretrain.data` |
| `Augmentation`, `register_augmentation` | an augmentation of one's own: `aepretrain.augment` |
| `Objective`, `register_objective` | an objective of one's own: `aepretrain.objectives` |
| `Variant`, `register_variant` | a variant of one's own: `aepretrain.variants` |

Each is imported when it is first asked for, so that ``import aepretrain`` loads neither PyTorch nor MLflow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aepretrain.api import Results, read_results, run_grid
    from aepretrain.augment import Augmentation
    from aepretrain.augment import register as register_augmentation
    from aepretrain.config import Execution, Settings
    from aepretrain.data import Dataset
    from aepretrain.data import register as register_dataset
    from aepretrain.data import with_digest as make_dataset
    from aepretrain.errors import Failure, UsageError
    from aepretrain.networks import Network
    from aepretrain.networks import register as register_network
    from aepretrain.objectives import Objective
    from aepretrain.objectives import register as register_objective
    from aepretrain.variants import Variant
    from aepretrain.variants import register as register_variant

__version__ = "0.1.0"

__all__ = [
    "Augmentation",
    "Dataset",
    "Execution",
    "Failure",
    "Network",
    "Objective",
    "Results",
    "Settings",
    "UsageError",
    "Variant",
    "make_dataset",
    "read_results",
    "register_augmentation",
    "register_dataset",
    "register_network",
    "register_objective",
    "register_variant",
    "run_grid",
]

_HOMES = {
    **dict.fromkeys(("Results", "read_results", "run_grid"), "api"),
    **dict.fromkeys(("Execution", "Settings"), "config"),
    **dict.fromkeys(("Failure", "UsageError"), "errors"),
    **dict.fromkeys(("Augmentation", "register_augmentation"), "augment"),
    **dict.fromkeys(("Dataset", "make_dataset", "register_dataset"), "data"),
    **dict.fromkeys(("Network", "register_network"), "networks"),
    **dict.fromkeys(("Objective", "register_objective"), "objectives"),
    **dict.fromkeys(("Variant", "register_variant"), "variants"),
}


def __getattr__(name: str) -> Any:
    """The value of one of the names above, from the module where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    there = "register" if name.startswith("register_") else {"make_dataset": "with_digest"}.get(name, name)
    return getattr(import_module(f"aepretrain.{_HOMES[name]}"), there)


def __dir__() -> list[str]:
    """The names above, and what every module has."""
    return sorted({*globals(), *__all__})
