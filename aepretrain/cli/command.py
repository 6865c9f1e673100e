"""A command that names options in its messages as they are typed."""

import re
from typing import Any

import click
from click.core import ParameterSource

from aepretrain.errors import UsageError


class Command(click.Command):
    """A command whose usage errors name options, like ``--batch-size``, where the API names arguments."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Raises `UsageError`."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            raise UsageError(_with_options(str(error), ctx)) from error


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
