"""Networks, datasets, augmentations and variants of a user's own: the examples run, wrong ones are told in a line."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aepretrain import data, tracking
from aepretrain.config import DataRequest
from aepretrain.data import Dataset
from tests.commands import Done, aepretrain
from tests.conftest import MNIST_DIR, ROOT, needs_mnist
from tests.integration.conftest import aepretrain_anew

pytestmark = pytest.mark.integration


Run = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path, uri: str) -> Run:
    """The command in a folder with an empty store, where a user's modules may lie."""

    def run(*arguments: str) -> Done:
        return aepretrain(*arguments, folder=tmp_path, MLFLOW_TRACKING_URI=uri)

    return run


QUICK = ("--dataset", "digits", "--epochs", "1", "--network", "fc")


@needs_mnist
def test_a_residual_encoder_on_mnist(run: Run, tmp_path: Path) -> None:
    assert len((ROOT / "examples/residual.py").read_text().splitlines()) < 60
    mnist = data.load(DataRequest("mnist"), str(MNIST_DIR))
    some = np.arange(0, len(mnist.images_NCHW), 3)
    np.savez(tmp_path / "third.npz", images=mnist.images_NCHW[some].numpy(), labels=mnist.labels_N[some].numpy())
    done = run(
        *("grid", "--plugin", "examples.residual", "--network", "residual", "--augmentation", "none"),
        *("--dataset", "npz:third.npz", "--epochs", "1", "--jobs", "2"),
    )
    assert done.code == 0, done.err
    frozen, finetune, scratch = map(float, re.findall(r"(0\.\d{4}) /", done.out.partition("residual, none")[2])[:3])
    assert frozen > 0.7
    assert finetune > 0.85
    assert scratch > 0.85


def test_an_objective_without_a_decoder_beside_the_built_in_ones(run: Run, uri: str) -> None:
    done = run(
        *("grid", *QUICK, "--plugin", "examples.contrastive", "--augmentation", "none", "--jobs", "2"),
        *("--objective", "reconstruct,contrastive,pixel-mask"),
    )
    assert done.code == 0, done.err
    rows = re.findall(r"fc, none(?:, ([\w-]+))?", done.out)
    assert rows == ["", "contrastive", "pixel-mask"], done.out
    names = sorted(record.spec.name for record in tracking.open_store(uri).records().values())
    of_each = ("frozen", "finetune", "pretrain")
    assert names == sorted(
        ["fc-none-scratch-s0", *(f"fc-none-{one}-s0" for one in of_each)]
        + [f"fc-none-{one}-{objective}-s0" for one in of_each for objective in ("contrastive", "pixel-mask")]
    )


def test_an_augmentation_a_dataset_and_a_variant_in_one_grid(
    run: Run, uri: str, tmp_path: Path, digits: Dataset
) -> None:
    np.savez(tmp_path / "images.npz", images=digits.images_NCHW.numpy(), labels=digits.labels_N.numpy())
    plugins = [text for name in ("shifting", "archive", "last_layer") for text in ("--plugin", f"examples.{name}")]
    grid = (
        *("grid", *plugins, "--dataset", "archive", "--data-dir", ".", "--variant", "last_layer"),
        *("--network", "fc", "--augmentation", "none,shifting", "--epochs", "6", "--jobs", "2"),
    )
    done = run(*grid)
    assert done.code == 0, done.err
    rows = [
        re.findall(r"(0\.\d{4}) /", line) for line in done.out.splitlines() if re.search("fc, (none|shifting)", line)
    ]
    assert list(map(len, rows)) == [4, 4]
    frozen, finetune, _, last_layer = map(float, rows[0])
    assert frozen < last_layer < finetune, "what learns more of the encoder fits these digits better"
    reported = run("report")  # without the plugins
    assert reported.code == 0, reported.err
    assert "last_layer" in (tmp_path / "results/report.md").read_text()
    store, other = tracking.open_store(uri), tracking.open_store(f"sqlite:///{tmp_path}/other.db")
    tracking.export(store, list(store.records().values()), set(), tmp_path / "bundle")
    assert tracking.restore(other, tracking.read_bundle(tmp_path / "bundle")) == 10
    assert other.records().keys() == store.records().keys()


def test_the_source_of_a_plugin_is_part_of_the_keys_that_use_it(run: Run, tmp_path: Path) -> None:
    own, other = tmp_path / "own.py", tmp_path / "other.py"
    shutil.copy(ROOT / "examples/shifting.py", own)
    shutil.copy(ROOT / "examples/residual.py", other)
    command = ("pretrain", "--plugin", "own", "--plugin", "other", *QUICK, "--augmentation", "shifting")
    assert "fc-shifting-pretrain-s0 finished" in run(*command).out
    other.write_text(other.read_text() + "\n# changed\n")
    assert "fc-shifting-pretrain-s0 is done already" in run(*command).out, "it does not use that"
    own.write_text(own.read_text() + "\n# changed\n")
    assert "fc-shifting-pretrain-s0 finished" in run(*command).out


def test_an_installed_package_is_loaded_by_its_entry_point(uri: str, tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "lenses-1.0.dist-info").mkdir(parents=True)
    (site / "lenses-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: lenses\nVersion: 1.0\n")
    points = site / "lenses-1.0.dist-info/entry_points.txt"
    points.write_text("[aepretrain.plugins]\nshift = lenses\n")
    shutil.copy(ROOT / "examples/shifting.py", site / "lenses.py")
    environment = {"MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(site)}
    done = aepretrain_anew(tmp_path, environment, "pretrain", *QUICK, "--augmentation", "shifting")
    assert done.returncode == 0, done.stderr
    assert "fc-shifting-pretrain-s0 finished" in done.stdout
    points.write_text("[aepretrain.plugins]\nshift = glasses\n")
    broken = aepretrain_anew(tmp_path, environment, "pretrain", *QUICK)
    assert broken.returncode == 2
    assert "plugin 'shift' of the installed package lenses cannot be imported: " in broken.stderr
    assert "No module named 'glasses'" in broken.stderr
    assert len(broken.stderr.splitlines()) == 1


def test_a_wrong_plugin_ends_in_one_line_before_any_run(run: Run, uri: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(
        (ROOT / "examples/residual.py").read_text().replace("nn.Linear(math.prod(maps), ", "nn.Linear(393, ")
    )
    done = run("scratch", "--plugin", "wrong", *QUICK, "--network", "residual")
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert "network 'residual' fails when it is tried: RuntimeError: " in done.err
    assert not list(tracking.open_store(uri).search({}))
