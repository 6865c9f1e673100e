"""Reading a plan file: each value is checked, and what is wrong is one line with file, line and key."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin

from aepretrain.config import ALLOWED_EFFECT, CORRUPTIONS, Settings, SmallestEffect, parse_effect, parse_seeds
from aepretrain.errors import UsageError
from aepretrain.plans.lines import Problem, located, read_document, shown, within
from aepretrain.plans.plan import COMPARED, FAMILIES, FIRST_TUNING_SEED, SAME_CORRUPTION, Plan, Tuned
from aepretrain.plans.results_plan import ResultsPlan

Convert = Callable[[Any], Any]
"""From a value of the file, a checked value. Raises `Problem`."""


def read_plan(path: str | Path) -> Plan:
    """The plan in a YAML file. Raises `UsageError`, naming file, line and key."""
    document = read_document(path)
    with located(path, document):
        values = _record(document.content, KEYS, OPTIONAL)
        compared = values.pop("comparisons")
        plan = Plan(name=Path(path).stem, path=str(path), source=document.source, compared=compared, **values)
        _check_parts(plan)
    return plan


def read_results_plan(path: str | Path) -> ResultsPlan:
    """The plan for a table of runs in a YAML file. Raises `UsageError`, naming file, line and key."""
    document = read_document(path)
    with located(path, document):
        return ResultsPlan(**_record(document.content, RESULTS_KEYS, {"seeds": _seeds}))


def _refuse(value: Any, allowed: str) -> NoReturn:
    raise Problem(f"{shown(value)} is not allowed: it must be {allowed}")


def _record(value: Any, required: Mapping[str, Convert], optional: Mapping[str, Convert]) -> dict[str, Any]:
    """A mapping with these keys, each value converted."""
    known = {**required, **optional}
    if not isinstance(value, dict):
        _refuse("" if value is None else value, f"keys and values, with the keys {', '.join(required)}")
    for key in value:
        if key not in known:
            raise Problem(f"this key is not known: it must be one of {', '.join(known)}", key)
    for key in required:
        if key not in value:
            raise Problem(f"the key {key} is missing")
    found = {}
    for key, one in value.items():
        with within(key):
            found[key] = known[key](one)
    return found


def _text(value: Any) -> str:
    text = " ".join(value.split()) if isinstance(value, str) else ""
    if not (text.isprintable() and 1 <= len(text) <= 500):
        _refuse(value, "a text of 1 to 500 characters")
    return text


def _number(low: float, high: float, allowed: str) -> Convert:
    def convert(value: Any) -> float:
        number = _as_float(value)
        return number if low < number < high else _refuse(value, allowed)

    return convert


def _effect(value: Any) -> SmallestEffect:
    try:
        return parse_effect(value if isinstance(value, str) else "")
    except UsageError:
        _refuse(value, ALLOWED_EFFECT)


def _as_float(value: Any) -> float:
    """A text as a number; not a number where it is none."""
    is_number = isinstance(value, str) and re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", value, re.ASCII)
    return float(value) if is_number else math.nan


def _integer(value: Any) -> int | None:
    """A text as an integer; None where it is none."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"\d{1,18}", value, re.ASCII) else None


def _count(least: int) -> Convert:
    def convert(value: Any) -> int:
        number = _integer(value)
        return number if number is not None and number >= least else _refuse(value, f"an integer >= {least}")

    return convert


def _one_of(known: tuple[str, ...]) -> Convert:
    def convert(value: Any) -> Any:
        return value if value in known else _refuse(value, f"one of {', '.join(known)}")

    return convert


def _name(value: Any) -> Any:
    is_name = isinstance(value, str) and value.replace("-", "_").isidentifier()
    return value if is_name else _refuse(value, "a name of letters, digits, _ and -")


def _dataset(value: Any) -> Any:
    try:
        return Settings(dataset=value if isinstance(value, str) else "").dataset
    except UsageError:
        return _refuse(value, "a dataset's name, folder:PATH, npz:PATH or parquet:PATH")


