"""The page about a table of other people's runs: verdicts, figures, and what was read."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from aepretrain import figures
from aepretrain.config import format_seeds
from aepretrain.figures import Point
from aepretrain.report.findings import headline
from aepretrain.report.judged import poolable
from aepretrain.report.judged_tables import difference_text, family_title, judged_row, pooled_row
from aepretrain.report.judged_wording import counts_text, effect_text, name_text, promise
from aepretrain.report.opening import Card, Opening
from aepretrain.report.page import Page, files_of
from aepretrain.report.pairs import paired
from aepretrain.report.panel import Panel, Picture
from aepretrain.report.results import TableResult, TableResults
from aepretrain.report.results_table import SHARES
from aepretrain.report.table import Row, Table, markdown_table, markdown_text, table_of
from aepretrain.report.undecidable import undecidable_tables, undecidable_text
from aepretrain.stats import Kind

RULE_TEXT = (
    "Runs are paired by experiment and seed. A difference is found where the p-value of a two-sided sign-flip test, "
    "adjusted by Holm's method over the tests of a family, is below {alpha:g} %. The 90 % interval of the mean "
    "difference, compared with ±{effect}, says whether the size is negligible, settled or unsettled. The probability "
    "of improvement is that of a run of the first over a run of the second, of any two seeds. Differences, standard "
    "deviations and intervals are in percentage points."
)
POOLED_TEXT = (
    "Pooled are experiments with seeds enough for a verdict: random effects, Hartung-Knapp interval. τ is the standard "
    "deviation of the experiments' true effects, I² the share of variation that is not chance. Pooled differences have "
    "no verdict."
)
MADE_TEXT = (
    "This page is made of the table alone. It does not know how the runs were made. The verdicts suppose that a pair "
    "of runs shares its seed and all else but the variant, and that no run was left out because of its result."
)
FOREST_CAPTION = (
    "{name}: means over seeds with 95 % intervals; right: {first} is better. Filled: better or worse. Hollow: all "
    "other verdicts. Grey band: differences that count as negligible."
)
PAIRED_CAPTION = (
    "{name}. Dots: one seed each. Squares: their mean with its 95 % interval. Grey band: differences that count as "
    "negligible."
)
MOST_ROWS = 60
"""A figure of more experiments is not drawn: its rows could not be read."""

MOST_ROWS_OF_SEEDS = 12
"""The same for the figure with a dot for each seed."""


def results_paragraphs(of: TableResults) -> list[str]:
    """The question, how often each verdict was given, and where the data cannot decide."""
    said = f"{_counts(of)} {promise(of.results, of.plan.alpha, is_fixed=False)}".rstrip()
    doubts = undecidable_text(of.undecidable, len(of.results), "test")
    return [of.plan.question, *filter(None, (said, doubts, _unpaired_text(of)))]


def _counts(of: TableResults) -> str:
    """How often each verdict was given, in one sentence."""
    counts = "; ".join(f"{name_text(name)} {counts_text(of.of(name))}" for name in of.plan.comparisons if of.of(name))
    return f"{'So far: ' if any(one.is_interim for one in of.results) else ''}{counts}."


def _unpaired_text(of: TableResults) -> str:
    num = sum(len(seeds) for one in of.results for seeds in one.unpaired)
    if not num:
        return ""
    have, are = ("s have", "are") if num > 1 else (" has", "is")
    return f"{num} run{have} no partner with the same seed and {are} not counted."


def results_files(of: TableResults) -> dict[str, bytes]:
    """The page as HTML and Markdown with its pictures, and the answer alone, by file name."""
    question, *paragraphs = results_paragraphs(of)
    said = map(markdown_text, paragraphs)
    tables = map(markdown_table, [*_family_tables(of), *_pooled_tables(of)])
    short = "\n\n".join([f"**{markdown_text(question)}**", *said, *tables]) + "\n"
    pictures = list(_pictures(of))
    return files_of(Page([_opening(of, pictures)], _panels(of, paragraphs, pictures)), short)


def _opening(of: TableResults, pictures: Sequence[Picture]) -> Opening:
    """The question, what was found, the first figure, and a card for each family."""
    cards = []
    for name, results in of.families.items():
        start = "so far, " if any(one.is_interim for one in results) else ""
        cards.append(Card(family_title(name, results), headline(f"{start}{counts_text(results)}"), ()))
    facts = [("Table", Path(of.runs.path).name), ("Runs", f"{len(of.runs.frame):,}")]
    facts += [("Seeds", format_seeds(of.plan.seeds))] if of.plan.seeds else []
    return Opening(of.plan.question, _counts(of), next(iter(pictures), None), cards, facts)


def _panels(of: TableResults, said: Sequence[str], pictures: Sequence[Picture]) -> list[Panel]:
    pooled = _pooled_tables(of)
    effects = {one.cell["experiment"]: one.smallest_effect for one in of.results}
    shares = effects if len(set(effects.values())) <= 3 else {}
    rule = RULE_TEXT.format(alpha=100 * of.plan.alpha, effect=effect_text(of.plan.smallest_effect, shares))
    tables = [*_family_tables(of), *pooled, *undecidable_tables(of.undecidable)]
    method = "\n\n".join([rule, POOLED_TEXT if pooled else ""])
    finding = _counts(of).rstrip(".")
    panels = [Panel("Verdicts", finding, "\n\n".join(said), tables, pictures[1:2], method, pictures[2:])]
    others = [one for name in of.plan.comparisons for one in _other_figures(of, name)]
    if others:
        finding = "Other figures of the same runs have intervals, but no verdicts"
        panels.append(Panel("Other figures", finding, tables=others))
    unpaired = [
        {"comparison": name_text(one.name), **one.cell, **_unpaired_row(one)} for one in of.results if any(one.unpaired)
    ]
    tables = [_made_table(of), *([table_of("Runs without a partner", unpaired)] if unpaired else [])]
    finding = f"Made of {len(of.runs.frame):,} runs in one table"
    return [*panels, Panel("How this was made", finding, MADE_TEXT, tables)]


def _family_tables(of: TableResults) -> list[Table]:
    is_named = "comparison" in of.plan.families
    return [
        table_of(
            family_title(name, results),
            (
                {**({} if is_named else {"comparison": name_text(one.name)}), **one.cell, **judged_row(one)}
                for one in results
            ),
        )
        for name, results in of.families.items()
    ]


def _pooled_tables(of: TableResults) -> list[Table]:
    groups = poolable(of.results, lambda one: one.name)
    rows = [{"comparison": name_text(name), **pooled_row(group)} for name, group in groups.items()]
    return [table_of("Pooled over experiments", rows)] if rows else []


def _other_figures(of: TableResults, name: str) -> list[Table]:
    there = {column: title for column, title in SHARES.items() if column in of.runs.frame and column != "accuracy"}
    if not there or not of.of(name):
        return []
    rows = (
        {**one.cell, **{title: difference_text(one, column) for column, title in there.items()}} for one in of.of(name)
    )
    return [table_of(f"{name_text(name)}: points (95 % interval)", rows)]


def _pictures(of: TableResults) -> Iterator[Picture]:
    for number, name in enumerate(of.plan.comparisons, start=1):
        results = [one for one in of.of(name) if one.comparison]
        first, title = name.split(" - ", 1)[0], name_text(name)
        if 0 < len(results) <= MOST_ROWS:
            caption = FOREST_CAPTION.format(name=title, first=first)
            yield Picture.of(f"forest-{number}", _forest(title, results), caption)
        by_effect: dict[float, list[TableResult]] = {}
        for one in results if len(results) <= MOST_ROWS_OF_SEEDS else ():
            by_effect.setdefault(one.smallest_effect, []).append(one)
        for place, (effect, group) in enumerate(by_effect.items(), start=1):
            drawn = figures.paired_differences(
                f"{title}, test accuracy",
                {one.cell["experiment"]: np.subtract(*paired(one.first, one.second)) for one in group},
                {one.cell["experiment"]: one.verdict.difference for one in group},
                effect,
                {},
                first,
            )
            yield Picture.of(f"seeds-{number}-{place}", drawn, PAIRED_CAPTION.format(name=title))


def _forest(title: str, results: Sequence[TableResult]) -> Figure:
    """A panel for each smallest effect, which is the same for all unless it is given in images."""
    panels: dict[str, dict[str, Mapping[str, Point]]] = {}
    negligible: dict[str, float] = {}
    effects = {one.smallest_effect for one in results}
    for one in results:
        panel = f"negligible: ±{100 * one.smallest_effect:.3g} points" if len(effects) > 1 else ""
        point = Point(one.verdict.difference, one.verdict.kind in (Kind.BETTER, Kind.WORSE))
        panels.setdefault(panel, {})[one.cell["experiment"]] = {title: point}
        negligible[panel] = one.smallest_effect
    return figures.forest(f"{title}, test accuracy", panels, [title], negligible)


def _unpaired_row(one: TableResult) -> Row:
    sides = zip(("only the first has", "only the second has"), one.unpaired, strict=True)
    return {heading: format_seeds(seeds) if seeds else "" for heading, seeds in sides}


def _made_table(of: TableResults) -> Table:
    runs, plan = of.runs, of.plan
    families = "families" if len(of.families) > 1 else "family"
    rows = {
        "file": Path(runs.path).name,
        "SHA-256 of the file": runs.digest,
        "runs": f"{len(runs.frame):,}",
        "experiments": f"{runs.frame['experiment'].nunique():,}",
        "variants": ", ".join(runs.frame["variant"].unique()),
        "columns that are not used": ", ".join(runs.ignored) or "none",
        "seeds that count": "all" if plan.seeds is None else format_seeds(plan.seeds),
        "tests": f"{len(of.results)} in {len(of.families)} {families}, by {', '.join(plan.families)}",
        "smallest effect of interest": str(plan.smallest_effect),
        "level of each family of tests": f"{plan.alpha:g}",
    }
    return "The table and how it is judged", [["what", "value"], *([name, value] for name, value in rows.items())]
