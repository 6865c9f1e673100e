"""A release as people get it: the sdist, and the wheel in an environment of its own."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import yaml

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
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with sdist and wheel of what git would commit here, built by hatchling; the wheel from the sdist."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("release")
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", folder=ROOT).splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    build = (UV, "build", "--no-build-isolation", "--python", sys.executable, "--out-dir", folder)
    run(*build, folder=source, VIRTUAL_ENV=sys.prefix)
    return folder


@pytest.fixture(scope="module")
def wheel(release: Path) -> Path:
    """The wheel."""
    (built,) = release.glob("*.whl")
    return built


def test_the_sdist_is_small_and_holds_what_the_wheel_is_built_from(release: Path) -> None:
    (sdist,) = release.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {name.split("/")[0] for name in names} == {
        *("aepretrain", "examples", "plans", "PKG-INFO", "pyproject.toml", ".gitignore"),
        *("README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"),
    }
    assert sdist.stat().st_size < 1_000_000
    assert "aepretrain/report/page.html" in names


def test_uvx_runs_the_wheel_in_an_environment_of_its_own(wheel: Path, tmp_path: Path) -> None:
    """With the pinned versions, which are the ones at hand."""
    pinned = re.sub(r" *\\\n +--hash=\S+", "", (ROOT / "requirements.txt").read_text())
    (tmp_path / "pinned.txt").write_text(pinned)
    uvx = (UV, "tool", "run", "--quiet", "--python", sys.executable, "--constraints", "pinned.txt", "--from", wheel)
    assert run(*uvx, "aepretrain", "--version", folder=tmp_path) == f"aepretrain, version {aepretrain.__version__}\n"
    printed = run(*uvx, "aepretrain", "grid", "--dataset", "digits", "--dry-run", folder=tmp_path)
    assert "16" in printed, "none of the 16 trainings is done"


def test_what_to_cite_is_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (cited["cff-version"], cited["type"], cited["license"]) == ("1.2.0", "software", "MIT")
    assert cited["version"] == aepretrain.__version__
    assert {"message", "title", "authors"} <= cited.keys()


def test_the_workflow_runs_the_checks_on_the_versions_of_python_that_the_readme_claims() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "checks.yml").read_text())
    job = workflow["jobs"]["checks"]
    versions = job["strategy"]["matrix"]["python"]
    claimed = re.search(r"You need git and Python ([\d., ]+(?:or [\d.]+\d)?)", (ROOT / "README.md").read_text())
    assert claimed is not None
    assert re.findall(r"3\.\d+", claimed[1]) == versions
    assert ".ci/run" in job["steps"][-1]["run"]


def test_the_image_of_the_suite_is_made_of_what_its_context_has() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    context = {line.removeprefix("!") for line in lines if line.startswith("!")}
    text = (ROOT / "Dockerfile").read_text()
    copied = {name for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for name in line.split()}
    assert copied == context
    assert all((ROOT / name).exists() for name in copied)
    assert "aepretrain" in json.loads(text.partition("ENTRYPOINT ")[2].partition("\n")[0])


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
        if path.suffix in (".py", ".pyi", ".html", ".js")
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
