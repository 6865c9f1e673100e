"""MLflow's UI on a store, and a browser to look at it with. Used by `docs.screenshots` too."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.integration.services import free_port

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_S = 120
LONGEST_START_S = 300

QUIET = """
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");
"""
"""What keeps MLflow's assistant from opening by itself over a quarter of the page."""

MODEL_TRAINING = "workflowType=machine_learning"
"""The query with which the UI shows what *Model training* shows, instead of *GenAI*."""


@contextmanager
def mlflow_ui(uri: str, folder: Path) -> Iterator[str]:
    """``mlflow ui`` on this store while the block lasts; gives its address. It keeps its own files in `folder`."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--port", str(port), "--workers", "1"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with served(command, f"http://127.0.0.1:{port}/health", folder, environment):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def served(command: Sequence[str], address: str, folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """A server while the block lasts, which begins when this address answers. Its log is ui.log in `folder`."""
    log = folder / "ui.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        until_s = time.monotonic() + LONGEST_START_S
        while not _answers(address):
            assert server.poll() is None, f"the server has ended: {log.read_text()[-2000:]}"
            assert time.monotonic() < until_s, f"the server does not answer: {log.read_text()[-2000:]}"
            time.sleep(0.5)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(PATIENCE_S)


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=5).close()  # noqa: S310  # http
    except OSError:
        return False
    return True


@contextmanager
def chromium() -> Iterator[Browser]:
    """Headless Chromium, with a profile that is new and goes with it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def new_page(browser: Browser, *, width: int = 1500, height: int = 860) -> Iterator[Page]:
    """A page in a window of this size in pixels, which remembers nothing of those before it."""
    context = browser.new_context(viewport={"width": width, "height": height})
    context.set_default_timeout(PATIENCE_S * 1000)
    context.add_init_script(QUIET)
    yield context.new_page()
    context.close()


def open_runs(page: Page, address: str, experiment_id: str) -> None:
    """Open the table of an experiment's runs, the grids' rows closed."""
    page.goto(f"{address}/#/experiments/{experiment_id}/runs?{MODEL_TRAINING}")
    page.get_by_text("matching run").wait_for()


def open_group(page: Page) -> None:
    """Show the children of the first parent run of the table."""
    page.locator("button[data-component-id*=runnamecellrenderer]").first.click()


def filter_runs(page: Page, condition: str) -> None:
    """Type a filter into the search box of the table of runs."""
    page.get_by_test_id("search-box").fill(condition)
    page.keyboard.press("Enter")


def show_description(page: Page) -> None:
    """Unfold the experiment's description above the table of runs."""
    page.locator('[data-component-id="mlflow.experiment.metadata_editor.expand_button"]').click()


def show_columns(page: Page, wanted: Mapping[str, bool]) -> None:
    """Show or hide columns of the table of runs, by name."""
    page.get_by_test_id("column-selection-dropdown").first.click()
    search = page.get_by_placeholder("Search columns")
    for name, shown in wanted.items():
        search.fill(name)
        node = page.locator("[class*=tree-treenode]").filter(has=page.get_by_text(name, exact=True)).last
        box = node.locator("[class*=tree-checkbox]").first
        if ("checkbox-checked" in (box.get_attribute("class") or "")) != shown:
            box.click()
    page.keyboard.press("Escape")
