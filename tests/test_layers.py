"""The table of layers in docs/architecture.md and the imports of the code agree."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "aepretrain"


def _words(cell: str) -> set[str]:
    return set(re.findall(r"\w+", cell))


def _table() -> dict[str, tuple[int, set[str], set[str]]]:
    """Module → layer, project imports, external imports, as the document has them."""
    lines = (ROOT / "docs/architecture.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if re.match(r"\| \d", line)]
    return {
        module.strip("`"): (int(layer), _words(project), _words(external))
        for layer, module, _, project, external in rows
    }


def _imports(path: Path) -> Iterator[str]:
    """The dotted names that a file imports anywhere; of our own package, module by module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if path.suffix == ".pyi":  # a package's names, from its own modules
                assert (node.level, "." in str(node.module)) == (1, False), f"{path}: it names modules of its package"
                continue
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            if node.module == "aepretrain":
                yield from (f"aepretrain.{alias.name}" for alias in node.names)
            else:
                yield node.module


def _files(module: str) -> list[Path]:
    folder = PACKAGE / module
    if not folder.is_dir():
        return [PACKAGE / f"{module}.py"]
    return sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".pyi"))


def _modules() -> set[str]:
    return {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}


def test_table_lists_every_module() -> None:
    assert _modules() - {"__init__", "__main__"} == set(_table())


def test_rows_name_lower_layers_only() -> None:
    table = _table()
    for module, (layer, project, _) in table.items():
        for other in project:
            assert table[other][0] < layer, f"{module} (layer {layer}) may not import {other} (layer {table[other][0]})"


@pytest.mark.parametrize("module", sorted(_table()))
def test_imports_are_those_of_the_row(module: str) -> None:
    _, project, external = _table()[module]
    found_project: set[str] = set()
    found_external: set[str] = set()
    for path in _files(module):
        for name in _imports(path):
            top, _, rest = name.partition(".")
            if top != "aepretrain":
                found_external |= {top} - sys.stdlib_module_names
            elif rest.partition(".")[0] not in {module, "__version__"}:
                found_project.add(rest.partition(".")[0])
    assert found_project == project
    assert found_external == external


def test_the_engine_runs_without_mlflow() -> None:
    reached, waiting = set[str](), {"engine", "training"}
    while waiting:
        module = waiting.pop()
        reached.add(module)
        waiting |= _table()[module][1] - reached
    assert not any("mlflow" in _table()[module][2] for module in reached)
