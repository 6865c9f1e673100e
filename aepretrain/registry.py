"""The mechanism by which networks, datasets, augmentations, objectives and variants are known by name.

What is built in and what a plugin adds are things of the same kind. The source text of a plugin's module becomes part
of the keys of the trainings that use its thing. The schema number covers what is built in.
"""

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from aepretrain.errors import UsageError

T = TypeVar("T")


class Registry(Generic[T]):
    """All things of one kind by name: first those built in, then those added by `register`.

    `check` looks at a new thing and raises `UsageError`, or whatever the thing itself raises, where it is of another
    kind. Whether it works is tried before it is used (`try_out`).
    `definition` gives the class or function whose module defines a thing (by default the thing itself), or a text that
    is the whole definition.
    """

    def __init__(
        self,
        kind: str,
        built_in: Mapping[str, T],
        check: Callable[[T], None],
        definition: Callable[[T], object] = lambda thing: thing,
    ) -> None:
        self.kind = kind
        self._check, self._definition = check, definition
        self._things = dict(built_in)
        self._digests: dict[str, str] = {}

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self._things)

    def register(self, name: str, thing: T) -> None:
        """Add a thing under a name. Registering the same thing again does nothing.

        Raises `UsageError` where the name is taken or is not made of letters, digits and ``_``, where the check of the
        thing fails, and where its source text cannot be read, as in an interactive session.
        """
        label = f"{self.kind} {name!r}"
        if not (isinstance(name, str) and name.isidentifier()):
            raise UsageError(
                f"{self.kind} name {name!r} is not allowed: use letters, digits and _, not beginning with a digit"
            )
        if name in self._things:
            if self._things[name] != thing:
                raise UsageError(f"{self.kind} name {name!r} is taken by {self._owner(name)}: choose another")
            return
        self._try(lambda: self._check(thing), label)
        self._digests[name] = _definition_digest(self._definition(thing), label)
        self._things[name] = thing

    def try_out(self, name: str, trial: Callable[[T], None]) -> None:
        """Call a trial with the thing of a name. Raises `UsageError`, which names it, where it does not work."""
        thing = self.look_up(name)
        self._try(lambda: trial(thing), f"{self.kind} {name!r}")

    def _try(self, trial: Callable[[], None], label: str) -> None:
        try:
            trial()
        except UsageError as error:
            raise UsageError(f"{label}: {error}") from None
        except Exception as error:
            message = " ".join(str(error).split())[:300]
            raise UsageError(f"{label} fails when it is tried: {type(error).__name__}: {message}") from error

    def look_up(self, name: str) -> T:
        """The thing of a name. Raises `UsageError`, listing the known names."""
        if name not in self._things:
            raise UsageError(f"{self.kind}={name!r} is not known: it must be one of {', '.join(self)}")
        return self._things[name]

    def is_built_in(self, name: str) -> bool:
        """Whether a known thing is built in."""
        return name in self._things and name not in self._digests

    def definition_digest(self, name: str) -> str | None:
        """SHA-256 of the source text of the module that defines a registered thing; None for what is built in.

        Raises `UsageError` for an unknown name.
        """
        self.look_up(name)
        return self._digests.get(name)

    def _owner(self, name: str) -> str:
        if self.is_built_in(name):
            return f"a built-in {self.kind}"
        definition: Any = self._definition(self._things[name])
        return f"{definition.__module__}.{definition.__qualname__}" if hasattr(definition, "__module__") else "a plugin"


def definitions(registries: Iterable[tuple[Registry[Any], str]]) -> dict[str, str]:
    """The definition digests, by kind, of the names that plugins registered. Raises `UsageError` for an unknown one."""
    digests = {registry.kind: registry.definition_digest(name) for registry, name in registries}
    return {kind: digest for kind, digest in digests.items() if digest is not None}


def require(holds: bool, complaint: str) -> None:
    """Raise `UsageError` with this complaint unless the condition holds."""
    if not holds:
        raise UsageError(complaint)


def require_subclass(thing: object, base: type) -> None:
    """Raise `UsageError` unless a thing is a subclass of `base`."""
    name = thing.__qualname__ if isinstance(thing, type) else " ".join(repr(thing).split())[:60]
    require(isinstance(thing, type) and issubclass(thing, base), f"{name} is not a subclass of {base.__qualname__}")


def _definition_digest(definition: object, label: str) -> str:
    """SHA-256 of a definition: its whole module, because parts of a module may use each other."""
    if isinstance(definition, str):
        return hashlib.sha256(definition.encode()).hexdigest()
    try:
        module = sys.modules[definition.__module__]
        return hashlib.sha256(inspect.getsource(module).encode()).hexdigest()
    except (AttributeError, KeyError, OSError, TypeError):
        raise UsageError(f"{label} is not defined in a file: put it into a module") from None
