"""What ``import aepretrain`` offers: quick and complete; every call with small trainings, in this process."""

import math
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

import aepretrain
from aepretrain import (
    Execution,
    Failure,
    Results,
    Settings,
    UsageError,
    compare,
    data,
    encode,
    export,
    import_,
    load_results,
    make_report,
    predict,
    run_grid,
    run_study,
    runner,
    sync,
    tracking,
    train,
)
from aepretrain.api import where
from aepretrain.api.stores import open_store
from aepretrain.data import Dataset
from aepretrain.records import EPOCH_METRICS
from tests.conftest import ROOT, Once
from tests.grids import inline

SETTINGS = Settings(dataset="digits", ae_epochs=1, cls_epochs=2)


def test_importing_it_imports_nothing_slow() -> None:
    code = (
        "import sys, aepretrain; from aepretrain import Settings; "
        "print(sorted({'torch', 'mlflow', 'numpy', 'rich', 'sklearn', 'click'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_networks_and_engine_need_no_mlflow() -> None:
    code = "import sys, aepretrain.engine; from aepretrain import Network, Dataset, Augmentation, Variant; "
    code += "print('mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_name_is_there_and_described() -> None:
    for name in aepretrain.__all__:
        assert getattr(aepretrain, name).__doc__, name
        assert f"`{name}`" in str(aepretrain.__doc__), name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        aepretrain.nothing  # noqa: B018  # asked for on purpose


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker processes and no MLflow models, which take seconds; tests/integration has a notebook with workers."""
    monkeypatch.setattr(tracking, "log_model", lambda *_: None)
    monkeypatch.setattr("aepretrain.runner.grid.log_model", lambda *_: None)
    monkeypatch.setattr(runner, "local_pool", inline)


def train_grid(uri: str, *, show: bool = False) -> Results:
    return run_grid(networks=["fc"], augmentations=["none"], settings=SETTINGS, tracking_uri=uri, show=show)


@pytest.fixture
def finished(once: Once, template: Path, tmp_path: Path) -> str:
    """The URI of a store of the test's own with a grid of one experiment and one seed."""

    def write(folder: Path) -> None:
        folder.mkdir()
        (folder / "mlflow.db").write_bytes(template.read_bytes())
        train_grid(f"sqlite:///{folder}/mlflow.db")

    made = once("finished", write)
    with (
        closing(sqlite3.connect(made / "mlflow.db")) as source,
        closing(sqlite3.connect(tmp_path / "finished.db")) as copy,
    ):
        source.backup(copy)
    shutil.copytree(made / "mlartifacts", tmp_path / "mlartifacts")
    return f"sqlite:///{tmp_path}/finished.db"


def test_a_grid_is_trained_once_and_read_back(uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = train_grid(uri)
    assert capsys.readouterr() == ("", "")
    assert [record.cell[2] for record in results.records] == ["pretrain", "frozen", "finetune", "scratch"]
    assert results.failures == {}
    assert results.written == ()
    again = train_grid(uri, show=True)
    assert [record.run_id for record in again.records] == [record.run_id for record in results.records]
    shown = capsys.readouterr().out
    assert shown.startswith(where(uri))
    assert "[4/4] fc-none-scratch-s0 reused" in shown
    read = compare(tracking_uri=uri, out=tmp_path / "out", dataset="digits")
    assert capsys.readouterr() == ("", "")
    assert repr(read) == str(results) == read._repr_markdown_() == (tmp_path / "out/grid.md").read_text()
    assert uri not in repr(read), "a notebook keeps what is shown, and an address may hold a password"
    assert "| 1 | fc, none | 0." in str(read)
    assert set(read.written) == {path.name for path in (tmp_path / "out").iterdir()}
    assert len(results.figure().axes) == 2


def test_a_grid_can_be_compared_with_others_in_mlflow(finished: str) -> None:
    results = compare(tracking_uri=finished)
    store = open_store(finished)
    (parent,) = store.search({"kind": "grid"})
    accuracies = {record.cell[2]: record.metrics.get("test_accuracy", math.nan) for record in results.records}
    expected = {f"mean_accuracy/fc-none-{name}": accuracies[name] for name in ("frozen", "finetune", "scratch")}
    for name in ("frozen", "finetune"):
        expected[f"difference_from_scratch/fc-none-{name}"] = accuracies[name] - accuracies["scratch"]
    assert parent.data.metrics == pytest.approx(expected)


def test_an_import_describes_the_experiment_as_a_list(finished: str, tmp_path: Path) -> None:
    export(tmp_path / "bundle", tracking_uri=finished)
    uri = f"sqlite:///{tmp_path}/imported.db"
    assert import_(tmp_path / "bundle", tracking_uri=uri, show=False).num_new == 4
    store = open_store(uri)

    def note() -> str:
        return store.client.get_experiment(store.experiment_id).tags["mlflow.note.content"]

    lines = note().splitlines()
    assert lines[0].startswith("**Test accuracy on scikit-learn's 1,797 digits")
    assert re.fullmatch(r"- fc, none: frozen 0\.\d{4}, finetune 0\.\d{4}, scratch 0\.\d{4}", lines[2])
    assert lines[-1] == "These are all finished trainings after an import."
    store.client.set_experiment_tag(store.experiment_id, "mlflow.note.content", "mine")
    import_(tmp_path / "bundle", tracking_uri=uri, show=False)
    assert note() == "mine"


def test_a_grid_inside_a_run_of_the_callers_leaves_it_alone(
    uri: str, tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "theirs.db"
    theirs.write_bytes(template.read_bytes())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{theirs}")
    with mlflow.start_run() as run:
        results = train_grid(uri)
        mlflow.log_metric("own", 0.5)
        assert mlflow.get_tracking_uri() == f"sqlite:///{theirs}"
    found = mlflow.get_run(run.info.run_id)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"own": 0.5})
    assert len(mlflow.search_runs(search_all_experiments=True, output_format="list")) == 1, "nothing else is in theirs"
    assert len(compare(tracking_uri=uri).records) == len(results.records) == 4


def test_results_are_data_frames(finished: str) -> None:
    results = compare(tracking_uri=finished)
    frame = results.frame().set_index("variant")
    assert list(frame.index) == [record.cell[2] for record in results.records]
    assert list(frame["test_accuracy"].dropna()) == [
        record.metrics["test_accuracy"] for record in results.records if record.cell[2] != "pretrain"
    ]
    assert frame.loc["scratch", "cls_epochs"] == 2
    assert pd.isna(frame.loc["scratch", "ae_epochs"])
    epochs = results.histories().set_index(["variant", "epoch"])
    expected = {
        ("pretrain", 1),
        *((variant, epoch) for variant in ("frozen", "finetune", "scratch") for epoch in (1, 2)),
    }
    assert set(epochs.index) == expected
    assert len(epochs) == len(expected)
    assert set(epochs.columns) == {"key", "run_id", "network", "augmentation", "seed", *EPOCH_METRICS}
    for record in results.records:
        of_run = epochs[epochs["key"] == record.key]
        assert of_run["val_loss"].min() == record.metrics["best_val_loss"]
    assert set(epochs.index[epochs["val_accuracy"].isna()]) == {("pretrain", 1)}


def test_results_are_files_of_trainings_or_of_epochs(finished: str, tmp_path: Path) -> None:
    csv, parquet, json = (tmp_path / f"all.{name}" for name in ("csv", "parquet", "json"))
    found = load_results(tracking_uri=finished, csv=csv, parquet=parquet, json=json)
    assert found.written == (str(csv), str(parquet), str(json))
    read = [pd.read_csv(csv), pd.read_parquet(parquet), pd.read_json(json)]
    assert [one["run_id"].tolist() for one in read] == [[one.run_id for one in found.records]] * 3
    load_results(tracking_uri=finished, csv=tmp_path / "epochs.csv", per_epoch=True, cls_epochs=2)
    epochs = pd.read_csv(tmp_path / "epochs.csv")
    assert epochs.groupby("variant")["epoch"].max().to_dict() == {
        "finetune": 2,
        "frozen": 2,
        "pretrain": 1,  # has no classifier: the setting does not apply to it
        "scratch": 2,
    }
    with pytest.raises(UsageError, match=r"nowhere/all\.csv"):
        load_results(tracking_uri=finished, csv=tmp_path / "nowhere" / "all.csv")


def test_the_recipes_of_the_documentation_give_what_they_say(finished: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", finished)
    section = (ROOT / "docs" / "results.md").read_text().partition("## Trainings as a data frame")[2]
    recipes = section.partition("```python\n")[2].partition("```")[0].replace("mnist", "digits")
    found: dict[str, Any] = {}
    exec(recipes, found)  # noqa: S102
    accuracies = {one.cell[2]: one.metrics.get("test_accuracy", 0.0) for one in compare(tracking_uri=finished).records}
    assert found["means"].loc["fc", "none", "frozen"].to_dict()["mean"] == accuracies["frozen"]
    assert found["gains"].tolist() == [accuracies["finetune"] - accuracies["scratch"]]
    assert len(found["best"]) == len(accuracies)


def test_no_trainings_are_empty_frames(uri: str) -> None:
    results = compare(tracking_uri=uri)
    assert len(results.frame()) == len(results.histories()) == 0
    assert "epoch" in results.histories()
    assert str(results).startswith("0 trainings without a table: there is no finished classifier")
    with pytest.raises(Failure, match="no finished classifier"):
        compare(tracking_uri=uri, out="results")


def test_a_report_is_made_of_results_a_store_and_a_bundle(
    finished: str, uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_report(tracking_uri=finished, out=tmp_path / "page")
    assert "no verdict" in repr(made)
    assert (tmp_path / "page/report.html").read_bytes() == made.files["report.html"]
    assert made._repr_markdown_() == made.files["answer.md"].decode()
    results = compare(tracking_uri=finished)
    assert results.report().files["report.md"] == made.files["report.md"]
    export(tmp_path / "bundle", tracking_uri=finished)
    of_bundle = make_report(bundle=tmp_path / "bundle")
    assert of_bundle.files["answer.md"] == results.report().files["answer.md"]
    with pytest.raises(UsageError, match=r"^bundle and tracking_uri are both given: .* from one"):
        make_report(bundle=tmp_path / "bundle", tracking_uri=finished)
    imported = import_(tmp_path / "bundle", tracking_uri=uri)
    assert imported == (4, 4)
    assert import_(tmp_path / "bundle", tracking_uri=uri) == (0, 4)
    assert str(compare(tracking_uri=uri)) == str(results)
    assert capsys.readouterr() == ("", "")


def test_a_report_whose_grids_run_is_deleted_or_purged_is_made_and_goes_to_another(finished: str) -> None:
    store = tracking.open_store(finished)
    (grid,) = store.search({"kind": "grid"})
    database = Path(finished.removeprefix("sqlite:///"))
    expected = repr(make_report(tracking_uri=finished))

    store.client.delete_run(grid.info.run_id)
    other = store.client.create_run(store.experiment_id).info.run_id
    scratch = next(one for one in store.records().values() if one.cell[2] == "scratch")
    store.client.set_tag(scratch.run_id, "mlflow.parentRunId", other)
    assert repr(make_report(tracking_uri=finished)) == expected
    assert "results/report.html" in {one.path for one in store.client.list_artifacts(other, "results")}

    store.client.delete_run(other)
    with closing(sqlite3.connect(database)) as connection, connection:
        for table in ("tags", "params", "metrics", "latest_metrics", "runs"):
            connection.execute(f"DELETE FROM {table} WHERE run_uuid = ?", (grid.info.run_id,))  # noqa: S608
    assert repr(make_report(tracking_uri=finished)) == expected


def test_one_training(finished: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"network": "fc", "settings": SETTINGS, "tracking_uri": finished, "show": False}
    assert train("frozen", **options).reused  # type: ignore[arg-type]  # of several types
    trained = train("scratch", seed=1, **options)  # type: ignore[arg-type]  # likewise
    assert not trained.reused
    assert trained.record.seed == 1
    assert trained.record.run_id in set(compare(tracking_uri=finished).frame()["run_id"])
    assert capsys.readouterr() == ("", "")


def test_a_study_is_trained_and_read(finished: str, capsys: pytest.CaptureFixture[str]) -> None:
    study = partial(
        run_study, networks=["fc"], augmentations=["none"], seeds=[0], settings=SETTINGS, tracking_uri=finished
    )
    results = study("controls", show=False)
    assert capsys.readouterr() == ("", "")
    variants = [record.cell[2] for record in results.records]
    assert variants == ["pretrain", "frozen", "finetune", "scratch", "random", "pixels", "pca", "scratch"]
    assert [record.study for record in results.records] == [None] * 4 + ["controls"] * 4
    assert str(results) == str(compare(tracking_uri=finished)), "the table is the grid's"
    study("similarity")
    assert "study similarity: nothing to train" in capsys.readouterr().out


def test_a_network_is_used(finished: str, digits: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    paths = [tmp_path / f"{place}.png" for place in range(3)]
    for path, image_HW in zip(paths, digits.test_images_NCHW[:, 0].numpy(), strict=False):
        Image.fromarray(image_HW).save(path)
    finetuned = compare(tracking_uri=finished).frame().set_index("variant").loc["finetune", "run_id"]
    predictions = predict(paths, run=finetuned, tracking_uri=finished)
    assert predictions.record.run_id == finetuned
    assert predictions.images == tuple(paths)
    assert predictions.classes == [ranked[0][0] for ranked in predictions.most_probable(2)]
    assert predictions.probs_NK.sum(1) == pytest.approx([1, 1, 1])
    codes = encode(paths, run=finetuned, tracking_uri=finished)
    assert codes.codes_ND.shape == (3, 128)
    from_folder = encode(tmp_path, run=finetuned, tracking_uri=finished, out=tmp_path / "codes.parquet")
    assert np.array_equal(from_folder.codes_ND, codes.codes_ND)
    assert pd.read_parquet(tmp_path / "codes.parquet")["file"].to_list() == [path.name for path in paths]
    assert capsys.readouterr() == ("", "")
    with pytest.raises(UsageError, match="images is empty"):
        predict([], tracking_uri=finished)


@pytest.mark.usefixtures("own_registries")
def test_the_environment_names_folder_store_and_experiment_and_an_argument_wins(
    uri: str, tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[str | None] = []

    def load(data_dir: str | None) -> Dataset:
        folders.append(data_dir)
        parts = digits.images_NCHW, digits.labels_N, digits.test_images_NCHW, digits.test_labels_N
        return data.with_digest("mine", "made up", *parts)

    data.register("mine", load)
    (tmp_path / "argument").mkdir()
    monkeypatch.setenv("AEPRETRAIN_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    settings = Settings(dataset="mine", cls_epochs=1)
    trained = train("scratch", network="fc", settings=settings, show=False)
    train("scratch", network="fc", settings=settings, show=False, execution=Execution(data_dir=f"{tmp_path}/argument"))
    assert folders == [str(tmp_path), f"{tmp_path}/argument"]
    assert [record.run_id for record in compare().records] == [trained.record.run_id]
    client = tracking.open_store(uri).client
    run = client.get_run(trained.record.run_id)
    assert client.get_experiment(run.info.experiment_id).name == "mine"
    assert sync() == 0
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", run.info.experiment_id)
    assert open_store(None).experiment_id == open_store(uri).experiment_id == run.info.experiment_id
    other = f"sqlite:///{tmp_path}/other.db"
    assert open_store(other).client.get_experiment(open_store(other).experiment_id).name == "aepretrain"
    assert compare(tracking_uri=other).records == ()
    assert where() == where(uri) != where(other)


@pytest.mark.usefixtures("own_registries")
@pytest.mark.parametrize("call", [run_grid, partial(run_study, "controls")])
def test_the_environment_names_the_folder_of_a_grid_and_of_a_study(
    uri: str, monkeypatch: pytest.MonkeyPatch, call: Callable[..., Results]
) -> None:
    def load(data_dir: str | None) -> Dataset:
        raise Failure(f"looked for in {data_dir}")

    data.register("lost", load)
    monkeypatch.setenv("AEPRETRAIN_DATA_DIR", "nowhere")
    with pytest.raises(Failure, match="looked for in nowhere"):
        call(settings=Settings(dataset="lost"), tracking_uri=uri)
    with pytest.raises(Failure, match="looked for in here"):
        call(settings=Settings(dataset="lost"), tracking_uri=uri, execution=Execution(data_dir="here"))


def test_mlflow_is_set_up_before_it_is_imported_and_the_environment_wins() -> None:
    code = """
import os
from aepretrain.api import compare
import mlflow.telemetry.client as telemetry
print(telemetry.get_telemetry_client())
print(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"], os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"])
"""
    environment = {name: value for name, value in os.environ.items() if name not in tracking.ENVIRONMENT}
    environment["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "7"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["None", "7", "1"]


def test_what_cannot_be_asked_for_is_refused_before_there_is_a_store(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/new.db"
    with pytest.raises(UsageError, match="network='lenet' is not known"):
        run_grid(networks=["lenet"], tracking_uri=uri)
    with pytest.raises(UsageError, match="variant='distil' is not known"):
        run_grid(variants=["distil"], tracking_uri=uri)
    with pytest.raises(UsageError, match="augmentation='flip' is not known"):
        run_grid(augmentations=["flip"], tracking_uri=uri)
    with pytest.raises(UsageError, match="dataset='imagenet' is not known"):
        run_grid(settings=Settings(dataset="imagenet"), tracking_uri=uri)
    with pytest.raises(UsageError, match="epochs, rate: no such setting"):
        compare(tracking_uri=uri, rate=0.1, epochs=5)
    with pytest.raises(UsageError, match="nothing to train"):
        run_grid(seeds=[], tracking_uri=uri)
    with pytest.raises(UsageError, match=r"lr=-1\.0 is not allowed"):
        compare(tracking_uri=uri, lr=-1)
    with pytest.raises(UsageError, match="study='depth' is not known: it must be one of controls, labels, "):
        run_study("depth", tracking_uri=uri)
    with pytest.raises(UsageError, match="cluster='nonsense' is not allowed"):
        run_grid(cluster="nonsense", tracking_uri=uri)
    with pytest.raises(UsageError, match="resources='GPU=1' is not allowed without a cluster"):
        run_study("labels", resources={"GPU": 1}, tracking_uri=uri)
    with pytest.raises(UsageError, match="nowhere: there is no such file"):
        make_report(plans=["nowhere"], tracking_uri=uri)
    shipped = ROOT / "plans" / "source-grid.yaml"
    with pytest.raises(UsageError, match=r"lr=0\.1: a report of plans has the settings of the plans"):
        make_report(plans=[shipped], lr=0.1, tracking_uri=uri)
    with pytest.raises(UsageError, match="several have the same name"):
        make_report(plans=[shipped, shipped], tracking_uri=uri)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    for call in (run_grid, compare, make_report):
        with pytest.raises(UsageError, match="is a file: it must be a folder, which may be new"):
            call(out=tmp_path / "file", tracking_uri=uri)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.project
def test_a_script_without_a_guard_ends_and_says_what_it_lacks(tmp_path: Path, uri: str) -> None:
    (tmp_path / "script.py").write_text(
        f"from aepretrain import Settings, run_grid\n"
        f"run_grid(networks=['fc'], settings=Settings(dataset='digits'), tracking_uri={uri!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    assert 'call it under if __name__ == "__main__":' in done.stderr
    assert done.stderr.splitlines()[-1].endswith("worker processes die before they train anything, twice in a row")
    assert {run.info.status for run in tracking.open_store(uri).search({})} == {"FAILED"}
