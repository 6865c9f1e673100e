"""The report: the answer with its statistics, as a page."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aepretrain import report, runner, tracking
from aepretrain.api.stores import BUNDLE_OR_STORE, check_settings, log_result, open_store, other_uri, read_bundle
from aepretrain.config import SMALLEST_EFFECT, SmallestEffect, dataset_name, parse_effect
from aepretrain.errors import UsageError
from aepretrain.files import check_folder, write_files
from aepretrain.frame import frame
from aepretrain.plans import Plan, ResultsPlan, parse_comparison, read_plan, read_results_plan
from aepretrain.records import Archive, Record, of_newest_images
from aepretrain.studies import PANELS


@dataclass(frozen=True, repr=False)
class Report:
    """The answer, and its page as files. A notebook shows the answer."""

    answer: report.Answer | None
    """The grid's; None where the report is of plans, and none of them is the source's grid or nothing is finished."""
    plans: Sequence[report.PlanResults]
    files: Mapping[str, bytes]
    """``report.html``, ``report.md``, ``answer.md`` and pictures, by path."""
    of_table: report.TableResults | None = None
    """The verdicts on a table of other people's runs, where the report is of one."""

    def __repr__(self) -> str:
        if self.of_table is not None:
            return "\n\n".join(report.results_paragraphs(self.of_table))
        return report.answer_text(self.answer, self.plans)

    def _repr_markdown_(self) -> str:
        return self.files["answer.md"].decode()


def make_report(
    *,
    plans: Sequence[str | Path] = (),
    bundle: str | Path | None = None,
    results: str | Path | None = None,
    compare: Sequence[str] = (),
    smallest_effect: float | str | None = None,
    tracking_uri: str | None = None,
    out: str | Path | None = None,
    run_id: str | None = None,
    **settings: Any,
) -> Report:
    """The report about the finished trainings of a store, or of the bundle in a folder, studies included.

    With `results` it is about a table of other people's runs, a CSV or Parquet file with the columns experiment,
    variant, seed and accuracy; then no store is read. It is judged by a plan for tables (`read_results_plan`), else by
    `compare` (texts like ``pretrained - scratch``; not needed for two variants) and `smallest_effect`.

    `plans` are YAML files: their comparisons are judged by their own rules, and the grid is that of the first plan that
    is the source's grid. Without plans, the grid is that of the trainings with these `settings` (fields of `Settings`),
    and differences below `smallest_effect` count as negligible: a number (by default 0.001) or a text like
    ``10 images``. The page of a store is logged there too: to `run_id`, else to the run of most trainings, if it is
    still there.
    """
    check_folder(out)
    if results is not None:
        elsewhere = {"bundle": bundle, "tracking_uri": tracking_uri, "run_id": run_id, **settings}
        return _written(_report_of_table(results, plans, compare, smallest_effect, elsewhere), out)
    if compare:
        raise UsageError("compare is only allowed with results: trainings are compared as a plan says")
    wanted, read = check_settings(settings), [read_plan(plan) for plan in plans]
    given = wanted | ({} if smallest_effect is None else {"smallest_effect": smallest_effect})
    if read and given:
        listed = ", ".join(f"{name}={value!r}" for name, value in given.items())
        raise UsageError(f"{listed}: a report of plans has the settings of the plans")
    effect = parse_effect(SMALLEST_EFFECT if smallest_effect is None else smallest_effect)
    if len({report.file_name(plan) for plan in read}) < len(read):
        raise UsageError(f"plans={', '.join(map(str, plans))}: several have the same name")
    if bundle is not None:
        if tracking_uri is not None:
            raise UsageError(BUNDLE_OR_STORE)
        kept = read_bundle(bundle)
        return _written(_report(kept.records(), kept, wanted, effect, read), out)
    store = open_store(tracking_uri, run_id)
    made = _written(_report(_records(store, wanted, read), store, wanted, effect, read), out)
    if run_id is not None:
        log_result(store, run_id, "report", repr(made), made.files)
    else:
        _log_to_grid(store, made)
    return made


def _report_of_table(
    path: str | Path,
    plans: Sequence[str | Path],
    compare: Sequence[str],
    smallest_effect: float | str | None,
    elsewhere: Mapping[str, Any],
) -> Report:
    """The report of a table of runs. Raises `UsageError` for options that have no meaning there."""
    for name, value in elsewhere.items():
        if value is not None:
            raise UsageError(
                f"{name}={value!r} is not allowed with results: a table of runs has no store and no settings"
            )
    if len(plans) > 1 or (plans and (compare or smallest_effect is not None)):
        raise UsageError("results are judged by one plan, or by compare and smallest_effect")
    if plans:
        plan = read_results_plan(plans[0])
    else:
        effect = parse_effect(SMALLEST_EFFECT if smallest_effect is None else smallest_effect)
        plan = ResultsPlan(comparisons=tuple(map(parse_comparison, compare)), smallest_effect=effect)
    judged = report.judge_runs(plan, report.read_runs(path))
    return Report(None, (), report.results_files(judged), judged)


