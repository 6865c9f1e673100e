"""What the documentation's site has besides the pages of this folder: pages made from the code, and project files.

`mkdocs.yml` names this module. A page may link to a file of the project, as ``../examples/residual.py``: the site then
shows the file on a page of its own. A link to a folder, as ``../evidence``, becomes its name.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import aepretrain
from aepretrain.cli.command import SECTIONS
from aepretrain.cli.commands import cli
from aepretrain.config import Settings

DOCS = Path(__file__).parent
ROOT = DOCS.parent
LINK = re.compile(r"(!?\[[^\]]*\])\(([^)#\s]+)(#[^)]*)?\)")
OUTSIDE = "source"
"""The site's folder with the project's files."""

LANGUAGES = {".py": "python", ".yaml": "yaml", ".ipynb": "json"}
IMAGES = (".png", ".jpg", ".svg")
PAGES = {ROOT / "README.md": "index.md"}
"""Pages of the site that say what a file of the project says."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from the code, and those of files that pages link to."""
    for name, make in MADE.items():
        files.append(File.generated(config, f"reference/{name}.md", content=make()))
    asked = [page for page in files.documentation_pages() if page.abs_src_path]
    done: set[Path] = set()
    while asked:
        page = asked.pop()
        text, place = page.content_string, _place(page)
        for target in _files_outside(text, place.parent):
            if target not in done:
                done.add(target)
                made = File.generated(config, _page_of(target), content=_shown(target))
                files.append(made)
                asked += [made] if target.suffix == ".md" else []
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Let links to the project's files lead to their pages."""
    place = _place(page.file)

    def changed(link: re.Match[str]) -> str:
        text, address, anchor = link[1], link[2], link[3] or ""
        target = _target(address, place.parent)
        if target is None or (target.is_relative_to(DOCS) and place.is_relative_to(DOCS)):
            return link[0]
        if not target.is_file():
            return text.strip("![]")
        source = str(target.relative_to(DOCS)) if target.is_relative_to(DOCS) else _page_of(target)
        return f"{text}({os.path.relpath(source, Path(page.file.src_uri).parent)}{anchor})"

    return LINK.sub(changed, markdown)


def _place(page: File) -> Path:
    """The file of the project that a page shows."""
    inside = page.src_uri.removeprefix(f"{OUTSIDE}/")
    return (DOCS if inside == page.src_uri else ROOT) / inside


def _target(address: str, folder: Path) -> Path | None:
    """The file or folder of the project at an address in a page; None for another address."""
    if "://" in address or address.startswith("mailto:"):
        return None
    target = Path(os.path.normpath(folder / address))
    return target if target.is_relative_to(ROOT) and target.exists() else None


def _files_outside(text: str, folder: Path) -> Iterator[Path]:
    for link in LINK.finditer(text):
        target = _target(link[2], folder)
        if target is not None and target.is_file() and not target.is_relative_to(DOCS) and target not in PAGES:
            yield target


def _page_of(target: Path) -> str:
    """The page that shows a file of the project."""
    ending = "" if target.suffix in (".md", *IMAGES) else ".md"
    return PAGES.get(target) or f"{OUTSIDE}/{target.relative_to(ROOT)}{ending}"


def _shown(target: Path) -> str | bytes:
    if target.suffix in IMAGES:
        return target.read_bytes()
    text = target.read_text()
    if target.suffix == ".md":
        return text
    language = LANGUAGES.get(target.suffix, "")
    return f"# {target.relative_to(ROOT)}\n\n````{language}\n{text}\n````\n"


def _commands() -> str:
    """Each command with its help and a table of its options."""
    parts = ["# Commands\n\n`aepretrain COMMAND --help` shows the same in a terminal."]
    for title, names in cli.sections.items():
        parts.append(f"## {title}")
        for name in names:
            parts += _command(cli.commands[name], f"aepretrain {name}", 3)
    return "\n\n".join(parts)


def _command(command: click.Command, name: str, level: int) -> Iterator[str]:
    context = click.Context(command, info_name=name)
    yield f"{'#' * level} {name}"
    yield f"`{name} {' '.join(command.collect_usage_pieces(context))}`"
    yield _help(command.help or "")
    rows = [
        f"| `{flags.replace('|', '/')}` | {_cell(text)} |"
        for one in command.get_params(context)
        if (record := one.get_help_record(context)) is not None
        for flags, text in [record]
    ]
    yield "\n".join(["| option | meaning |", "| --- | --- |", *rows])
    if isinstance(command, click.Group):
        for sub, one in command.commands.items():
            yield from _command(one, f"{name} {sub}", level + 1)


def _help(text: str) -> str:
    """A command's help as Markdown; a block that keeps its lines is shown as it is."""
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(
        "```text\n" + one.strip().removeprefix("\b").strip("\n") + "\n```" if "\b" in one else " ".join(one.split())
        for one in paragraphs
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")


def _settings() -> str:
    """All fields of `Settings`, by section."""
    parts = [
        "# Settings",
        "What a training's result depends on. On the command line a field is an option (`batch_size` is "
        "`--batch-size`), in Python an argument of `Settings`, and in a plan a key under `settings`.",
    ]
    of_settings = {one.name: one for one in fields(Settings)}
    for title, names in SECTIONS.items():
        known = [of_settings[name] for name in names if name in of_settings]
        if not known:
            continue
        parts.append(f"## {title}")
        rows = ["| field | default | allowed | meaning |", "| --- | --- | --- | --- |"]
        for one in known:
            default = one.metadata["shown_default"] or (repr(one.default) if one.default is not None else "none")
            about = one.metadata
            rows.append(f"| `{one.name}` | {_cell(default)} | {_cell(about['allowed'])} | {_cell(about['help'])} |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts)


def _plans() -> str:
    """The fields of a plan, and a plan."""
    plan = (ROOT / "plans" / "when.yaml").read_text()
    return (
        "# Plan files\n\nA plan is a YAML file. [Plans](../questions.md#plans) says what each key means. "
        f"This is `plans/when.yaml`:\n\n```yaml\n{plan}```\n\nIn Python a plan is read by `read_plan`:\n\n"
        "::: aepretrain.plans.read_plan\n\n::: aepretrain.plans.Plan\n\n::: aepretrain.plans.plan.Tuned\n"
    )


def _python() -> str:
    """All public names."""
    about = (
        "# Python\n\nEvery command is a function. All names can be imported from `aepretrain`; "
        "[Python](../usage.md#python) shows how they are used.\n"
    )
    parts = [about]
    for name in aepretrain.__all__:
        one = getattr(aepretrain, name)
        if name.startswith("register_"):  # a method of a registry
            home = f"aepretrain.{aepretrain._HOMES[name]}"
            parts.append(f"### {name}\n\n`{home}.register(name, one)` adds one under a name.\n")
        elif one.__name__ == name:
            parts.append(f"::: {one.__module__}.{name}\n")
        else:
            hidden = "    options:\n      show_root_heading: false\n      show_root_toc_entry: false\n"
            parts.append(f"### {name}\n\n::: {one.__module__}.{one.__name__}\n{hidden}")
    return "\n".join(parts)


MADE: dict[str, Callable[[], str]] = {
    "commands": _commands,
    "settings": _settings,
    "plans": _plans,
    "python": _python,
}
"""The pages of the reference."""
