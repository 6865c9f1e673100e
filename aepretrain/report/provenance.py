"""The panel on how the numbers were made."""

from collections.abc import Sequence

import pandas as pd

from aepretrain import stats
from aepretrain.config import format_seeds
from aepretrain.records import Archive, Record
from aepretrain.report.answer import Answer, sides
from aepretrain.report.grid import belongs, setting_text
from aepretrain.report.pairs import paired_keys
from aepretrain.report.panel import Panel
from aepretrain.report.query import Query
from aepretrain.report.table import Table
from aepretrain.report.wording import planned_text

TEXT = (
    "aepretrain report on the same runs, with the same options, makes this page again. Another processor or other "
    "versions change rounding, and a whole training amplifies it."
)
TAGS = ("commit", "dirty", "schema", "processor", "versions", "device", "threads", "stack", "host")


def provenance_panel(answer: Answer, query: Query, archive: Archive) -> Panel:
    """Settings, how the runs were carried out, and where each is."""
    settings = [[name, setting_text(value)] for name, value in answer.grid.settings.items()]
    pretrainings = pd.concat([query.of(one, "pretrain").reset_index() for one in query.experiments])
    of_grid = answer.grid.trainings
    shown = [query.records[key] for key in [*pretrainings["key"], *of_grid["key"]]]
    return Panel(
        "How this was made",
        TEXT,
        [
            ("Settings", [["option", "value"], *settings]),
            _runs(answer, query, of_grid, pretrainings),
            _run_ids(shown, archive),
        ],
    )


def _runs(answer: Answer, query: Query, of_grid: pd.DataFrame, pretrainings: pd.DataFrame) -> Table:
    """What the runs' tags say, each different value once."""
    related = belongs(query.frame, answer.grid.settings)
    of_studies = related[related["study"].notna()]
    rows = [["finished classifiers", _count(of_grid)], ["finished pretrainings", _count(pretrainings)]]
    rows += [[f"runs of study {study}", _count(runs)] for study, runs in of_studies.groupby("study")]
    tags = [query.records[key].tags for key in pd.concat([of_grid, pretrainings, of_studies])["key"]]
    for name in TAGS:
        values = sorted({one[name] for one in tags if name in one})
        num_silent = sum(name not in one for one in tags)
        silent = [f"not recorded in {num_silent} of {len(tags)} runs"] if num_silent else []
        rows.append([name, "; ".join([*values, *silent])])
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
    rows = [["-".join(record.cell), str(record.seed), archive.link(record)] for record in records]
    return "Run ids", [["cell", "seed", "run"], *rows]
