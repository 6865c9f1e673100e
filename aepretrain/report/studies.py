"""What the studies found about a grid, as panels of the page."""

from collections.abc import Iterable

from aepretrain.records import Record
from aepretrain.report.controls import controls_panel
from aepretrain.report.evaluations import robustness_panel, similarity_panel
from aepretrain.report.found import Found
from aepretrain.report.grid import Grid
from aepretrain.report.labels import labels_panel
from aepretrain.report.panel import Panel


def study_panels(grid: Grid, records: Iterable[Record], smallest_effect: float) -> list[Panel]:
    """A panel for each study; where it was not run, the panel says how to run it."""
    found = Found(grid, list(records))
    return [
        controls_panel(found),
        labels_panel(found, smallest_effect),
        robustness_panel(found, smallest_effect),
        similarity_panel(found),
    ]