def _written(made: Report, out: str | Path | None) -> Report:
    if out is not None:
        write_files(Path(out), made.files)
    return made


def _records(store: tracking.Store, wanted: Mapping[str, Any], plans: Sequence[Plan]) -> dict[str, Record]:
    """The store's finished trainings with these settings, or on the datasets of the plans."""
    filters = [{"dataset": dataset_name(dataset)} for plan in plans for dataset in plan.datasets] or [dict(wanted)]
    found: dict[str, Record] = {}
    for one in {str(one): one for one in filters}.values():
        found |= store.records(one)
    return found


def check_match(wanted: Mapping[str, Any], records: Mapping[str, Record]) -> None:
    """Raise `UsageError` where grids have classifiers, of `records`, but none has the wanted settings."""
    report.check_match(report.in_table(report.choose(frame(records.values()), {})), wanted)


def _report(
    records: Mapping[str, Record],
    archive: Archive,
    wanted: Mapping[str, Any],
    effect: SmallestEffect,
    plans: Sequence[Plan],
) -> Report:
    records = of_newest_images(records)
    table = frame(records.values())
    num_images = report.count_test_images(records.values(), archive)
    place = report.place_of(records.values(), other_uri(archive.uri) if isinstance(archive, tracking.Store) else None)
    results = [report.judge_plan(plan, table, records, num_images) for plan in plans]
    chosen = report.narrow(report.choose(table, wanted))
    if wanted and report.in_table(chosen).empty:
        check_match(wanted, archive.records())
    asked: Sequence[report.Experiment] = ()
    terms = None
    if plans:
        of_grid = next((of for of in results if report.is_source_grid(of.plan)), None)
        if of_grid is None or (chosen := report.grid_of_plan(of_grid)).empty:
            page = report.build_page(None, records, archive, (), (), results, place)
            return Report(None, results, report.page_files(None, page, results))
        asked, terms, records = report.EXPERIMENTS, report.terms_of(of_grid), _of_seeds(records, of_grid.plan)
    grid = report.build_grid(chosen, asked)
    terms = terms or report.Terms(effect.share(num_images.get(grid.dataset), grid.dataset))
    answer = report.build_answer(grid, lambda key: archive.outcomes(records[key]), terms)
    shown = shown_records([records[key] for key in chosen["key"]], records.values(), archive)
    page = report.build_page(answer, records, archive, shown, PANELS, results, place)
    return Report(answer, results, report.page_files(answer, page, results))


def _of_seeds(records: Mapping[str, Record], plan: Plan) -> dict[str, Record]:
    """The trainings of a plan's networks and seeds, those of studies too."""
    return {key: one for key, one in records.items() if one.seed in plan.networks.get(one.cell[0], ())}


def shown_records(records: Sequence[Record], everything: Iterable[Record], archive: Archive) -> list[Record]:
    """The trainings whose own figures are shown: selected classifiers, their pretrainings, and maps of their codes."""
    selected = runner.select(records)
    pretrainings = {record.tags.get("pretraining_key") for record in selected}
    similarities = [record for record in everything if record.cell[2] == "similarity"]
    mapped = [code_maps_of(record, similarities, archive) for record in selected if record.cell[2] == "finetune"]
    return [
        *(record for record in records if record.key in pretrainings),
        *(record for record in mapped if record is not None),
        *selected,
    ]


def code_maps_of(wanted: Record, similarities: Iterable[Record], archive: Archive) -> Record | None:
    """The similarity evaluation with maps of codes that has the wanted settings: of the same seed, else the lowest."""
    any_seed = {"variant": None, "seed": None}
    alike = [one for one in similarities if dict(one.identity) | any_seed == dict(wanted.identity) | any_seed]
    alike.sort(key=lambda one: (one.seed != wanted.seed, one.seed))
    return next((one for one in alike if archive.has_artifact(one, "figures/code_maps.png")), None)


def _log_to_grid(store: tracking.Store, made: Report) -> None:
    """Log the page to that parent run of most trainings which is still there, unless it is another user's."""
    of_plans = [one.parent_run_id for of in made.plans for one in of.records.values()]
    of_grid = made.answer.grid.trainings["parent_run_id"].tolist() if made.answer else []
    parents = Counter(filter(None, of_grid or of_plans)).most_common()
    run_id = next((run_id for run_id, _ in parents if store.has_run(run_id)), None)
    if run_id is not None:
        parent = tracking.Run(store, run_id)
        with tracking.where_possible():
            parent.log_files(made.files)
            where = f"`results/report.html` among the artifacts of {tracking.run_link('this run', parent.run_id)}"
            parent.describe_experiment(f"{made!r}\n\nThe whole report is {where}.")
