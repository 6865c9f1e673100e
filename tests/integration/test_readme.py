"""What README.md shows, run in its order in a fresh clone with nothing beside it, and the notebook where it lies.

No variable is set and no path is added but by the README itself. Without MNIST these tests need a machine that cannot
download it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import pytest

from aepretrain import tracking
from tests.conftest import HAS_MNIST, MNIST_DIR, ROOT
from tests.integration.browser import served
from tests.integration.services import free_port

pytestmark = pytest.mark.integration

LONGEST_S = 1200

NOT_A_USERS = ("AEPRETRAIN_", "MLFLOW_", "PYTEST_", "PYTHON", "VIRTUAL_ENV", "COLUMNS", "FORCE_COLOR")
"""Beginnings of the names of variables that the tests or their machine may have set."""

FEW_TESTS = "-k 'other_data or mnists_own_images or frozen_means_frozen' --numprocesses 0"

ADDED = {
    "./run_all.sh": "--epochs 1",
    "./run_tests.sh": FEW_TESTS,
    "source .venv/bin/activate": "",
    "mlflow ui": "--port {port}",
    "aepretrain grid": "--epochs 1",
    "aepretrain study": "--epochs 1 --updates 10 --network fc --augmentation none",
    "aepretrain compare": "",
    "aepretrain report": "",
    "aepretrain export": "",
    "aepretrain import": "",
    "aepretrain predict": "",
    "examples.shapes": "",
}
"""How each command begins that the README may show, and what is added to it, so that it takes a minute at most.

``python -m aepretrain`` counts as ``aepretrain``.
"""


@dataclass
class Step:
    """A command or Python script of the README, and the output that the README shows for it (nothing: any output)."""

    language: str
    text: str
    shown: list[str] = field(default_factory=list)


def steps(readme: str) -> Iterator[Step]:
    """What the README's code blocks ask the reader to run, in order."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL):
        lines = block.replace("\\\n", "").splitlines()
        if language == "python":
            yield Step(language, block)
        elif language == "sh":
            yield from (Step(language, re.sub(r"(^|\s+)#.*", "", line)) for line in lines if line.split("#")[0].strip())
        elif language == "console":
            found: list[Step] = []
            for line in lines:
                if line.startswith("$ "):
                    found.append(Step(language, line.removeprefix("$ ")))
                else:
                    found[-1].shown.append(line)
            yield from found
        else:
            raise AssertionError(f"a block of {language or 'no language'} in README.md: this test cannot run it")


def added_to(command: str) -> str:
    """What this test adds to a command of the README."""
    short = command.removeprefix("python -m ")
    for beginning, added in ADDED.items():
        if short.startswith(beginning):
            return added
    raise AssertionError(f"README.md shows {command!r}: say in ADDED how this test is to run it")


