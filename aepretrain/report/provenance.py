"""The panel on how the numbers were made."""

from collections.abc import Mapping, Sequence

import pandas as pd

from aepretrain import stats
from aepretrain.config import Settings, format_seeds
from aepretrain.records import Archive, Record
from aepretrain.report.answer import Answer, sides
from aepretrain.report.findings import number_text
from aepretrain.report.grid import belongs, setting_text
from aepretrain.report.pairs import paired_keys
from aepretrain.report.panel import Panel
from aepretrain.report.planned import PlanResults
from aepretrain.report.planned_wording import time_text, title
from aepretrain.report.query import Query
from aepretrain.report.table import Table
from aepretrain.report.wording import planned_text

TEXT = (
    "aepretrain report on the same runs, with the same options, makes this page again. Another processor or other "
    "versions change rounding, and a whole training amplifies it."
)
TAGS = ("commit", "dirty", "schema", "processor", "loops", "versions", "device", "threads", "stack", "host")


def provenance_panel(
    answer: Answer | None, query: Query | None, archive: Archive, plans: Sequence[PlanResults] = ()
) -> Panel:
    """Settings and plans, how the runs were carried out, and where each is."""
    parts = [part for of in plans for part in of.parts]
    tables = [_plan_table(part) for part in parts]
    shown = {key: record for part in parts for key, record in part.records.items()}
    if answer is not None and query is not None:
        of_grid, tables_of_grid = _of_grid(answer, query)
        shown, tables = of_grid | shown, [*tables_of_grid, *tables]
    commits = {one.tags["commit"] for one in shown.values() if "commit" in one.tags}
    versions = (
        f" of {number_text(len(commits))} version{'s' if len(commits) > 1 else ''} of the code" if commits else ""
    )
    finding = f"Made of {len(shown):,} trainings{versions}"
    return Panel("How this was made", finding, TEXT, [*tables, _run_ids(list(shown.values()), archive)])


def _of_grid(answer: Answer, query: Query) -> tuple[dict[str, Record], list[Table]]:
    """The trainings of the grid by key, and their tables."""
    settings = [[name, setting_text(value)] for name, value in answer.grid.settings.items()]
    pretrainings = pd.concat([query.of(one, "pretrain").reset_index() for one in query.experiments])
    of_grid = answer.grid.trainings
    shown = {key: query.records[key] for key in [*pretrainings["key"], *of_grid["key"]]}
    runs = _runs(answer, query, of_grid, pretrainings)
    return shown, [("Settings", [["option", "value"], *settings]), runs]


def _plan_table(of: PlanResults) -> Table:
    """What was fixed, how it is known that it was fixed before, and how the trainings that count were carried out."""
    plan = of.plan
    rows = [
        ["question", plan.question],
        ["digest (SHA-256 of the content, first 12 digits)", plan.digest[:12]],
        ["first seen, as its trainings say", time_text(of.seen) if of.seen else "not by any training here"],
        ["trainings that count", f"{len(of.records):,}"],
        ["of these started under the plan", f"{of.num_started:,}"],
        ["planned seeds", "; ".join(f"{name} {format_seeds(seeds)}" for name, seeds in plan.networks.items())],
        ["planned tests", f"{len(of.results)} in {len(of.families)} families, by {', '.join(plan.families)}"],
        ["smallest effect of interest", str(plan.smallest_effect)],
        ["level of each family of tests", f"{plan.alpha:g}"],
        ["settings", ", ".join(f"{name} {setting_text(one)}" for name, one in plan.settings.items()) or "defaults"],
    ]
    return f"The plan {title(of)}", [["what", "value"], *rows, *_tag_rows([one.tags for one in of.records.values()])]


def _tag_rows(tags: Sequence[Mapping[str, str]]) -> list[list[str]]:
    """What the runs' tags say, each different value once."""
    rows = []
    for name in TAGS:
        values = sorted({one[name] for one in tags if name in one})
        if name == "loops" and not values:
            continue  # all are older than the tag
        num_silent = sum(name not in one for one in tags)
        silent = [f"not recorded in {num_silent} of {len(tags)} runs"] if num_silent else []
        rows.append([name, "; ".join([*values, *silent])])
    return rows


def _runs(answer: Answer, query: Query, of_grid: pd.DataFrame, pretrainings: pd.DataFrame) -> Table:
    """How many runs there are, what their tags say, and what the grid was judged by."""
    related = belongs(query.frame, answer.grid.settings)
    of_studies = related[related["study"].notna()]
    rows = [["finished classifiers", _count(of_grid)], ["finished pretrainings", _count(pretrainings)]]
    rows += [[f"runs of study {study}", _count(runs)] for study, runs in of_studies.groupby("study")]
    tags = [query.records[key].tags for key in pd.concat([of_grid, pretrainings, of_studies])["key"]]
    rows += _tag_rows(tags)
    unlike = "pairs of finetune and scratch on processors that differ or are not recorded"
    rows.append([unlike, _unlike_pairs(answer, query)])
    rows.append(["smallest effect of interest", f"{answer.terms.smallest_effect:g}"])
    rows.append(["planned seeds", planned_text(answer.terms.num_seeds) or "not stated"])
    rows.append(["level of the family of tests", f"{stats.ALPHA:g}"])
    return "Runs", [["what", "value"], *rows]


def _count(trainings: pd.DataFrame) -> str:
    seeds = sorted(trainings["seed"].unique().tolist())
    return f"{len(trainings)} (seeds {format_seeds(seeds)})" if seeds else "0"


def _unlike_pairs(answer: Answer, query: Query) -> str:
    """Of how many pairs it is unknown whether one processor has trained both."""
    pairs = [pair for one in answer.primary for pair in paired_keys(*sides(answer.grid, one))]
    both = [[query.records[key].tags.get("processor") for key in pair] for pair in pairs]
    return f"{sum(first is None or first != second for first, second in both)} of {len(both)}"


def _run_ids(records: Sequence[Record], archive: Archive) -> Table:
    rows = [[_cell_text(record), str(record.seed), archive.link(record)] for record in records]
    return "Run ids", [["cell", "seed", "run"], *rows]


def _cell_text(record: Record) -> str:
    """``fc-none-finetune``; with the objective and the number of labels where these are not the source's."""
    objective, labels = record.setting("objective"), record.setting("labels")
    of_plan = [objective] if objective not in (None, Settings.objective) else []
    return "-".join([*record.cell, *of_plan, *([f"{labels}labels"] if labels else [])])
