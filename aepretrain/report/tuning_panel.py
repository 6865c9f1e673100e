"""What tuning found: the panel of the page, and the same as files."""

import csv
import io
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import fields

from matplotlib.figure import Figure

from aepretrain import figures
from aepretrain.config import Settings, format_seeds
from aepretrain.records import Record
from aepretrain.report.findings import counted
from aepretrain.report.grid import setting_text
from aepretrain.report.panel import Panel, Picture
from aepretrain.report.table import Table, markdown_table, table_of
from aepretrain.tuning import VARIED, Trial, Tuning, arm_name, tunings

TEXT = (
    "An arm is a classifier with its network, augmentation, objective and number of labels. Every arm had the same "
    "number of trials over the same learning rates and weight decays. The first trial has the arm's own settings. "
    "Weight decay holds for pretraining too. The choice has the lowest validation loss, as a mean over tuning seeds. "
    "Tuning seeds are never judged. Test images choose nothing."
)
CAPTION = (
    "Dots: one trial each, the mean over tuning seeds. Ring: the choice, the lowest of its arm. Axes of losses differ."
)
MAX_TITLE = 36
"""Letters that fit above a panel."""

IN_THE_NAME = ("dataset", "objective", "labels", "updates", *VARIED)


def tuning_panel(records: Iterable[Record]) -> Panel | None:
    """Choices and trials of all arms that were tuned; None where none was."""
    found = tunings(records)
    if not found:
        return None
    groups: dict[str, list[Tuning]] = {}
    for one in found:
        groups.setdefault(_group(one), []).append(one)
    pictures = [
        Picture.of(f"tuning-{place}", _figure(of_group), f"{name}. {CAPTION}")
        for place, (name, of_group) in enumerate(groups.items(), 1)
    ]
    changed = sum(one.choice.number != 1 for one in found)
    finding = f"Tuning changed learning rate or weight decay of {counted(changed, len(found), 'arm')}"
    return Panel("Tuning", finding, "", [choices_table(found)], pictures[:1], TEXT, pictures[1:])


def _group(tuning: Tuning) -> str:
    """What the arms of one picture share: ``mnist, fc, 1,000 labels, seeds 1000000-1000001``."""
    settings = tuning.arm.settings
    labels = f"{settings.labels:,} labels" if settings.labels else "all labels"
    return f"{settings.dataset}, {tuning.arm.network}, {labels}, {_way(tuning)}"


def _way(tuning: Tuning) -> str:
    return f"{tuning.num_trials} trials on seeds {format_seeds(tuning.seeds)}"


def _figure(of_group: Sequence[Tuning]) -> Figure:
    names = {_title(one): one for one in of_group}
    arms = {name: [_point(trial) for trial in one.trials] for name, one in names.items()}
    return figures.trials(arms, {name: _point(one.choice) for name, one in names.items()})


def _point(trial: Trial) -> tuple[float, float, float]:
    return trial.cls_lr, trial.weight_decay, trial.loss


def _title(tuning: Tuning) -> str:
    """The title of a panel: what differs between the arms of one picture."""
    arm, identity = tuning.arm, tuning.arm.identity()
    objective = [identity.get("objective", Settings.objective)] if "pretrain" in arm.sources else []
    augmentation = [f"augmentation {arm.augmentation}"] if arm.augmentation != "none" else []
    return "\n".join([", ".join([arm.variant, *objective]), *augmentation, *textwrap.wrap(_further(tuning), MAX_TITLE)])


def _further(tuning: Tuning) -> str:
    """The arm's settings that are not at their default, besides those in its name."""
    identity = tuning.arm.identity()
    return ", ".join(
        f"{one.name} {setting_text(identity[one.name])}"
        for one in fields(Settings)
        if one.name in identity and one.name not in IN_THE_NAME and identity[one.name] != one.default
    )


def choices_table(found: Sequence[Tuning]) -> Table:
    """The choice of each arm."""
    rows = []
    for one in found:
        choice, first = one.choice, one.trials[0]
        row = {
            "dataset": one.arm.settings.dataset,
            "arm": arm_name(one.arm),
            "other settings": _further(one),
            "learning rate": f"{choice.cls_lr:g}",
            "weight decay": f"{choice.weight_decay:g}",
            "validation loss": f"{choice.loss:.4f}",
            "at its own settings": f"{first.loss:.4f}" if first.number == 1 else "failed",
            "trials": f"{len(one.trials)}" + (f" of {one.num_trials}" if len(one.trials) < one.num_trials else ""),
            "seeds": format_seeds(one.seeds),
        }
        rows.append(row)
    if not any(row["other settings"] for row in rows):
        rows = [{name: text for name, text in row.items() if name != "other settings"} for row in rows]
    return table_of("The choice of each arm", rows)


def choices_markdown(found: Sequence[Tuning]) -> str:
    """The choice of each arm, as Markdown."""
    return markdown_table(choices_table(found))


def tuning_files(found: Sequence[Tuning]) -> dict[str, bytes]:
    """Trials and choices as files, by name: CSV, Markdown."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("dataset", "arm", "other_settings", "trial", "cls_lr", "weight_decay", "mean_best_val_loss", "is_choice")
    writer.writerow(names)
    for one in found:
        for trial in one.trials:
            cell = (one.arm.settings.dataset, arm_name(one.arm), _further(one), trial.number)
            writer.writerow((*cell, trial.cls_lr, trial.weight_decay, trial.loss, trial == one.choice))
    return {"trials.csv": text.getvalue().encode(), "choices.md": f"{choices_markdown(found)}\n".encode()}
