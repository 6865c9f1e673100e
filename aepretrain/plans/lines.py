"""YAML as nested dictionaries, lists and texts, with the line of each value.

Every scalar is text, whatever it looks like: YAML itself would take ``no`` for a truth value, ``1:30`` for a number and
``1e-3`` for a text.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from aepretrain.errors import UsageError

Place = tuple[str | int, ...]
"""Where a value stands: keys and places in lists, from the top."""


class Problem(Exception):
    """What is wrong with a value, and where it stands."""

    def __init__(self, message: str, *place: str | int) -> None:
        super().__init__(message)
        self.message, self.place = message, place


@contextmanager
def within(key: str | int) -> Iterator[None]:
    """A problem in this block is one of the value of this key, or at this place of a list."""
    try:
        yield
    except Problem as problem:
        raise Problem(problem.message, key, *problem.place) from None


class SyntaxProblem(Exception):
    """What is wrong with a text that is not YAML, and its line."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.message, self.line = message, line


class Document:
    """A YAML text. Raises `SyntaxProblem`."""

    def __init__(self, text: str, source: bytes = b"") -> None:
        self.source = source
        self.lines: dict[Place, int] = {}
        self._seen: set[int] = set()
        try:
            node = _root(text)
            self.content: Any = None if node is None else self._value(node, ())
        except RecursionError:
            raise SyntaxProblem("it is nested too deeply", 1) from None

    def line_of(self, place: Place) -> int:
        """The line of a value; of the nearest value around it where there is none."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def _value(self, node: yaml.Node, place: Place) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(place, line)
        if id(node) in self._seen:
            raise SyntaxProblem("aliases (*) are not allowed: write the value again", line)
        self._seen.add(id(node))
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag[18:] not in ("str", "seq", "map"):
            raise SyntaxProblem("tags (!) are not allowed: leave it out", line)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(one, (*place, number)) for number, one in enumerate(node.value)]
        return node.value

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise SyntaxProblem("a key must be a word", line)
            if key.value in found:
                raise SyntaxProblem(f"{shown(key.value)}: this key is there twice", line)
            self.lines[*place, key.value] = line
            found[key.value] = self._value(value, (*place, key.value))
        return found


def _root(text: str) -> yaml.Node | None:
    """The node of the only document of a text; None where it is empty."""
    try:
        node: yaml.Node | None = yaml.BaseLoader(text).get_single_node()
        return node
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SyntaxProblem(f"the character U+{error.character:04X} is not allowed", line) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(f"{error.problem or error.context}".split())
        raise SyntaxProblem(f"this is not YAML: {reason}", mark.line + 1 if mark else 1) from None


def shown(value: Any) -> str:
    """A value for a message: a plain word as it is, other text in quotes."""
    if isinstance(value, dict | list):
        return "a list" if isinstance(value, list) else "a mapping"
    text = str(value)
    is_plain = text.isprintable() and text.strip() == text != ""
    return text if is_plain and len(text) <= 60 else repr(text[:60])


def read_document(path: str | Path) -> Document:
    """The YAML text of a file. Raises `UsageError`, naming file and line."""
    source = _read(Path(path))
    try:
        text = source.decode()
    except UnicodeDecodeError as error:
        line = source.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}:{line}: this is not text in UTF-8") from None
    try:
        return Document(text, source)
    except SyntaxProblem as problem:
        raise UsageError(f"{path}:{problem.line}: {problem.message}") from None


@contextmanager
def located(path: str | Path, document: Document) -> Iterator[None]:
    """A problem in this block is a `UsageError` with file, line and key."""
    try:
        yield
    except Problem as problem:
        keys = ".".join(shown(key) for key in problem.place if isinstance(key, str))
        where = f"{path}:{document.line_of(problem.place)}:"
        raise UsageError(f"{where} {keys}: {problem.message}" if keys else f"{where} {problem.message}") from None


def _read(path: Path) -> bytes:
    if not path.exists():
        raise UsageError(f"{path}: there is no such file")
    if not path.is_file():
        raise UsageError(f"{path}: this is not an ordinary file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
