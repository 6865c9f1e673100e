"""Commands of this program as text that can be pasted into a shell."""

import shlex
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from aepretrain.config.images import source_of
from aepretrain.config.settings import Settings


def command_text(words: str, options: Mapping[str, Any]) -> str:
    """``aepretrain tune --network fc --lr 0.01``, from the words that it begins with and its options.

    A list repeats its option, a pair is one value. An option whose value is None is left out.
    """
    given = [
        (f"--{name.replace('_', '-')}", ",".join(map(str, one)) if isinstance(one, tuple) else str(one))
        for name, value in options.items()
        for one in (value if isinstance(value, list) else [value])
        if one is not None
    ]
    return " ".join([words, *(f"{flag} {shlex.quote(value)}" for flag, value in given)])


def changed_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings that are not at their default, in the order of `Settings`."""
    return {
        one.name: settings[one.name]
        for one in fields(Settings)
        if settings.get(one.name) is not None and settings[one.name] != one.default
    }


def dataset_option(dataset: str, source: str | None) -> str:
    """A dataset's name as its option takes it: ``folder:pets`` with the path that it was read from."""
    named = source_of(dataset)
    return f"{named[0]}:{source}" if named and source else dataset
