"""The notebook is executed as a reader does it, in a kernel of its own."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from aepretrain import tracking
from tests.conftest import ROOT

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:::(zmq|jupyter_client|tornado)\\..*"),  # not ours to mend
]


def test_the_quickstart_trains_shows_and_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = nbformat.read(ROOT / "examples/quickstart.ipynb", as_version=4)
    assert all(not cell.outputs for cell in notebook.cells if cell.cell_type == "code"), "it is kept without outputs"
    client = NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    grid, picture, rows = (cell.outputs for cell in notebook.cells if cell.cell_type == "code")
    shown = [output.data for output in grid if "data" in output]
    assert any("application/vnd.jupyter.widget-view+json" in data for data in shown), "the bars are live"
    assert not [output for output in grid if output.get("name") == "stderr"]
    table = shown[-1]["text/markdown"]
    assert "| 1 | fc, none | 0." in table
    assert "n = 2 seeds per cell" in table
    assert "image/png" in picture[-1].data
    (printed,) = rows
    assert len(printed.text.splitlines()) == 12
    store = tracking.open_store(f"sqlite:///{tmp_path}/quickstart.db")
    assert len(store.records()) == 16
