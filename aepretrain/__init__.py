"""Does pretraining an autoencoder help classification? The whole experiment, tracked in MLflow.

From Python, and in a notebook (`examples/quickstart.ipynb`):

```python
from aepretrain import Settings, run_grid

if __name__ == "__main__":  # not needed in a notebook; a script is imported by its worker processes
    results = run_grid(networks=["fc"], settings=Settings(dataset="digits", ae_epochs=5, cls_epochs=5))
    results.figure().savefig("grid.png")
```

| names | what they do | module |
| --- | --- | --- |
| `run_grid`, `run_study`, `run_plan`, `train` | train a grid, a study, a plan, or one training | `aepretrain.api` |
| `preview_grid`, `preview_study`, `preview_plan` | what these would train, with time and disk | `aepretrain.api` |
| `tune`, `tune_plan` | choose learning rate and weight decay of each classifier | `aepretrain.api` |
| `Results`, `compare`, `load_results` | finished trainings as table, data frames, files, figures | `aepretrain.api` |
| `make_report` | the report, as a page | `aepretrain.api` |
| `predict`, `encode`, `export_onnx`, `promote` | use a finished network | `aepretrain.api` |
| `export`, `import_`, `sync` | move finished trainings between stores | `aepretrain.api` |
| `Settings`, `Execution` | what is trained, and how | `aepretrain.config` |
| `Failure`, `UsageError` | the two errors | `aepretrain.errors` |
| `Network`, `register_network` | add a network | `aepretrain.networks` |
| `Dataset`, `make_dataset`, `register_dataset` | add a dataset | `aepretrain.data` |
| `Augmentation`, `register_augmentation` | add an augmentation | `aepretrain.augment` |
| `Objective`, `register_objective` | add an objective of pretraining | `aepretrain.objectives` |
| `Variant`, `register_variant` | add a variant | `aepretrain.variants` |

Each is imported when it is used, so that ``import aepretrain`` loads neither PyTorch nor MLflow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aepretrain.api import (
        Results,
        compare,
        encode,
        export,
        export_onnx,
        import_,
        load_results,
        make_report,
        predict,
        preview_grid,
        preview_plan,
        preview_study,
        promote,
        run_grid,
        run_plan,
        run_study,
        sync,
        train,
        tune,
        tune_plan,
    )
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
    "compare",
    "encode",
    "export",
    "export_onnx",
    "import_",
    "load_results",
    "make_dataset",
    "make_report",
    "predict",
    "preview_grid",
    "preview_plan",
    "preview_study",
    "promote",
    "register_augmentation",
    "register_dataset",
    "register_network",
    "register_objective",
    "register_variant",
    "run_grid",
    "run_plan",
    "run_study",
    "sync",
    "train",
    "tune",
    "tune_plan",
]

_HOMES = {
    **dict.fromkeys(("Execution", "Settings"), "config"),
    **dict.fromkeys(("Failure", "UsageError"), "errors"),
    **dict.fromkeys(("Augmentation", "register_augmentation"), "augment"),
    **dict.fromkeys(("Dataset", "make_dataset", "register_dataset"), "data"),
    **dict.fromkeys(("Network", "register_network"), "networks"),
    **dict.fromkeys(("Objective", "register_objective"), "objectives"),
    **dict.fromkeys(("Variant", "register_variant"), "variants"),
}
"""The modules of the names that are not in `aepretrain.api`."""


def __getattr__(name: str) -> Any:
    """The value of one of the names above, from the module where it lives."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    there = "register" if name.startswith("register_") else {"make_dataset": "with_digest"}.get(name, name)
    return getattr(import_module(f"aepretrain.{_HOMES.get(name, 'api')}"), there)


def __dir__() -> list[str]:
    """The names above, and what every module has."""
    return sorted({*globals(), *__all__})
