"""The report: the answer with its statistics, as a page."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aepretrain import report, runner, tracking
from aepretrain.api.stores import check_settings, log_result, open_store
from aepretrain.config import NETWORKS, SMALLEST_EFFECT
from aepretrain.errors import UsageError
from aepretrain.files import check_folder, write_files
from aepretrain.frame import frame
from aepretrain.records import Archive, Record
from aepretrain.studies import PANELS


@dataclass(frozen=True, repr=False)
class Report:
    """The answer, and its page as files. A notebook shows the answer."""

    answer: report.Answer
    files: Mapping[str, bytes]
    """``report.html``, ``report.md``, ``answer.md`` and pictures, by path."""

    def __repr__(self) -> str:
        return report.sentences(self.answer)

    def _repr_markdown_(self) -> str:
        return self.files["answer.md"].decode()


def make_report(
    *,
    bundle: str | Path | None = None,
    smallest_effect: float = SMALLEST_EFFECT,
    planned_seeds: Mapping[str, int] | None = None,
    tracking_uri: str | None = None,
    out: str | Path | None = None,
    run_id: str | None = None,
    **settings: Any,
) -> Report:
    """The report about the finished trainings of a store, or of the bundle in a folder, studies included.

    Differences below `smallest_effect` count as equivalent. `planned_seeds` are the numbers of seeds that were fixed
    before looking, by network, for few labels as ``labels:NETWORK``: until all are finished, verdicts are interim.
    `settings` are fields of `Settings` that the grid has. The page of a store is logged there too: to `run_id`, else
    to the run of the grid.
    """
    check_folder(out)
    wanted, plan = check_settings(settings), _plan(smallest_effect, planned_seeds or {})
    if bundle is not None:
        if not os.path.isdir(bundle):
            raise UsageError(f"bundle={str(bundle)!r} is not a folder")
        kept = tracking.read_bundle(Path(bundle))
        return _written(_report(kept.records(), kept, wanted, plan), out)
    store = open_store(tracking_uri, run_id)
    made = _written(_report(store.records(wanted), store, wanted, plan), out)
    if run_id is not None:
        log_result(store, run_id, "report", repr(made), made.files)
    else:
        _log_to_grid(store, made)
    return made


def _written(made: Report, out: str | Path | None) -> Report:
    if out is not None:
        write_files(Path(out), made.files)
    return made


def _plan(smallest_effect: float, planned_seeds: Mapping[str, int]) -> report.Plan:
    if not 0 < smallest_effect < 1:
        raise UsageError(f"smallest_effect={smallest_effect!r} is not allowed: it must be a number between 0 and 1")
    for name, num in planned_seeds.items():
        if num < 1:
            raise UsageError(f"planned_seeds has {num} for {name}: it must be 1 or more")
    few_labels = {name: num for name, num in planned_seeds.items() if name.startswith("labels:")}
    grid = {name: num for name, num in planned_seeds.items() if name not in few_labels}
    return report.Plan(smallest_effect, grid, {name.removeprefix("labels:"): num for name, num in few_labels.items()})


def _report(records: Mapping[str, Record], archive: Archive, wanted: Mapping[str, Any], plan: report.Plan) -> Report:
    chosen = report.choose(frame(records.values()), wanted)
    grid = report.build_grid(chosen)
    planned = plan.num_seeds.keys() | plan.num_label_seeds.keys()
    if unknown := planned - {network for network, _ in grid.experiments} - set(NETWORKS):
        raise UsageError(f"planned_seeds has network {sorted(unknown)[0]!r}, of which nothing is finished")
    answer = report.build_answer(grid, lambda key: archive.outcomes(records[key]), plan)
    shown = shown_records([records[key] for key in chosen["key"]], records.values(), archive)
    page = report.build_page(answer, records, archive, shown, PANELS)
    return Report(answer, report.page_files(answer, page))


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
    """Log the page to the parent run of most trainings, unless a server with permissions says it is another user's."""
    parents = Counter(made.answer.grid.trainings["parent_run_id"].dropna())
    if parents:
        parent = tracking.Run(store, parents.most_common(1)[0][0])
        with tracking.where_allowed():
            parent.log_files(made.files)
            where = f"`results/report.html` among the artifacts of {tracking.run_link('this run', parent.run_id)}"
            parent.describe_experiment(f"{made.files['answer.md'].decode()}\nThe whole report is {where}.")
