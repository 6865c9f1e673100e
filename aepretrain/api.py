"""The same as the command line, to be called from Python: a grid is trained, shown while it is, and read back."""

import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aepretrain.cli.commands import log_grid
from aepretrain.cli.program import ENVIRONMENT
from aepretrain.config import AUGMENTATIONS, NETWORKS, Execution, Settings, grid_specs
from aepretrain.errors import UsageError
from aepretrain.variants import is_in_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from aepretrain import report, tracking
    from aepretrain.records import Record


@dataclass(frozen=True, repr=False)
class Results:
    """Finished trainings, and the table of their classifiers, which is what is shown of it."""

    records: "tuple[Record, ...]"
    failures: dict[str, str]
    """Why trainings failed, by their names."""
    store_uri: str

    @property
    def table(self) -> "report.Grid":
        """Test accuracy and macro-F1 by experiment and variant, over seeds.

        Raises `Failure` where no classifier is finished, and `UsageError` where settings differ.
        """
        from aepretrain import report
        from aepretrain.frame import frame

        return report.build_grid(frame(self.records))

    def figure(self) -> "Figure":
        """Every seed's test accuracy, experiment by experiment; a notebook shows it after ``%matplotlib inline``."""
        from aepretrain import report

        return report.figure(self.table)

    def __repr__(self) -> str:
        from aepretrain import report

        if not any(is_in_table(record.cell[2]) for record in self.records):
            return f"{len(self.records)} trainings, no classifier among them\n"
        missing = "".join(f"\nMissing: {name}: {why}\n" for name, why in self.failures.items())
        return report.markdown(self.table) + missing

    def _repr_markdown_(self) -> str:
        return repr(self)


def run_grid(
    *,
    networks: Sequence[str] = NETWORKS,
    augmentations: Sequence[str] = AUGMENTATIONS,
    variants: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    settings: Settings | None = None,
    execution: Execution | None = None,
    tracking_uri: str | None = None,
    show: bool = True,
) -> Results:
    """Train what is not done yet of a grid, and give all of it, as ``aepretrain grid`` does.

    `variants` are further ones, from plugins (``Execution(plugins=("module",))``). Runs go to `tracking_uri`, else to
    ``MLFLOW_TRACKING_URI``, else to the project's ``mlflow.db`` or one in the current folder. With `show`, bars are
    shown in a terminal and in a notebook, lines elsewhere. A training that fails leaves the others running. Workers
    are processes of their own: a script that calls this needs ``if __name__ == "__main__":``.

    MLflow is told not to send telemetry, unless the environment says otherwise. Raises `UsageError` for what cannot be
    asked for, and `Failure` where data or store cannot be had.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing itself finds out
        raise UsageError(
            'run_grid was called by a worker that imports a script: call it under if __name__ == "__main__":'
        )
    settings, execution = settings or Settings(), execution or Execution()
    _prepare()
    from rich.console import Console

    from aepretrain import runner
    from aepretrain.cli.display import Display

    runner.load_plugins(execution)
    specs = grid_specs(tuple(networks), tuple(augmentations), tuple(seeds), settings, tuple(variants))
    if not specs:
        raise UsageError("there is nothing to train: name at least one network, one augmentation and one seed")
    runner.check(specs, execution)
    store = _open_store(tracking_uri)
    with Display(Console(quiet=not show), specs, runner.num_workers(execution)) as display:
        result = runner.run_grid(specs, store, execution, display.handle, log_grid)
    return Results(result.records, dict(result.failures), store.uri)


def read_results(tracking_uri: str | None = None, **settings: Any) -> Results:
    """What is finished in a store, but for studies, as ``aepretrain compare`` reads it.

    `settings` are fields of `Settings`; where the store holds runs of different ones, they choose. Raises `UsageError`
    for what is no field.
    """
    unknown = settings.keys() - {one.name for one in fields(Settings)}
    if unknown:
        raise UsageError(f"{', '.join(sorted(unknown))}: no such setting")
    _prepare()
    from aepretrain import report
    from aepretrain.frame import frame

    store = _open_store(tracking_uri)
    records = store.records(settings)
    chosen = report.choose(frame(records.values()), settings)
    return Results(tuple(records[key] for key in chosen["key"]), {}, store.uri)


def _prepare() -> None:
    """What MLflow reads when it is imported."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def _open_store(tracking_uri: str | None) -> "tracking.Store":
    from aepretrain import tracking

    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or tracking.default_uri(Path.cwd())
    return tracking.open_store(uri, os.environ.get("MLFLOW_EXPERIMENT_NAME"))
