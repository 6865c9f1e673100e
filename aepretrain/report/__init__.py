"""Records and evidence in; tables, verdicts and pages out, as values and texts. Nothing is written here."""

from aepretrain.report.answer import Answer, build_answer, sentences
from aepretrain.report.grid import (
    PUBLISHED,
    Cell,
    Grid,
    Score,
    build_grid,
    choose,
    figure,
    files,
    fits,
    markdown,
    tables,
)
from aepretrain.report.page import build_page, page_files
from aepretrain.report.panel import Panel, Picture
from aepretrain.report.studies import study_panels

__all__ = [
    "PUBLISHED",
    "Answer",
    "Cell",
    "Grid",
    "Panel",
    "Picture",
    "Score",
    "build_answer",
    "build_grid",
    "build_page",
    "choose",
    "figure",
    "files",
    "fits",
    "markdown",
    "page_files",
    "sentences",
    "study_panels",
    "tables",
]
