"""From a frame of finished trainings to tables, the answer and its page, as values; nothing is written."""

from aepretrain.report.answer import Answer, Plan, build_answer
from aepretrain.report.grid import SOURCE, Cell, Grid, Score, belongs, build_grid, choose, without_choices
from aepretrain.report.page import MakePanel, build_page, page_files
from aepretrain.report.panel import Panel, Picture
from aepretrain.report.query import Query
from aepretrain.report.table import figure, files, markdown, tables
from aepretrain.report.tuning_panel import choices_markdown, choices_table, tuning_files
from aepretrain.report.wording import sentences

__all__ = [
    "SOURCE",
    "Answer",
    "Cell",
    "Grid",
    "MakePanel",
    "Panel",
    "Picture",
    "Plan",
    "Query",
    "Score",
    "belongs",
    "build_answer",
    "build_grid",
    "build_page",
    "choices_markdown",
    "choices_table",
    "choose",
    "figure",
    "files",
    "markdown",
    "page_files",
    "sentences",
    "tables",
    "tuning_files",
    "without_choices",
]
