"""MLflow's UI in a real browser, on the store that a grid and a report have filled."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE
from playwright.sync_api import Browser, Locator, Page, expect

from aepretrain import tracking
from aepretrain.records import Record
from tests.commands import aepretrain
from tests.integration.browser import (
    MODEL_TRAINING,
    PATIENCE_S,
    chromium,
    filter_runs,
    mlflow_ui,
    new_page,
    open_group,
    open_runs,
    show_description,
)

pytestmark = pytest.mark.integration

GRID = ["grid", "--dataset", "digits", "--network", "fc", "--seeds", "0,1", "--epochs", "3", "--device", "cpu"]
expect.set_options(timeout=PATIENCE_S * 1000)


@dataclass(frozen=True)
class Ui:
    """A UI that is being served, and the store that it shows."""

    address: str
    store: tracking.Store

    def run(self, run_id: str, what: str = "") -> str:
        """Where a run is looked at."""
        return f"{self.address}/#/experiments/{self.store.experiment_id}/runs/{run_id}{what}?{MODEL_TRAINING}"

    def record(self, name: str) -> Record:
        """The finished training of this name."""
        (found,) = (one for one in self.store.records().values() if one.spec.name == name)
        return found


@pytest.fixture(scope="session")
def ui(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    folder = tmp_path_factory.mktemp("ui")
    (folder / "mlflow.db").write_bytes(template.read_bytes())
    uri = f"sqlite:///{folder}/mlflow.db"
    for command in (GRID, ["report"]):
        done = aepretrain(*command, folder=folder, MLFLOW_TRACKING_URI=uri)
        assert done.code == 0, done
    with mlflow_ui(uri, folder) as address:
        yield Ui(address, tracking.open_store(uri))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with new_page(browser) as page:
        yield page


def shown_runs(page: Page) -> Locator:
    """The names in the table of runs, from the top."""
    return page.locator('.ag-pinned-left-cols-container a[href*="/runs/"]')


def drawn(page: Page, title: str) -> list[tuple[str, list[float]]]:
    """The curves of the chart with this title: of each the run and its values."""
    card = page.locator('[data-testid="experiment-view-compare-runs-card"]').filter(
        has=page.get_by_text(title, exact=True)
    )
    card.scroll_into_view_if_needed()
    card.locator(".scatterlayer .trace").first.wait_for()
    found = card.locator(".js-plotly-plot").evaluate("plot => plot.data.map(one => [one.name, [...one.y]])")
    return list({json.dumps(one): (one[0], one[1]) for one in found}.values())  # it draws a band around each too


def test_trainings_are_grouped_under_their_grid(ui: Ui, page: Page) -> None:
    open_runs(page, ui.address, ui.store.experiment_id)
    expect(page.get_by_text("17 matching runs")).to_be_visible()
    expect(shown_runs(page)).to_have_text(["grid digits, seeds 0-1"])
    open_group(page)
    expect(page.get_by_role("link", name="fc-none-pretrain-s0")).to_be_visible()
    parent, *children = shown_runs(page).all_inner_texts()
    assert parent == "grid digits, seeds 0-1"
    assert sorted(children) == sorted(
        f"fc-{augmentation}-{variant}-s{seed}"
        for augmentation in ("none", "erasing")
        for variant in ("pretrain", "frozen", "finetune", "scratch")
        for seed in (0, 1)
    )


@pytest.mark.parametrize(
    ("condition", "left"),
    [
        ("tags.`aepretrain.variant` = 'finetune'", ["fc-erasing-finetune", "fc-none-finetune"]),
        (
            "tags.`aepretrain.network` = 'fc' and tags.`aepretrain.augmentation` = 'none' "
            "and tags.`aepretrain.variant` = 'scratch'",
            ["fc-none-scratch"],
        ),
        ("attributes.run_name LIKE 'fc-erasing-frozen-%'", ["fc-erasing-frozen"]),
    ],
)
def test_tags_and_names_filter_to_a_cell(ui: Ui, page: Page, condition: str, left: list[str]) -> None:
    open_runs(page, ui.address, ui.store.experiment_id)
    open_group(page)
    filter_runs(page, condition)
    expected = [f"{cell}-s{seed}" for cell in left for seed in (0, 1)]
    expect(page.get_by_text(f"{len(expected) + 1} matching runs")).to_be_visible()  # their parent is shown with them
    expect(shown_runs(page)).to_have_count(len(expected) + 1)
    assert sorted(shown_runs(page).all_inner_texts()) == [*expected, "grid digits, seeds 0-1"]


def test_a_chart_overlays_training_and_validation_loss(ui: Ui, page: Page) -> None:
    records = [ui.record(f"fc-none-{variant}-s0") for variant in ("finetune", "scratch")]
    query = {
        "runs": json.dumps([one.run_id for one in records]),
        "experiments": json.dumps([ui.store.experiment_id]),
        "metric": json.dumps("loss/train"),
        "plot_metric_keys": json.dumps(["loss/train", "loss/validation"]),
    }
    page.goto(f"{ui.address}/#/metric?{urlencode(query)}&{MODEL_TRAINING}")
    assert sorted(drawn(page, "loss/train vs loss/validation")) == sorted(
        (f"{'-'.join(one.cell)}-s0", ui.store.curves([one], loss)[0])
        for one in records
        for loss in ("train_loss", "val_loss")
    )


def test_the_chart_view_overlays_the_seeds_of_a_cell(ui: Ui, page: Page) -> None:
    query = {"searchFilter": "tags.`aepretrain.variant` = 'scratch'", "compareRunsMode": "CHART"}
    open_runs(page, ui.address, ui.store.experiment_id)
    open_group(page)  # only what the table shows is drawn
    expect(page.get_by_role("link", name="fc-none-scratch-s0")).to_be_visible()
    page.goto(f"{ui.address}/#/experiments/{ui.store.experiment_id}/runs?{urlencode(query)}&{MODEL_TRAINING}")
    expect(page.get_by_text("5 matching runs")).to_be_visible()
    page.get_by_placeholder("Search metric charts").fill("^loss/validation$")
    cells = ("fc-none-scratch", "fc-erasing-scratch")
    expected = [ui.record(f"{cell}-s{seed}") for cell in cells for seed in (0, 1)]
    assert sorted(drawn(page, "loss/validation")) == sorted(
        (f"{'-'.join(one.cell)}-s{one.seed}", ui.store.curves([one], "val_loss")[0]) for one in expected
    )


def test_a_model_shows_metrics_description_and_signature(ui: Ui, page: Page) -> None:
    record = next(one for one in ui.store.records().values() if one.cell[2] == "finetune" and "model" in one.tags)
    page.goto(ui.run(record.run_id))
    name = f"{'-'.join(record.cell)}-s{record.seed}"
    page.locator('a[href*="/models/"]:not([target])').filter(has_text=name).click()
    page.wait_for_url("**/models/m-*")
    accuracy = page.get_by_role("row").filter(has=page.get_by_role("cell", name="accuracy/test", exact=True))
    expect(accuracy).to_contain_text(str(record.metrics["test_accuracy"]))
    expect(page.get_by_text("probabilities of the classes [N, 10]")).to_be_visible()
    page.get_by_text("Artifacts", exact=True).click()
    page.get_by_text("MLmodel", exact=True).click()
    expect(page.locator("body")).to_contain_text('"shape": [-1, 1, 28, 28]')
    expect(page.locator("body")).to_contain_text('"shape": [-1, 10]')


def test_the_report_opens_among_the_artifacts(ui: Ui, page: Page) -> None:
    (grid,) = ui.store.search({"kind": "grid"})
    page.goto(ui.run(grid.info.run_id, "/artifacts"))
    page.get_by_text("results", exact=True).click()
    page.get_by_text("report.html", exact=True).click()
    page_of_report = page.frame_locator("iframe")
    expect(page_of_report.get_by_role("heading", name="Does pretraining an autoencoder help")).to_be_visible()
    expect(page_of_report.get_by_text("no verdict: 2 seeds, at least").first).to_be_visible()
    widths = page_of_report.locator("img").evaluate_all("pictures => pictures.map(one => one.naturalWidth)")
    assert len(widths) > 10
    assert all(widths)


def test_a_run_tells_its_result_and_leads_to_its_pretraining(ui: Ui, page: Page) -> None:
    record, pretraining = ui.record("fc-erasing-finetune-s1"), ui.record("fc-erasing-pretrain-s1")
    page.goto(ui.run(record.run_id))
    result = "test accuracy {test_accuracy:.4f}, macro-F1 {test_macro_f1:.4f}".format(**record.metrics)
    expect(page.get_by_text(result)).to_be_visible()
    with page.expect_popup() as opened:
        page.get_by_role("link", name="fc-erasing-pretrain-s1").click()
    expect(opened.value).to_have_url(re.compile(f"/experiments/{ui.store.experiment_id}/runs/{pretraining.run_id}"))
    expect(opened.value.get_by_role("heading", name="fc-erasing-pretrain-s1")).to_be_visible()
    opened.value.close()


def test_the_experiment_shows_the_answer(ui: Ui, page: Page) -> None:
    open_runs(page, ui.address, ui.store.experiment_id)
    show_description(page)
    note = ui.store.client.get_experiment(ui.store.experiment_id).tags[MLFLOW_RUN_NOTE]
    first, *_, last = note.split("\n\n")
    assert "NOT MNIST" in first
    expect(page.get_by_text(first)).to_be_visible()
    assert "[this run]" in last
    expect(page.get_by_text("The whole report is")).to_be_visible()
