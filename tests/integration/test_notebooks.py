"""The notebooks, run in a fresh clone where they lie, as Jupyter runs them."""

import re

import nbformat
import pytest

from aepretrain import tracking
from tests.integration.newcomer import Reader

pytestmark = pytest.mark.integration


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
