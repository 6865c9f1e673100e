"""Commands whose help has sections, and whose messages name options as they are typed."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import click
from click.core import ParameterSource

from aepretrain.config import Execution, Settings
from aepretrain.errors import UsageError

_PARTS = {"dataset": "Images", "erase_scale": "Random erasing", "batch_size": "Training", "objective": "Pretraining"}
"""The first setting of each section, in the order of `Settings`."""


def _of_settings() -> Mapping[str, Sequence[str]]:
    """The settings in each section."""
    sections: dict[str, list[str]] = {}
    title = ""
    for one in fields(Settings):
        title = _PARTS.get(one.name, title)
        sections.setdefault(title, []).append(one.name)
    return sections


_WHAT = ("network", "networks", "augmentation", "augmentations", "objectives", "datasets", "seed", "seeds", "variants")
_SETTINGS = _of_settings()

SECTIONS: Mapping[str, Sequence[str]] = {
    "What to train": (*_WHAT, "tuned", "trials"),
    **_SETTINGS,
    "Training": ("epochs", *_SETTINGS["Training"]),
    "How to train": (*(one.name for one in fields(Execution) if one.name != "plugins"), "cluster", "resources"),
}
"""The options in each section of a command's help, by the names of their parameters. All others come last."""

LAST = "Other options"


class Command(click.Command):
    """A command whose usage errors name options, like ``--batch-size``, where the API names arguments."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Raises `UsageError`."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            raise UsageError(_with_options(str(error), ctx)) from error

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of each section; without titles where there is one section only."""
        of_section: dict[str, list[tuple[str, str]]] = {title: [] for title in (*SECTIONS, LAST)}
        for one in self.get_params(ctx):
            title = next((title for title, names in SECTIONS.items() if one.name in names), LAST)
            if (record := one.get_help_record(ctx)) is not None:
                of_section[title].append(record)
        filled = {title: records for title, records in of_section.items() if records}
        for title, records in filled.items():
            with formatter.section(title if len(filled) > 1 else "Options"):
                formatter.write_dl(records)


class Group(click.Group):
    """The group of all commands, whose help lists them by section."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.sections: dict[str, Sequence[str]] = {}

    def add_section(self, title: str, commands: Sequence[click.Command]) -> None:
        """Add commands under a title, in this order."""
        for one in commands:
            self.add_command(one)
        self.sections[title] = [str(one.name) for one in commands]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's
        """Write each section's commands with their first sentences."""
        longest = max(map(len, self.commands))
        room = formatter.width - longest - 6
        for title, names in self.sections.items():
            rows = [(name.ljust(longest), self.commands[name].get_short_help_str(room)) for name in names]
            with formatter.section(title):
                formatter.write_dl(rows)


def _with_options(message: str, ctx: click.Context) -> str:
    """A message that begins with an argument, like ``batch_size=0``, with options in place of all arguments.

    Others are about something else, as about a line of a plan.
    """
    flags = {"ae_epochs": "--epochs", "cls_epochs": "--epochs"}
    for one in ctx.command.params:
        name = one.opts[-1].removeprefix("--").replace("-", "_")
        was_typed = ctx.get_parameter_source(str(one.name)) is ParameterSource.COMMANDLINE
        if isinstance(one, click.Option) and (was_typed or name not in flags):
            flags[name] = one.opts[-1]
    start = re.match(r"(\w+)=", message)
    if not start or start[1] not in flags:
        return message
    return re.sub(r"\w+_\w+|\w+(?==)", lambda found: flags.get(found[0], found[0]), message)
