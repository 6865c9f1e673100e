"""The names of what a training is made of, and how a user's own modules add to them.

One mechanism for networks, datasets, augmentations and variants: each of their packages has a `Registry`, and its
`register` is what a plugin calls. What is registered has been tried with a few made-up images, and the source text of
its module becomes part of the keys of the trainings that use it.
"""

import hashlib
import inspect
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from aepretrain.errors import UsageError

T = TypeVar("T")


class Registry(Generic[T]):
    """The known things of one kind, by name: those built in, and those added by `register`.

    `check` tries a new thing, and raises `UsageError`, or whatever the thing itself raises, where it is of no use.
    """

    def __init__(self, kind: str, built_in: Mapping[str, T], check: Callable[[T], None]) -> None:
        self.kind = kind
        self._check = check
        self._things = dict(built_in)
        self._digests: dict[str, str] = {}

    def register(self, name: str, thing: T) -> None:
        """Make a thing known under a name. Registering the same one again does nothing.

        Raises `UsageError` where the name is taken or is not made of letters, digits and ``_``, where the thing is of
        no use, and where its source text cannot be had, as in an interactive session.
        """
        what = f"{self.kind} {name!r}"
        if not (isinstance(name, str) and name.isidentifier()):
            raise UsageError(
                f"{self.kind} name {name!r} is not allowed: use letters, digits and _, not beginning with a digit"
            )
        if name in self._things:
            if self._things[name] is not thing:
                raise UsageError(f"{self.kind} name {name!r} is taken by {self._owner(name)}: choose another")
            return
        if multiprocessing.parent_process() is None:  # a worker trusts what the process that made it has tried
            try:
                self._check(thing)
            except UsageError as error:
                raise UsageError(f"{what}: {error}") from None
            except Exception as error:
                told = " ".join(str(error).split())[:300]
                raise UsageError(f"{what} fails when it is tried: {type(error).__name__}: {told}") from error
        self._digests[name] = _source_digest(thing, what)
        self._things[name] = thing

    def look_up(self, name: str) -> T:
        """The thing of a name. Raises `UsageError`, listing the known names."""
        if name not in self._things:
            raise UsageError(f"{self.kind}={name!r} is not known: it must be one of {', '.join(self._things)}")
        return self._things[name]

    def definition_digest(self, name: str) -> str | None:
        """SHA-256 of the source text of the module that defines what was registered; None for what is built in.

        (The schema number covers that.) Raises `UsageError` for an unknown name.
        """
        self.look_up(name)
        return self._digests.get(name)

    def _owner(self, name: str) -> str:
        if name not in self._digests:
            return f"a built-in {self.kind}"
        thing: Any = self._things[name]
        return f"{thing.__module__}.{thing.__qualname__}"


def definitions(registries: Iterable[tuple[Registry[Any], str]]) -> dict[str, str]:
    """The digests, by kind, of those of these names that a user registered. Raises `UsageError` for an unknown one."""
    found = {registry.kind: registry.definition_digest(name) for registry, name in registries}
    return {kind: digest for kind, digest in found.items() if digest is not None}


def require(holds: bool, complaint: str) -> None:
    """Raise `UsageError` with this complaint where something about a plugin does not hold."""
    if not holds:
        raise UsageError(complaint)


def require_subclass(thing: object, base: type) -> None:
    """Raise `UsageError` where a thing is not a class made from `base`."""
    told = thing.__qualname__ if isinstance(thing, type) else " ".join(repr(thing).split())[:60]
    require(isinstance(thing, type) and issubclass(thing, base), f"{told} is not a subclass of {base.__qualname__}")


def _source_digest(thing: object, what: str) -> str:
    """What the keys of trainings say of a definition: its whole module, for parts of it may use each other."""
    try:
        module = sys.modules[thing.__module__]
        return hashlib.sha256(inspect.getsource(module).encode()).hexdigest()
    except (AttributeError, KeyError, OSError, TypeError):
        raise UsageError(f"{what} is not defined in a file: put it into a module") from None
