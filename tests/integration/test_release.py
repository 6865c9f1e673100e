"""A release as people get it: the wheel in an environment of its own, and the pages of the API."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import aepretrain
from tests.conftest import ROOT

UV = Path(sys.executable).parent / "uv"

pytestmark = pytest.mark.integration


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    """What a command prints, which must succeed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(command, cwd=folder, env=clean | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of what git would commit here, built by hatchling."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", folder=ROOT).splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    build = (UV, "build", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", folder)
    run(*build, folder=source, VIRTUAL_ENV=sys.prefix)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A clean environment with the wheel in it, which lies in the checkout of something else.

    Its dependencies are those of this environment, for another copy would take 6 GB.
    """
    folder = tmp_path_factory.mktemp("project")
    run("git", "init", "--quiet", folder=folder)
    run(
        *("git", "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "--quiet", "--allow-empty"),
        *("--message", "other work"),
        folder=folder,
    )
    environment = folder / "environment"
    run(UV, "venv", "--quiet", "--python", sys.executable, environment, folder=folder)
    run(UV, "pip", "install", "--quiet", "--no-deps", "--python", environment / "bin/python", wheel, folder=folder)
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    yield folder
    shutil.rmtree(folder)


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(f"aepretrain-{aepretrain.__version__}.dist-info/METADATA").decode()
    assert {name.split("/")[0] for name in names} == {"aepretrain", f"aepretrain-{aepretrain.__version__}.dist-info"}
    own = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "aepretrain").rglob("*")
        if path.suffix in (".py", ".pyi", ".html")
    }
    assert own | {"aepretrain/py.typed"} == {name for name in names if name.startswith("aepretrain/")}
    assert "Requires-Python: <3.15,>=3.11" in metadata
    assert "License-Expression: MIT" in metadata


def test_the_version_is_told(installed: Path) -> None:
    told = run(installed / "environment/bin/aepretrain", "--version", folder=installed)
    assert told == f"aepretrain, version {aepretrain.__version__}\n"


def test_a_grid_runs_from_the_wheel_outside_any_checkout_of_it(installed: Path) -> None:
    code = "import aepretrain, pathlib; print(pathlib.Path(aepretrain.__file__).parents[4])"
    assert run(installed / "environment/bin/python", "-c", code, folder=installed).strip() == str(
        installed / "environment"
    )
    printed = run(
        installed / "environment/bin/aepretrain",
        *("grid", "--dataset", "digits", "--network", "fc", "--augmentation", "none", "--epochs", "1", "--jobs", "2"),
        folder=installed,
    )
    assert re.search(r"fc, none +│ 0\.\d{4} /", printed)
    assert (installed / "results/grid.json").is_file()
    with closing(sqlite3.connect(installed / "mlflow.db")) as connection:
        tags = dict(connection.execute("SELECT key, value FROM tags WHERE key LIKE '%commit' OR key LIKE '%dirty'"))
        statuses = connection.execute("SELECT status, count(*) FROM runs GROUP BY status").fetchall()
    assert tags == {"aepretrain.commit": "unknown", "aepretrain.dirty": "unknown"}
    assert statuses == [("FINISHED", 5)], "four trainings and their parent"


def test_the_pages_of_the_api_are_made_from_the_docstrings(tmp_path: Path) -> None:
    run(ROOT / "docs/api.sh", tmp_path, folder=ROOT)
    first = (tmp_path / "aepretrain.html").read_text()
    assert all(f'id="{name}"' in first for name in aepretrain.__all__)
    modules = {path.stem for path in (ROOT / "aepretrain").iterdir() if path.suffix == ".py" or path.is_dir()}
    expected = {name for name in modules if not name.startswith("__")}
    assert {path.stem for path in (tmp_path / "aepretrain").glob("*.html")} == expected