def _list_of(convert: Convert) -> Convert:
    """A list with at least one entry, each once."""

    def convert_all(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or not value:
            _refuse("an empty list" if value == [] else value, "a list with at least one entry, like [a, b]")
        found: list[Any] = []
        for number, one in enumerate(value):
            with within(number):
                entry = convert(one)
                if entry in found:
                    raise Problem(f"{shown(one)} is there twice")
            found.append(entry)
        return tuple(found)

    return convert_all


def _seeds(value: Any) -> tuple[int, ...]:
    try:
        return tuple(sorted(parse_seeds(value if isinstance(value, str) else "")))
    except UsageError:
        return _refuse(value, "seeds like 0-19 or 0,3,7")


def _judged_seeds(value: Any) -> tuple[int, ...]:
    seeds = _seeds(value)
    below = f"seeds below {FIRST_TUNING_SEED}, as those from there on are for tuning"
    return seeds if seeds[-1] < FIRST_TUNING_SEED else _refuse(value, below)


def _tuning_seeds(value: Any) -> tuple[int, ...]:
    seeds = _seeds(value)
    from_there = f"seeds from {FIRST_TUNING_SEED} on, as those below are judged"
    return seeds if seeds[0] >= FIRST_TUNING_SEED else _refuse(value, from_there)


def _networks(value: Any) -> dict[str, tuple[int, ...]]:
    if not isinstance(value, dict) or not value:
        _refuse("an empty mapping" if value == {} else value, "names of networks with their seeds, like fc: 0-19")
    for network in value:
        if not network.isidentifier():
            raise Problem("a network's name has only letters, digits and _", network)
    return _record(value, {}, dict.fromkeys(value, _judged_seeds))


def _labels(value: Any) -> int:
    if value == "all":
        return 0
    try:
        labels = Settings(labels=_integer(value) or -1).labels
    except UsageError:
        _refuse(value, "all or an integer from 10 on")
    return labels


def _comparison(value: Any) -> str:
    first, _, second = value.partition(" - ") if isinstance(value, str) else ("", "", "")
    if not (first in COMPARED and second in COMPARED and first != second):
        _refuse(value, f"two of {', '.join(COMPARED)} with - between them, like finetune - scratch")
    return f"{first} - {second}"


def _pair_of_variants(value: Any) -> str:
    first, _, second = _text(value).partition(" - ")
    if not first.strip() or not second.strip() or first.strip() == second.strip():
        _refuse(value, "two variants with - between them, like pretrained - scratch")
    return f"{first.strip()} - {second.strip()}"


def parse_comparison(text: str) -> str:
    """Two variants of a table, from a text like ``pretrained - scratch``. Raises `UsageError`."""
    try:
        return _pair_of_variants(text)
    except Problem as problem:
        raise UsageError(f"compare={text!r}: {problem.message}") from None


OF_THE_PLAN = ("dataset", "objective", "labels", "updates")
"""Fields of `Settings` that a plan has keys of its own for."""


def _settings(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        _refuse(value, "options of `aepretrain grid` with their values, or {}")
    known = {one.name: one for one in fields(Settings) if one.name not in OF_THE_PLAN}
    found: dict[str, Any] = {}
    for key, one in value.items():
        name = key.replace("-", "_")
        with within(key):
            if name not in known:
                raise Problem(f"this is no option that a plan can set: it must be one of {', '.join(known)}")
            if name in found:
                raise Problem("this option is there twice")
            found[name] = _setting(known[name], one)
    try:
        Settings(**found)
    except UsageError as error:
        raise Problem(str(error)) from None
    return found


def _setting(option: Field[Any], value: Any) -> Any:
    """The value of an option, as its type and its check allow."""
    is_pair = get_origin(option.type) is tuple
    types = get_args(option.type) or (option.type,)
    converted: Any = value
    if is_pair:
        converted = tuple(map(_as_float, value)) if isinstance(value, list) and len(value) == 2 else None
    elif bool in types:
        converted = {"true": True, "false": False}.get(value) if isinstance(value, str) else None
    elif float in types:
        converted = _as_float(value)
    elif int in types:
        converted = _integer(value)
    if not isinstance(converted, str | int | float | tuple):
        _refuse(value, option.metadata["allowed"])
    given: dict[str, Any] = {option.name: converted}
    try:
        return getattr(Settings(**given), option.name)
    except UsageError:
        _refuse(value, option.metadata["allowed"])


def _tuned(value: Any) -> Tuned:
    keys = {"networks": _list_of(_name), "seeds": _tuning_seeds, "trials": _count(1)}
    return Tuned(**_record(value, keys, {}))


KEYS: Mapping[str, Convert] = {
    "question": _text,
    "smallest_effect": _effect,
    "alpha": _number(0, 1, "a number between 0 and 1, like 0.05"),
    "datasets": _list_of(_dataset),
    "networks": _networks,
    "augmentations": _list_of(_name),
    "objectives": _list_of(_name),
    "labels": _list_of(_labels),
    "comparisons": _list_of(_comparison),
    "families": _list_of(_one_of(FAMILIES)),
}
RESULTS_KEYS: Mapping[str, Convert] = {
    **{name: KEYS[name] for name in ("question", "smallest_effect", "alpha")},
    "comparisons": _list_of(_pair_of_variants),
    "families": _list_of(_text),
}
OPTIONAL: Mapping[str, Convert] = {"updates": _count(1), "settings": _settings, "tuned": _tuned}


def _check_parts(plan: Plan) -> None:
    """Check what several keys together must fulfil."""
    if any(plan.labels) and not plan.updates:
        raise Problem("the key updates is missing: classifiers with few labels are trained for a number of steps")
    has_corruption = "none" in plan.augmentations and set(plan.objectives) & set(CORRUPTIONS)
    for number, comparison in enumerate(plan.compared):
        if SAME_CORRUPTION in comparison and not has_corruption:
            wanted = f"the augmentation none and one of the objectives {', '.join(CORRUPTIONS)}"
            raise Problem(f"{comparison} is not allowed: it needs {wanted}", "comparisons", number)
    for number, network in enumerate(plan.tuned.networks if plan.tuned else ()):
        if network not in plan.networks:
            allowed = f"one of the plan's networks, {', '.join(plan.networks)}"
            raise Problem(f"{shown(network)} is not allowed: it must be {allowed}", "tuned", "networks", number)
