"""Records and evidence in; tables, verdicts and pages out, as values and texts. Nothing is written here."""

from aepretrain.report.answer import Answer, Plan, build_answer
from aepretrain.report.grid import PUBLISHED, Cell, Grid, Score, belongs, build_grid, choose
from aepretrain.report.page import build_page, page_files, study_panels
from aepretrain.report.panel import Panel, Picture
from aepretrain.report.query import Found
from aepretrain.report.table import figure, files, markdown, tables
from aepretrain.report.wording import sentences

__all__ = [
    "PUBLISHED",
    "Answer",
    "Cell",
    "Found",
    "Grid",
    "Panel",
    "Picture",
    "Plan",
    "Score",
    "belongs",
    "build_answer",
    "build_grid",
    "build_page",
    "choose",
    "figure",
    "files",
    "markdown",
    "page_files",
    "sentences",
    "study_panels",
    "tables",
]
