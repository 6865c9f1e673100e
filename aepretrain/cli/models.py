"""The commands that use a finished network: ``predict``, ``encode``, ``onnx`` and ``promote``."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aepretrain.cli.command import Command
from aepretrain.cli.options import plugin_option, store_option
from aepretrain.cli.printing import adopted_run_id, echo, print_table

if TYPE_CHECKING:
    from aepretrain.records import Record

SHOWN = 3
"""How many classes of each picture are printed."""


def _model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which training's network is used."""
    run = click.option(
        "--run",
        metavar="ID",
        help="Use the network of this run.  [default: the classifier with the lowest validation loss]",
    )
    dataset = click.option("--dataset", help="Choose among classifiers of this dataset.  [default: the only one]")
    return run(dataset(plugin_option(store_option(command))))


_bundle_option = click.option(
    "--bundle",
    type=click.Path(path_type=Path, file_okay=False),
    help="Take the network from this bundle (see `export`) instead of a store.",
)


def _print_model(record: "Record") -> None:
    dataset = record.identity["dataset"]
    loss = f"validation loss {record.metrics['best_val_loss']:.4f}"
    echo(f"{record.spec.name} on {dataset}, run {record.run_id}, {loss}")
    if dataset != "mnist" and record.is_like_mnist:
        note = f"note: pictures are prepared like MNIST's, but this network was trained on {dataset}"
        echo(note, err=True)


@click.command(cls=Command)
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@_model_options
@_bundle_option
def predict(images: tuple[Path, ...], **options: Any) -> None:
    """Predict the class of each picture, of any size.

    For networks trained on MNIST: one digit, dark on light or light on dark.
    """
    from aepretrain import api

    predictions = api.predict(images, **options)
    _print_model(predictions.record)
    names, noun = predictions.class_names, "digit" if predictions.are_digits else "class"
    rows: list[Sequence[str]] = [("picture", noun, "probability", *["else", ""][: len(names) - 1])]
    for path, ((first, prob), *others) in zip(images, predictions.most_probable(SHOWN), strict=True):
        further = (f"{names[k]}  {_percent(other)}" for k, other in others)
        rows.append((str(path), names[first], _percent(prob), *further))
    print_table(rows)
    for path, doubts in zip(images, predictions.doubts, strict=True):
        if doubts:
            echo(f"note: {path} is unlike MNIST's images, so its digit may be wrong: {'; '.join(doubts)}", err=True)


def _percent(prob: float) -> str:
    """A probability in percent; none is printed as 0 or 100 %."""
    return "> 99.99 %" if prob > 0.99995 else "< 0.01 %" if prob < 0.00005 else f"{100 * prob:.2f} %"


@click.command(cls=Command)
@click.argument("folder", type=click.Path(path_type=Path))
@_model_options
@_bundle_option
@click.option(
    "--out",
    default="codes.parquet",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Parquet file to write: file names and their codes.",
)
def encode(folder: Path, out: Path, **options: Any) -> None:
    """Write the codes of the pictures in FOLDER as Parquet.

    Its columns are the file name and the code.
    """
    from aepretrain import api

    codes = api.encode(folder, out=out, run_id=adopted_run_id(), **options)
    _print_model(codes.record)
    num, num_features = codes.codes_ND.shape
    echo(f"{num} pictures as codes of {num_features} numbers written to {out}")


@click.command(cls=Command)
@_model_options
@_bundle_option
@click.option(
    "--out", default="model.onnx", show_default=True, type=click.Path(path_type=Path), help="ONNX file to write."
)
def onnx(out: Path, **options: Any) -> None:
    """Write a classifier as ONNX, and check it.

    It is checked with ONNX Runtime, which needs the extra `onnx`.
    """
    from aepretrain import api

    exported = api.export_onnx(out, run_id=adopted_run_id(), **options)
    _print_model(exported.record)
    echo(f"written to {out}; ONNX Runtime gives the same probabilities to within {exported.max_difference:.1g}")


@click.command(cls=Command)
@_model_options
@click.option("--name", help="Name in the model registry.  [default: aepretrain- and the dataset]")
def promote(**options: Any) -> None:
    """Register a classifier in MLflow's model registry.

    It becomes the champion, which MLflow can serve. Without --run it is the classifier with the lowest validation loss.
    Test images are never used to choose.
    """
    from aepretrain import api

    promotion = api.promote(run_id=adopted_run_id(), **options)
    _print_model(promotion.record)
    before = {None: "", promotion.version: " (as before)"}.get(promotion.before, f" (before: {promotion.before})")
    echo(f"version {promotion.version} of {promotion.name} is the champion{before}")
    echo(f"Serve it with: {promotion.serve_command}")
    echo(api.where(promotion.store_uri))
