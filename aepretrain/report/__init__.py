"""From a frame of finished trainings to tables, the answer and its page, as values; nothing is written."""

from aepretrain.report.answer import Answer, Terms, build_answer
from aepretrain.report.grid import (
    EXPERIMENTS,
    SOURCE,
    Cell,
    Experiment,
    Grid,
    Score,
    belongs,
    build_grid,
    check_match,
    choose,
    fits,
    in_table,
    narrow,
    without_choices,
)
from aepretrain.report.page import MakePanel, Page, answer_text, build_page, page_files
from aepretrain.report.panel import Panel, Picture
from aepretrain.report.planned import PlanResults, judge_plan
from aepretrain.report.planned_grid import grid_of_plan, is_source_grid, terms_of
from aepretrain.report.planned_wording import file_name
from aepretrain.report.query import Query, count_test_images, place_of
from aepretrain.report.results import TableResults, judge_runs
from aepretrain.report.results_page import results_files, results_paragraphs
from aepretrain.report.results_table import read_runs
from aepretrain.report.table import figure, files, listing, markdown, summary_metrics, tables
from aepretrain.report.tuning_panel import choices_markdown, choices_table, tuning_files
from aepretrain.report.wording import sentences

__all__ = [
    "EXPERIMENTS",
    "SOURCE",
    "Answer",
    "Cell",
    "Experiment",
    "Grid",
    "MakePanel",
    "Page",
    "Panel",
    "Picture",
    "PlanResults",
    "Query",
    "Score",
    "TableResults",
    "Terms",
    "answer_text",
    "belongs",
    "build_answer",
    "build_grid",
    "build_page",
    "check_match",
    "choices_markdown",
    "choices_table",
    "choose",
    "count_test_images",
    "figure",
    "file_name",
    "files",
    "fits",
    "grid_of_plan",
    "in_table",
    "is_source_grid",
    "judge_plan",
    "judge_runs",
    "listing",
    "markdown",
    "narrow",
    "page_files",
    "place_of",
    "read_runs",
    "results_files",
    "results_paragraphs",
    "sentences",
    "summary_metrics",
    "tables",
    "terms_of",
    "tuning_files",
    "without_choices",
]
