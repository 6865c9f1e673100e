"""Make the pictures of README and docs, docs/images/*.png, from the committed evidence: ``python -m docs.screenshots``.

docs/update.sh calls this, with the plans of ``aepretrain report``, as absolute paths. It needs Chromium (Debian's
package) and takes some minutes, because the evidence is imported into a new store first. docs/images/answer.sha256 has
the digest of the answer that the pictures show.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page
from rich.console import Console
from rich.text import Text

from aepretrain import tracking
from aepretrain.records import Record
from tests.integration.browser import (
    MODEL_TRAINING,
    chromium,
    filter_runs,
    mlflow_ui,
    new_page,
    open_group,
    open_runs,
    show_columns,
)

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"

PICTURES = sorted(path.relative_to(ROOT) for path in (ROOT / "docs" / "pictures").iterdir())
TERMINALS = {"predict": ["predict", *map(str, PICTURES)]}
"""Commands whose output is shown, by the name of the picture."""

COLUMNS = {"Dataset": False, "Source": False, "Models": False, "accuracy/test": True, "macro_f1/test": True}
SETTLING_MS = 3000
"""What is drawn comes into place within this time; there is nothing in the page to wait for."""

TERMINAL_WIDTH = 110

ANSWER = ROOT / "docs" / "answer.md"
STAMP = IMAGES / "answer.sha256"


def main() -> None:
    """Fill a store from the bundle, take the pictures, and stamp them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        uri = f"sqlite:///{folder}/mlflow.db"
        for command in (["import", str(ROOT / "evidence")], ["report", *sys.argv[1:]]):
            run_command(command, uri, folder)
        if (folder / "results" / "answer.md").read_bytes() != ANSWER.read_bytes():
            sys.exit("the answer of this report is not docs/answer.md: make all with docs/update.sh")
        with mlflow_ui(uri, folder) as address, chromium() as browser:
            with new_page(browser, width=1440, height=900) as page:
                page.goto((ROOT / "docs" / "report.html").as_uri())
                page.locator(".explored svg").first.wait_for()
                save(page, "report")
            take(browser, address, tracking.open_store(uri))
            for picture, command in TERMINALS.items():
                take_terminal(browser, picture, command, uri)
    STAMP.write_text(hashlib.sha256(ANSWER.read_bytes()).hexdigest() + "\n")


def run_command(command: list[str], uri: str, folder: Path) -> str:
    """What ``aepretrain`` with these arguments prints, as a terminal would get it."""
    size = {"COLUMNS": str(TERMINAL_WIDTH), "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    return subprocess.run(
        [sys.executable, "-m", "aepretrain", *command],
        cwd=folder,
        env={**os.environ, "MLFLOW_TRACKING_URI": uri, **size},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def take(browser: Browser, address: str, store: tracking.Store) -> None:
    """The pictures of the UI."""
    records = {one.spec.name: one for one in store.records().values()}
    (parent,) = store.search({"kind": "import"})
    experiment = f"{address}/#/experiments/{store.experiment_id}"
    with new_page(browser, height=700) as page:
        page.goto(f"{experiment}/runs/{records['conv-none-finetune-s7'].run_id}?{MODEL_TRAINING}")
        page.get_by_text("accuracy/test", exact=True).wait_for()
        save(page, "mlflow-run")
    with new_page(browser, width=1500, height=520) as page:
        runs = [
            records[f"conv-{one}-s7"]
            for one in ("none-finetune", "none-scratch", "erasing-finetune", "erasing-scratch")
        ]
        page.goto(f"{address}/#/metric?{overlaid(runs, store.experiment_id)}&{MODEL_TRAINING}")
        page.locator(".scatterlayer .trace").first.wait_for()
        save(page, "mlflow-curves")
    with new_page(browser, height=900) as page:
        page.goto(f"{experiment}/runs/{parent.info.run_id}/artifacts/results/report.html?{MODEL_TRAINING}")
        page.frame_locator("iframe").locator("img").first.wait_for()
        page.get_by_text("Path: file:").evaluate("one => one.style.visibility = 'hidden'")  # a path of this machine
        save(page, "mlflow-report")
    with new_page(browser, height=800) as page:
        open_runs(page, address, store.experiment_id)
        open_group(page)
        of_seed = "tags.`aepretrain.seed` = '0' and tags.`aepretrain.study` IS NULL and metrics.`accuracy/test` > 0"
        filter_runs(page, of_seed)
        page.get_by_text("13 matching runs").wait_for()  # the twelve cells, and what they were imported by
        show_columns(page, COLUMNS)
        save(page, "mlflow-runs")


def overlaid(runs: list[Record], experiment_id: str) -> str:
    """The query of the page on which the losses of these runs lie over each other, by epoch, on a logarithmic scale."""
    of_page = {
        "runs": [one.run_id for one in runs],
        "experiments": [experiment_id],
        "metric": "loss/train",
        "plot_metric_keys": ["loss/train", "loss/validation"],
        "plot_layout": {"autosize": True, "yaxis": {"type": "log"}},
    }
    plain = {"x_axis": "step", "y_axis_scale": "log", "line_smoothness": "1", "show_point": "false"}
    return urlencode({name: json.dumps(value) for name, value in of_page.items()} | plain)


def take_terminal(browser: Browser, picture: str, command: list[str], uri: str) -> None:
    """A picture of a terminal in which a command was typed."""
    console = Console(record=True, width=TERMINAL_WIDTH, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(f"$ aepretrain {' '.join(command)}", style="bold", highlight=False)
    console.print(Text.from_ansi(run_command(command, uri, ROOT)))
    with new_page(browser) as page:
        page.set_content(console.export_svg(title="aepretrain"))
        page.locator("svg").first.screenshot(path=IMAGES / f"{picture}.png")


def save(page: Page, picture: str) -> None:
    """The page as it is, as a picture of this name."""
    page.mouse.move(0, 0)
    page.wait_for_timeout(SETTLING_MS)
    page.screenshot(path=IMAGES / f"{picture}.png")


if __name__ == "__main__":
    main()
