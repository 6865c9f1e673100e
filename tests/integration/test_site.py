"""The documentation's site, built as CI and a release build it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

import aepretrain
from aepretrain.cli.commands import cli
from aepretrain.config import Settings
from aepretrain.plans import read_plan
from tests.conftest import ROOT

pytestmark = pytest.mark.integration


@dataclass
class Links(HTMLParser):
    """The addresses in a page, what it loads, and the anchors that it has."""

    followed: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value for name, value in attrs if value is not None}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.followed.append(found["href"])
        elif tag in ("script", "img", "link"):
            self.loaded += [found[name] for name in ("src", "href") if name in found]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Links]:
    """What each page links to; not the page for wrong addresses, whose links begin at the server's root."""
    read = {}
    for path in site.rglob("*.html"):
        if path.name != "404.html":
            read[path] = Links()
            read[path].feed(path.read_text())
    return read


def test_each_link_leads_somewhere_and_no_page_loads_anything_from_elsewhere(
    site: Path, pages: Mapping[Path, Links]
) -> None:
    assert len(pages) > 25
    broken = []
    for path, links in pages.items():
        for address in [*links.followed, *links.loaded]:
            parts = urlsplit(address)
            if parts.netloc:
                assert address in links.followed, f"{path.relative_to(site)} loads {address}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            is_there = target.is_file() and (not parts.fragment or unquote(parts.fragment) in pages[target].anchors)
            broken += [] if is_there or parts.scheme else [f"{path.relative_to(site)}: {address}"]
    assert not broken


def listed(nav: object) -> Iterator[str]:
    """The pages of a navigation."""
    for one in nav if isinstance(nav, list) else nav.values() if isinstance(nav, dict) else ():
        yield from [one] if isinstance(one, str) else listed(one)


def test_every_document_is_in_the_navigation_once() -> None:
    named = [*listed(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])]
    assert len(set(named)) == len(named)
    folder = ROOT / "docs"
    written = {str(path.relative_to(folder)) for path in folder.rglob("*.md")} - {"answer.md"}
    assert set(named) == written | {f"reference/{name}.md" for name in ("commands", "settings", "plans", "python")}


def test_the_reference_has_every_command_option_setting_and_name(site: Path) -> None:
    def shown(name: str) -> str:
        return re.sub(r"<[^>]+>", "", (site / "reference" / f"{name}.html").read_text())

    commands = shown("commands")
    for name, command in cli.commands.items():
        assert f"aepretrain {name}" in commands
        assert all(one.opts[-1] in commands for one in command.params if one.opts[-1].startswith("--"))
    assert all(one.name in shown("settings") for one in fields(Settings))
    assert all(name in shown("python") for name in aepretrain.__all__)
    assert "smallest_effect" in shown("plans")


def test_the_plan_of_the_class_is_one(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "tutorials" / "class.md").read_text()
    (found,) = re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "class.yaml").write_text(found)
    plan = read_plan(tmp_path / "class.yaml")
    assert len(plan.networks["fc"]) == 40
    assert plan.labels == (1000,)
