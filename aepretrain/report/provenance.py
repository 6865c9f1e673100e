"""The panel that says how the numbers were made."""

from collections.abc import Sequence

from aepretrain import stats
from aepretrain.config import format_seeds
from aepretrain.records import Archive, Record
from aepretrain.report.answer import Answer, sides
from aepretrain.report.grid import belongs
from aepretrain.report.pairs import pairs
from aepretrain.report.panel import Panel
from aepretrain.report.query import Found
from aepretrain.report.table import Table
from aepretrain.report.wording import whole_plan_text

MADE_TEXT = (
    "aepretrain report on the same runs, with the same options, makes this page again. Differences in processor and "
    "versions change rounding, which a whole training amplifies."
)


def made_panel(answer: Answer, found: Found, archive: Archive) -> Panel:
    """Settings, what the runs say of themselves, and where each is."""
    of_grid = [record for cell in answer.grid.cells.values() for record in cell.records]
    by_seed = [sorted(found.of(experiment, "pretrain").items()) for experiment in found.experiments]
    pretrainings = [one for of_seeds in by_seed for _, one in of_seeds]
    of_studies = [one for one in found.records if one.study is not None and belongs(one, answer.grid.settings)]
    return Panel(
        "How this was made",
        MADE_TEXT,
        [
            ("Settings", [["option", "value"], *([name, str(value)] for name, value in answer.grid.settings.items())]),
            _runs(answer, of_grid, pretrainings, of_studies),
            _run_ids([*pretrainings, *of_grid], archive),
        ],
    )


def _runs(
    answer: Answer, of_grid: Sequence[Record], pretrainings: Sequence[Record], of_studies: Sequence[Record]
) -> Table:
    """What the runs say of themselves, each different value once."""
    rows = [["finished classifiers", _count(of_grid)], ["finished pretrainings", _count(pretrainings)]]
    for study in sorted({str(record.study) for record in of_studies}):
        rows.append([f"runs of study {study}", _count([one for one in of_studies if one.study == study])])
    everything = (*of_grid, *pretrainings, *of_studies)
    for name in ("commit", "dirty", "schema", "processor", "versions", "device", "threads", "stack", "host"):
        values = sorted({one.tags[name] for one in everything if name in one.tags})
        num_silent = sum(name not in one.tags for one in everything)
        silent = [f"not recorded in {num_silent} of {len(everything)} runs"] if num_silent else []
        rows.append([name, "; ".join([*values, *silent])])
    rows.append(["finetune and scratch of a seed on processors that differ or are not recorded", _unlike_pairs(answer)])
    rows.append(["smallest effect of interest", f"{answer.plan.smallest_effect:g}"])
    rows.append(["planned seeds", whole_plan_text(answer.plan)])
    rows.append(["level of the family of tests", f"{stats.ALPHA:g}"])
    return "Runs", [["what", "value"], *rows]


def _count(records: Sequence[Record]) -> str:
    return f"{len(records)} (seeds {format_seeds(sorted({record.seed for record in records}))})" if records else "0"


def _unlike_pairs(answer: Answer) -> str:
    """Of how many pairs it is not known that one processor has trained both."""
    found = [
        (finetune.tags.get("processor"), scratch.tags.get("processor"))
        for experiment in answer.primary
        for finetune, scratch in zip(*pairs(*sides(answer.grid, experiment)), strict=True)
    ]
    return f"{sum(one is None or one != other for one, other in found)} of {len(found)}"


def _run_ids(records: Sequence[Record], archive: Archive) -> Table:
    rows = [["-".join(record.cell), str(record.seed), archive.link(record)] for record in records]
    return "Run ids", [["cell", "seed", "run"], *rows]
