"""The commands that use what is finished: ``predict``, ``encode``, ``onnx`` and ``promote``."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aepretrain.cli.options import store_option
from aepretrain.cli.shared import adopted_run_id, open_store, say_where
from aepretrain.config import Execution
from aepretrain.errors import UsageError
from aepretrain.files import is_replaceable

if TYPE_CHECKING:
    from aepretrain import tracking
    from aepretrain.records import Record

SHOWN = 3
"""How many classes of each picture are told."""

Command = Callable[..., Any]


def _model_options(command: Command) -> Command:
    """Which training serves."""
    run = click.option(
        "--run",
        "run_id",
        metavar="ID",
        help="The run whose network it is.  [default: the store's classifier with the lowest validation loss]",
    )
    dataset = click.option("--dataset", help="Choose among classifiers of this dataset.  [default: the only one]")
    plugins = click.option(
        "--plugin",
        "plugins",
        multiple=True,
        metavar="MODULE",
        help="Module to import first, which registers networks; may be repeated.",
    )
    return run(dataset(plugins(store_option(command))))


def _open(options: dict[str, Any], run_id: str | None = None) -> "tracking.Store":
    from aepretrain import runner

    runner.load_plugins(Execution(plugins=options["plugins"]))
    return open_store(options, run_id)


def _say_model(record: "Record") -> None:
    click.echo(
        f"{record.spec.name} on {record.spec.settings.dataset}, run {record.run_id}, "
        f"validation loss {record.metrics['best_val_loss']:.4f}"
    )
    if record.spec.settings.dataset != "mnist":
        click.echo(
            f"note: pictures are prepared as MNIST's were, but this network has learned {record.spec.settings.dataset}",
            err=True,
        )


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@_model_options
def predict(images: Sequence[Path], **options: Any) -> None:
    """Say which digits the pictures show: PNG or JPEG, one digit each, of any size, dark on light or light on dark."""
    from rich.console import Console
    from rich.table import Table

    from aepretrain import serving

    images_NHW = serving.read_pictures(images)
    store = _open(options)
    record = serving.choose_classifier(store, options["run_id"], options["dataset"])
    probs_NK = serving.apply(serving.load_classifier(store, record), images_NHW)
    _say_model(record)
    table = Table("picture", "digit", "probability", "else", "")
    for path, probs_K in zip(images, probs_NK, strict=True):
        (digit, share), *others = serving.most_probable(probs_K, SHOWN)
        table.add_row(str(path), str(digit), _percent(share), *(f"{k}  {_percent(one)}" for k, one in others))
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a file has no width to keep to
    console.print(table)


def _percent(share: float) -> str:
    """A probability as it is read; none is shown as certain or impossible."""
    return "> 99.99 %" if share > 0.99995 else "< 0.01 %" if share < 0.00005 else f"{100 * share:.2f} %"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@_model_options
@click.option(
    "--out",
    default="codes.parquet",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Parquet file to write: file names and their codes.",
)
def encode(folder: Path, out: Path, **options: Any) -> None:
    """Write the codes of the pictures in FOLDER (PNG and JPEG) as Parquet: file name and code vector."""
    if not os.path.isdir(folder):
        raise UsageError(f"folder={str(folder)!r} is not a folder")
    _check_target(out)
    from aepretrain import serving

    paths = serving.pictures_in(folder)
    run_id = adopted_run_id()
    store = _open(options, run_id)
    record = serving.choose_encoder(store, options["run_id"], options["dataset"])
    about = {"run_id": record.run_id, "training": record.spec.name, "dataset": record.spec.settings.dataset}
    num_features = serving.write_codes(serving.load_encoder(store, record), paths, out, about)
    _say_model(record)
    told = f"{len(paths)} pictures as codes of {num_features} numbers"
    click.echo(f"{told} written to {out}")
    _log_result(store, run_id, "codes", f"{told}, by run `{record.run_id}`.", out)


@click.command()
@_model_options
@click.option(
    "--out", default="model.onnx", show_default=True, type=click.Path(path_type=Path), help="ONNX file to write."
)
def onnx(out: Path, **options: Any) -> None:
    """Write the classifier as ONNX, when ONNX Runtime has given the same probabilities (needs the extra `onnx`)."""
    _check_target(out)
    from aepretrain import serving

    run_id = adopted_run_id()
    store = _open(options, run_id)
    record = serving.choose_classifier(store, options["run_id"], options["dataset"])
    apart = serving.export_onnx(serving.load_classifier(store, record), out)
    _say_model(record)
    click.echo(f"written to {out}; ONNX Runtime gives the same probabilities to within {apart:.1g}")
    _log_result(store, run_id, "onnx", f"Run `{record.run_id}` as ONNX.", out)


@click.command()
@_model_options
@click.option("--name", help="Name in the model registry.  [default: aepretrain- and the dataset]")
def promote(name: str | None, **options: Any) -> None:
    """Register the classifier in MLflow's model registry as the champion, to be served from there.

    Without --run it is the one with the lowest validation loss: test images choose nothing.
    """
    if name is not None and not re.fullmatch(r"[\w.-]+", name):
        raise UsageError(f"name={name!r} is not allowed: use letters, digits, . _ and -")
    from aepretrain import serving, tracking

    run_id = adopted_run_id()
    store = _open(options, run_id)
    record = serving.choose_classifier(store, options["run_id"], options["dataset"])
    reason = "lowest validation loss" if options["run_id"] is None else "named by a person"
    promotion = serving.promote(store, record, name or f"aepretrain-{record.spec.settings.dataset}", reason)
    _say_model(record)
    was = {None: "", promotion.version: " (as before)"}.get(promotion.before, f" (before: {promotion.before})")
    told = f"version {promotion.version} of {promotion.name} is the {tracking.CHAMPION}{was}"
    click.echo(told)
    click.echo(f"Serve it with: {tracking.serve_hint(store, promotion)}")
    say_where(store)
    _log_result(store, run_id, "promotion", f"{told}: run `{record.run_id}`.")


def _check_target(path: Path) -> None:
    if not is_replaceable(path) or not path.parent.is_dir():
        raise UsageError(f"out={str(path)!r} is not allowed: it must be a file in a folder that is there")


def _log_result(store: "tracking.Store", run_id: str | None, kind: str, note: str, *files: Path) -> None:
    """Put what came out into the run that ``mlflow run`` opened for it, if it did."""
    if run_id is None:
        return
    from aepretrain import tracking

    run = tracking.Run(store, run_id)
    with tracking.ending(run):
        run.tag(kind=kind)
        run.log_files({path.name: path.read_bytes() for path in files})
        run.describe(note)
        run.end("FINISHED")
