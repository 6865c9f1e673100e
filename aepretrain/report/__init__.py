"""Records and evidence in; tables, verdicts and pages out, as values and texts. Nothing is written here."""

from aepretrain.report.answer import Answer, build_answer, sentences
from aepretrain.report.grid import PUBLISHED, Cell, Grid, Score, build_grid, choose, figure, files, markdown, tables
from aepretrain.report.page import Picture, build_page, page_files

__all__ = [
    "PUBLISHED",
    "Answer",
    "Cell",
    "Grid",
    "Picture",
    "Score",
    "build_answer",
    "build_grid",
    "build_page",
    "choose",
    "figure",
    "files",
    "markdown",
    "page_files",
    "sentences",
    "tables",
]
