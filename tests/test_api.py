"""What ``import aepretrain`` offers: quick, complete, and the same grid as the command line's."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

import aepretrain
from aepretrain import Execution, Settings, UsageError, read_results, run_grid, runner, tracking
from tests.conftest import ROOT
from tests.grids import inline


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


def test_a_grid_is_trained_once_and_read_back(
    uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, which spares a server of workers; a notebook with workers is in tests/integration."""
    monkeypatch.setattr(tracking, "log_model", lambda *_: None)  # exporting takes seconds
    monkeypatch.setattr(runner, "run_grid", partial(runner.run_grid, make_pool=inline))
    settings = Settings(dataset="digits", ae_epochs=1, cls_epochs=1)
    asked = {"networks": ["fc"], "augmentations": ["none"], "settings": settings, "tracking_uri": uri}
    results = run_grid(**asked, execution=Execution(jobs=1), show=False)  # type: ignore[arg-type]  # of several types
    assert capsys.readouterr().out == ""
    assert [record.cell[2] for record in results.records] == ["pretrain", "frozen", "finetune", "scratch"]
    assert results.failures == {}
    again = run_grid(**asked, execution=Execution(jobs=1))  # type: ignore[arg-type]  # likewise
    assert [record.run_id for record in again.records] == [record.run_id for record in results.records]
    assert "[4/4] fc-none-scratch-s0 reused" in capsys.readouterr().out
    read = read_results(uri, dataset="digits")
    assert repr(read) == str(results) == results._repr_markdown_()
    assert uri not in repr(read), "a notebook keeps what is shown, and an address may hold a password"
    assert "| 1 | fc, none | 0." in str(read)
    assert len(results.figure().axes) == 2


def test_what_cannot_be_asked_for_is_refused_before_there_is_a_store(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/new.db"
    with pytest.raises(UsageError, match="network='lenet' is not known"):
        run_grid(networks=["lenet"], tracking_uri=uri)
    with pytest.raises(UsageError, match="variant='distil' is not allowed"):
        run_grid(variants=["distil"], tracking_uri=uri)
    with pytest.raises(UsageError, match="augmentation='flip' is not known"):
        run_grid(augmentations=["flip"], tracking_uri=uri)
    with pytest.raises(UsageError, match="dataset='imagenet' is not known"):
        run_grid(settings=Settings(dataset="imagenet"), tracking_uri=uri)
    with pytest.raises(UsageError, match="epochs, rate: no such setting"):
        read_results(uri, rate=0.1, epochs=5)
    with pytest.raises(UsageError, match="nothing to train"):
        run_grid(seeds=[], tracking_uri=uri)
    assert not list(tmp_path.iterdir())


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
