"""The report on the committed evidence in a real browser: its size, narrow, printed, in the dark, read aloud."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from aepretrain import make_report
from tests.conftest import ROOT
from tests.integration.browser import chromium, new_page

pytestmark = pytest.mark.integration

FOLDED = "main details:not([open])"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report on the committed evidence, made anew."""
    folder = tmp_path_factory.mktemp("report")
    make_report(bundle=ROOT / "evidence", plans=[ROOT / "plans" / "source-grid.yaml"], out=folder)
    return folder / "report.html"


def shown(page: Page, report: Path) -> Page:
    """The page with the report, when its figures are drawn."""
    page.goto(report.as_uri())
    expect(page.locator(".explored svg").first).to_be_visible()
    return page


def test_it_is_short_before_anything_is_unfolded(browser: Browser, report: Path) -> None:
    """At most 12 screens of 1440×900, and 5 MB; the question, its answer and a figure are on the first."""
    with new_page(browser, width=1440, height=900) as page:
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        shown(page, report)
        num_screens = page.evaluate("document.documentElement.scrollHeight") / 900
        assert num_screens <= 12
        assert report.stat().st_size < 5e6
        for first in ("h1", ".sentence", ".card", ".opening figure", ".facts"):
            box = page.locator(first).first.bounding_box()
            assert box is not None
            assert box["y"] + box["height"] <= 900, first
        assert problems == []


@pytest.mark.parametrize(("media", "width"), [("print", 718), ("screen", 390)], ids=["A4", "phone"])
def test_it_fits_on_paper_and_phones(
    browser: Browser, report: Path, media: Literal["print", "screen"], width: int
) -> None:
    """Nothing is cut off: on paper tables wrap, on a phone each is moved sideways in a frame of its own."""
    with new_page(browser, width=width) as page:
        shown(page, report).evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        page.emulate_media(media=media)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        tables = page.locator(".wide").evaluate_all("all => all.map(one => [one.clientWidth, one.scrollWidth])")
        assert len(tables) > 20
        assert any(inside > frame for frame, inside in tables) == (media == "screen")
        captions = page.locator("figcaption, .caption").evaluate_all("all => all.map(one => one.scrollWidth)")
        assert max(captions) <= width, "captions stand outside of the frames"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_it_can_be_read_aloud_and_by_weak_eyes(
    browser: Browser, report: Path, scheme: Literal["light", "dark"], width: int
) -> None:
    """Axe finds no violation, folded and unfolded: contrast, order of headings, alternative texts, names."""
    with new_page(browser, width=width) as page:
        page.emulate_media(color_scheme=scheme)
        shown(page, report)
        found = [Axe().run(page)]
        page.evaluate("for (const one of document.querySelectorAll('main details')) one.open = true")
        found.append(Axe().run(page))
        assert [one.generate_report() for one in found if one.violations_count] == []
        numbers = page.locator(".explored img").first.get_attribute("alt")
        assert numbers is not None
        assert "fc, none −0.096 (−0.153 to −0.039); fc, erasing" in numbers, (
            "the picture's numbers are in its alternative text"
        )


def test_what_is_folded_is_printed(browser: Browser, report: Path) -> None:
    with new_page(browser) as page:
        num_folded = shown(page, report).locator(FOLDED).count()
        assert num_folded > 20
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator(FOLDED).count() == 0
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.locator(FOLDED).count() == num_folded
        page.emulate_media(media="print")
        expect(page.locator(".explored .explore").first).to_be_hidden()
        expect(page.locator(".explored img").first).to_be_visible()


def test_a_reader_finds_the_way(browser: Browser, report: Path) -> None:
    """A dot says its seed, a term what it means, and the contents stay in view and lead to each part."""
    with new_page(browser, width=1440, height=900) as page:
        shown(page, report)
        page.locator(".explored svg .mark-symbol path").first.hover()
        expect(page.locator("#vg-tooltip-element")).to_contain_text("seed")
        page.mouse.move(0, 0)
        term = page.locator(".term:visible").first
        term.click()
        expect(page.locator(f"#{term.get_attribute('popovertarget')}")).to_be_visible()
        page.keyboard.press("Escape")
        links = page.get_by_role("navigation").get_by_role("link")
        assert links.count() == page.locator("main section").count()
        links.last.click()
        expect(page.locator("#glossary h2")).to_be_in_viewport()
        expect(links.first).to_be_in_viewport()


def test_without_scripts_the_pictures_are_there(browser: Browser, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    expect(page.locator(".opening img").first).to_be_visible()
    expect(page.locator(".explore").first).to_be_hidden()
    context.close()


def test_a_page_without_figures_to_explore_fits_on_phones(browser: Browser, tmp_path: Path) -> None:
    folder = ROOT / "examples" / "embeddings"
    make_report(results=folder / "runs.csv", plans=[folder / "plan.yaml"], out=tmp_path)
    with new_page(browser, width=390) as page:
        page.goto((tmp_path / "report.html").as_uri())
        expect(page.locator(".opening img").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert Axe().run(page).violations_count == 0