@dataclass
class Reader:
    """Somebody who has cloned the repository into a folder, and types what the README says into one shell."""

    clone: Path
    activated: bool = False

    def run(self, command: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command, in the clone unless another folder is given."""
        return subprocess.run(
            self.shell(command),
            cwd=folder or self.clone,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    def shell(self, command: str) -> list[str]:
        """The command in bash, where the environment is active if an earlier command has activated it.

        If it takes too long, it is ended together with all that it has started.
        """
        self.activated |= command == "source .venv/bin/activate"
        activate = f"source '{self.clone}/.venv/bin/activate'\n" if self.activated else ""
        return ["timeout", str(LONGEST_S), "bash", "-ec", activate + command]


def environment() -> dict[str, str]:
    """The variables of somebody who has set none for this project and has not activated its environment."""
    found = {name: value for name, value in os.environ.items() if not name.startswith(NOT_A_USERS)}
    found["PATH"] = os.pathsep.join(one for one in found["PATH"].split(os.pathsep) if not one.startswith(sys.prefix))
    return found


@pytest.fixture(scope="module")
def cloned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A clone of the last commit. Its environment goes with it at the end, for it has 6 GB."""
    folder = tmp_path_factory.mktemp("newcomer") / "aepretrain"
    assert Reader(folder.parent).run(f"git clone --quiet '{ROOT}' '{folder}'").returncode == 0
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def reader(cloned: Path) -> Reader:
    """A reader with a fresh clone, in which only the environment and the caches of earlier tests are left."""
    found = Reader(cloned)
    assert found.run("git clean -dffxq --exclude .venv --exclude '.*_cache'").returncode == 0
    return found


@pytest.mark.parametrize("has_mnist", [False, True], ids=["without MNIST", "with MNIST in ./data"])
def test_what_the_readme_shows_happens(has_mnist: bool, reader: Reader, tmp_path: Path) -> None:
    if has_mnist:
        if not HAS_MNIST:
            pytest.skip("MNIST's files are not at hand")
        shutil.copytree(MNIST_DIR / "MNIST", reader.clone / "data" / "MNIST")
    asked = list(steps((reader.clone / "README.md").read_text()))
    assert {step.language for step in asked} == {"sh", "console", "python"}
    for step in asked:
        if has_mnist and step.language != "sh":
            continue  # the console and the script need no MNIST and take minutes: they are tried once, without it
        if step.language == "python":
            run_script(reader, step.text, tmp_path)
        elif step.text.startswith("mlflow ui"):
            look_at_the_ui(reader, step.text)
        else:
            run_command(reader, step, has_mnist)


def run_script(reader: Reader, script: str, folder: Path) -> None:
    """It runs in a folder that has nothing to do with the clone, and shows a table."""
    (folder / "script.py").write_text(script)
    done = reader.run("python script.py", folder)
    assert done.returncode == 0, done
    assert "fc, none" in done.stdout, done


def look_at_the_ui(reader: Reader, command: str) -> None:
    """It answers, and serves the store of the clone."""
    port = free_port()
    shell = reader.shell(f"{command} {added_to(command).format(port=port)}")
    experiment = "api/2.0/mlflow/experiments/get-by-name?experiment_name=aepretrain"
    with served(shell, f"http://127.0.0.1:{port}/{experiment}", reader.clone, environment()):
        pass


def run_command(reader: Reader, step: Step, has_mnist: bool) -> None:
    """It ends well and prints what the README shows. What needs MNIST and has none says so in a line."""
    done = reader.run(f"{step.text} {added_to(step.text)}".strip())
    if "aepretrain grid" in step.text and "--dataset" not in step.text and not has_mnist:
        assert done.returncode == 1, done
        assert re.search(r"^aepretrain: .*MNIST.*\n\Z", done.stderr, re.MULTILINE), done.stderr
        return
    assert done.returncode == 0, done
    if step.shown:
        pattern = "\n".join(re.escape(line).replace("…", ".*") for line in step.shown)
        assert re.search(f"^{pattern}$", done.stdout, re.MULTILINE), done.stdout
    if step.text.startswith("./run_all.sh"):
        check_table(reader, done, has_mnist)
    if step.text.startswith("./run_tests.sh"):
        assert re.search(r"\b\d+ passed", done.stdout), done.stdout
        assert ("skipped" in done.stdout) == (not has_mnist), done.stdout


def check_table(reader: Reader, done: subprocess.CompletedProcess[str], has_mnist: bool) -> None:
    """The grid has printed and written its table and named the data; `compare` makes the same table from the store."""
    rows = re.findall(r"│ (\w+, \w+) +(?:│ 0\.\d{4} / 0\.\d{4} ){3}│", done.stdout)
    assert rows[:4] == ["fc, none", "fc, erasing", "conv, none", "conv, erasing"], done.stdout
    assert ("MNIST CANNOT BE HAD. TRAINING ON DIGITS INSTEAD" in done.stderr) == (not has_mnist), done.stderr
    dataset = "mnist" if has_mnist else "digits"
    compared = reader.run(f".venv/bin/aepretrain compare --dataset {dataset} --out compared")
    assert compared.returncode == 0, compared
    tables = [json.loads((reader.clone / folder / "grid.json").read_text()) for folder in ("results", "compared")]
    assert tables[0] == tables[1]
    assert tables[0]["dataset"] == dataset
    cells = tables[0]["cells"]
    assert [cell["num_seeds"] for cell in cells] == [1] * 12
    assert not has_mnist or all(0.5 < cell["accuracy"] < 1 for cell in cells), cells


def test_the_notebook_about_own_pictures_gives_a_verdict(reader: Reader) -> None:
    examples = reader.clone / "examples"
    notebook = nbformat.read(examples / "own_pictures.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in cells), "it is kept without outputs"
    assert sum(len(cell.source.splitlines()) for cell in cells) < 40
    assert reader.run("source ./environment.sh").returncode == 0
    done = reader.run("source .venv/bin/activate && jupyter execute examples/own_pictures.ipynb --output executed")
    assert done.returncode == 0, done
    executed = nbformat.read(examples / "executed.ipynb", as_version=4)
    *_, report, rows, answer = (cell.outputs for cell in executed.cells if cell.cell_type == "code")
    verdict = report[-1].data["text/markdown"]
    assert re.search(r"finetune − scratch \w.* in 1 of 1 test", verdict), verdict
    assert (examples / "results" / "report.html").is_file()
    assert "scratch" in rows[-1].data["text/plain"]
    assert re.fullmatch(r"\[('(bar|disc|ring)'(, )?){4}\]", answer[-1].data["text/plain"])


def test_the_notebook_trains_shows_and_draws_where_it_lies(reader: Reader) -> None:
    examples = reader.clone / "examples"
    notebook = nbformat.read(examples / "quickstart.ipynb", as_version=4)
    assert all(not cell.outputs for cell in notebook.cells if cell.cell_type == "code"), "it is kept without outputs"
    assert reader.run("source ./environment.sh").returncode == 0
    reader.run("source .venv/bin/activate")
    done = reader.run("jupyter execute examples/quickstart.ipynb --output executed")
    assert done.returncode == 0, done
    notebook = nbformat.read(examples / "executed.ipynb", as_version=4)
    grid, picture, rows = (cell.outputs for cell in notebook.cells if cell.cell_type == "code")
    shown = [output.data for output in grid if "data" in output]
    assert any("application/vnd.jupyter.widget-view+json" in data for data in shown), "the bars are live"
    assert not [output for output in grid if output.get("name") == "stderr"]
    table = shown[-1]["text/markdown"]
    assert "| 1 | fc, none | 0." in table
    assert "n = 2 seeds per cell" in table
    assert "image/png" in picture[-1].data
    (printed,) = rows
    assert len(printed.text.splitlines()) == 1 + 12, "a heading, and a row a classifier"
    assert len(tracking.open_store(f"sqlite:///{examples}/quickstart.db").records()) == 16
