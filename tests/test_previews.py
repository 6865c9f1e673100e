"""What `--dry-run` says of a grid and a study, against what is then trained."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from aepretrain import api, data, figures
from aepretrain.config import DataRequest, Execution, Settings, TrainingSpec
from aepretrain.data import mnist
from aepretrain.records import Record
from tests.commands import aepretrain
from tests.grids import inline

CELLS: dict[str, Any] = {"networks": ["fc"], "augmentations": ["none", "erasing"], "seeds": [0, 1]}
DIGITS = Settings(dataset="digits", ae_epochs=2, cls_epochs=1)
CPU = Execution(device="cpu", jobs=2)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings in this process, without pictures and models."""
    monkeypatch.setattr(figures, "training_figures", lambda *_: {})
    monkeypatch.setattr("aepretrain.runner.grid.log_model", lambda *_: None)
    monkeypatch.setattr("aepretrain.runner.grid.draw_errors", lambda *_: None)
    monkeypatch.setattr("aepretrain.runner.local_pool", inline)


def trained(results: api.Results, before: Sequence[Record] = ()) -> Counter[str]:
    """The names of the trainings that a call has added to those before."""
    known = {record.run_id for record in before}
    return Counter(record.spec.name for record in results.records if record.run_id not in known)


def names(specs: Sequence[TrainingSpec]) -> Counter[str]:
    return Counter(spec.name for spec in specs)


def test_a_grid(uri: str) -> None:
    given = {**CELLS, "settings": DIGITS, "execution": CPU, "tracking_uri": uri}
    first = api.run_grid(**(given | {"seeds": [0]}), show=False)
    preview = api.preview_grid(**given)
    cells = [(one.network, one.labels, one.variant, one.num_done, one.num_missing) for one in preview.rows]
    assert cells == [
        ("fc", "", "pretrain", 2, 2),
        ("fc", "all", "frozen", 2, 2),
        ("fc", "all", "finetune", 2, 2),
        ("fc", "all", "scratch", 2, 2),
    ]
    assert preview.jobs == 2
    assert 0 < preview.seconds < sum(one.seconds for one in preview.rows)
    assert preview.summary.startswith("8 trainings are done and 8 are missing. The missing ones take about ")
    assert " in 2 worker processes. They need about 11 MB of disk." in preview.summary
    assert names(preview.missing) == trained(api.run_grid(**given, show=False), first.records)
    assert api.preview_grid(**given).summary == "16 trainings are done and 0 are missing."
    again = Execution(device="cpu", force=True)
    assert len(api.preview_grid(**given | {"execution": again}).missing) == 16


@pytest.mark.parametrize("name", ["robustness", "similarity", "labels"])
def test_a_study_whose_trainings_are_known_before(name: str, uri: str) -> None:
    settings = Settings(dataset="digits", ae_epochs=1, cls_epochs=1, updates=2 if name == "labels" else 0)
    given = CELLS | {"augmentations": ["none"], "settings": settings, "execution": CPU, "tracking_uri": uri}
    preview = api.preview_study(name, **given)
    assert preview.notes == ()
    results = api.run_study(name, **given, show=False)
    assert not results.failures
    assert names(preview.missing) == trained(results)
    assert api.preview_study(name, **given).missing == ()


def test_a_study_that_follows_results(uri: str) -> None:
    given = CELLS | {"settings": DIGITS, "execution": CPU, "tracking_uri": uri}
    preview = api.preview_study("controls", **given)
    assert preview.notes == ("Numbers of epochs in the study controls follow from results that are missing.",)
    kinds = [Counter((one.cell, one.seed) for one in preview.missing)]
    api.run_grid(**given, show=False)
    preview = api.preview_study("controls", **given)
    assert preview.notes == ()
    results = api.run_study("controls", **given, show=False)
    kinds.append(Counter((record.cell, record.seed) for record in results.records))
    assert kinds[0] == kinds[1]
    of_study = [record for record in results.records if record.study]
    assert names(preview.missing) == Counter(record.spec.name for record in of_study)


def test_nothing_is_written_or_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "_loaded", {})
    monkeypatch.setattr(mnist.KINDS["mnist"], "mirrors", ["https://nowhere.invalid/"])
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("it downloads"))
    given: dict[str, Any] = {"execution": Execution(data_dir=str(tmp_path / "data")), "seeds": [0]}
    uri = f"sqlite:///{tmp_path}/new.db"
    assert len(api.preview_grid(**given, tracking_uri=uri).missing) == 16
    preview = api.preview_study("labels", **given, tracking_uri=uri)
    assert len(preview.missing) == 4 + 2 * (2 * 8 * 4)
    assert preview.notes == ("Numbers of labels may be too large for mnist: its images were not read.",)
    assert "is unknown, as no training like them is finished. They need about" in preview.summary
    assert list(tmp_path.iterdir()) == []
    assert data.find(DataRequest("mnist"), str(tmp_path)) is None


def test_the_commands_write_nothing(tmp_path: Path) -> None:
    for given in (["grid"], ["study", "all"]):
        done = aepretrain(*given, "--dry-run", "--dataset", "digits", "--network", "fc", "--jobs", "2", folder=tmp_path)
        assert (done.code, done.err) == (0, "")
        assert "0 trainings are done and " in done.out
        assert list(tmp_path.iterdir()) == []
