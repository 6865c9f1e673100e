"""What README.md shows, run in its order in a fresh clone with nothing beside it.

No variable is set and no path is added but by the README itself. Without MNIST these tests need a machine that cannot
download it.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import HAS_MNIST, MNIST_DIR
from tests.integration.browser import served
from tests.integration.newcomer import Reader, environment
from tests.integration.services import free_port

pytestmark = pytest.mark.integration

FEW_TESTS = "-k 'other_data or mnists_own_images or frozen_means_frozen' --numprocesses 0"

ADDED = {
    "./run_all.sh": "--epochs 1",
    "./run_tests.sh": FEW_TESTS,
    "source .venv/bin/activate": "",
    "aepretrain ui": "--port {port}",
    "mlflow run . --env-manager local --experiment-name aepretrain -e report": "",
    "mlflow run": "-P epochs=1 -P network=fc -P augmentation=none",
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


@pytest.mark.parametrize("has_mnist", [False, True], ids=["without MNIST", "with MNIST in ./data"])
def test_what_the_readme_shows_happens(has_mnist: bool, reader: Reader, tmp_path: Path) -> None:
    if has_mnist:
        if not HAS_MNIST:
            pytest.skip("MNIST's files are not at hand")
        shutil.copytree(MNIST_DIR / "MNIST", reader.clone / "data" / "MNIST")
    asked = list(steps((reader.clone / "README.md").read_text()))
    assert {step.language for step in asked} == {"sh", "console", "python"}
    for step in asked:
        if has_mnist and (step.language != "sh" or "--dataset" in step.text):
            continue  # what needs no MNIST is tried once, without it
        if step.language == "python":
            run_script(reader, step.text, tmp_path)
        elif step.text.startswith("aepretrain ui"):
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
    without_mnist = " -P dataset=digits" if "-P seeds" in step.text and not has_mnist else ""
    done = reader.run(f"{step.text} {added_to(step.text)}{without_mnist}".strip())
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
