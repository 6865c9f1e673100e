"""The report's headlines, its first screen, its glossary, and the figures that readers can explore."""

import io
import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import vl_convert
from PIL import Image

from aepretrain import report, stats
from aepretrain.api import Results
from aepretrain.config import Settings, TrainingSpec
from aepretrain.frame import frame
from aepretrain.report import Panel, Picture, Terms
from aepretrain.report.explore import as_json, paired_spec
from aepretrain.report.findings import counted, described, of_text, range_text
from aepretrain.report.glossary import GLOSSARY, explained, glossary_of
from aepretrain.report.opening import Card, Opening
from aepretrain.report.panel import slug, smaller
from aepretrain.report.wording import lay_sentence, verdict_finding
from aepretrain.stats import Estimate, Kind, Verdict
from tests.answers import archive, record_of


def estimates(*ends: tuple[float, float]) -> dict[str, Estimate]:
    """Intervals in points, by a name each."""
    return {str(place): Estimate((low + high) / 200, low / 100, high / 100) for place, (low, high) in enumerate(ends)}


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ([(1, 3), (4, 6)], "codes are better than pixels by 2.0 to 5.0 points"),
        ([(-3, -1)], "codes are worse than pixels by 2.0 points"),
        ([(-0.3, -0.1)], "codes are worse than pixels by 0.20 points"),
        (
            [(-3, 1), (-1, 3)],
            "whether codes are better or worse than pixels is open: differences from −1.0 to +1.0 points",
        ),
        (
            [(1, 3), (-1, 1), (-3, -1)],
            "codes are better than pixels in one of three cases, and worse in one, by unadjusted",
        ),
        ([(math.nan, math.nan)], ""),
        ([(-3, -1), (math.nan, math.nan)], "codes are worse than pixels by 2.0 points in one of two cases"),
        ([], ""),
    ],
)
def test_a_headline_says_what_the_intervals_say(ends: list[tuple[float, float]], said: str) -> None:
    headline = described(estimates(*ends), "codes", "pixels", "case")
    assert headline.startswith(said)
    assert bool(headline) == bool(said)


def test_numbers_in_headlines() -> None:
    assert [counted(num, total) for num, total in ((1, 1), (2, 2), (4, 4), (0, 4), (13, 14))] == [
        *("the one experiment", "both experiments", "all four experiments"),
        *("none of four experiments", "13 of 14 experiments"),
    ]
    assert of_text(2, 1_000, "test") == "two of 1,000 tests"
    assert (of_text(0, 1, "test"), of_text(1, 1, "test")) == ("none", "the one test")
    assert (range_text([2, 1, 3]), range_text([1.04, 1.02]), range_text([-0.001])) == ("1.0 to 3.0", "1.0", "0.0")


def verdict(kind: Kind, points: float, *, is_settled: bool = True) -> Verdict:
    """A verdict whose mean difference is so many points."""
    found = stats.judge({"": stats.compare(np.array([0.9]), np.array([0.8]), np.random.default_rng(0))}, 0.001)[""]
    difference = Estimate(points / 100, 0, 0)
    return replace(found, kind=kind, difference=difference, direction=int(np.sign(points)), size_settled=is_settled)


MORE = "more digits correctly than one that starts from random weights"


@pytest.mark.parametrize(
    ("judged", "said"),
    [
        (
            [verdict(Kind.WORSE, -0.1, is_settled=False), verdict(Kind.EQUIVALENT, 0)],
            f"was found to read {MORE} in none of two cases, fewer in one, and about as many in one. "
            "Where fewer, about 10 of 10,000, perhaps too few to matter.",
        ),
        (
            [verdict(Kind.BETTER, 2), verdict(Kind.BETTER, 4.5, is_settled=False), verdict(Kind.WORSE, -1)],
            f"was found to read {MORE} in two of three cases, and fewer in one. "
            "Where more, about 200 to 450 of 10,000, some perhaps too few to matter. Where fewer, about 100 of 10,000.",
        ),
        (
            [
                verdict(Kind.BETTER, 2),
                verdict(Kind.UNDECIDED, 1),
                verdict(Kind.NONE, 1),
                verdict(Kind.NEGLIGIBLE, 0.01),
            ],
            f"was found to read {MORE} in one of four cases, fewer in none, and about as many in one; two are open. "
            "Where more, about 200 of 10,000.",
        ),
        (
            [verdict(Kind.BETTER, 2)],
            f"was found to read {MORE} in the one case, and fewer in none. Where more, about 200",
        ),
    ],
)
def test_the_sentence_for_everybody_counts_every_verdict(judged: list[Verdict], said: str) -> None:
    sentence = lay_sentence([(one, 10_000) for one in judged], "digit", "case", is_interim=False)
    assert sentence.startswith(f"A pretrained network {said}")
    interim = lay_sentence([(one, 10_000) for one in judged], "digit", "case", is_interim=True)
    assert interim.startswith("So far, a pretrained network")
    without = lay_sentence([(one, None) for one in judged], "digit", "case", is_interim=False)
    assert sentence.startswith(without)
    assert "Where" not in without


def test_what_is_undecided_is_not_called_alike() -> None:
    for kinds in ([Kind.UNDECIDED], [Kind.NONE], [Kind.UNDECIDED, Kind.NONE]):
        said = lay_sentence([(verdict(kind, 1), 100) for kind in kinds], "image", "case", is_interim=False)
        assert said == (
            "It is not known whether a pretrained network reads more or fewer images correctly than one that starts "
            "from random weights."
        )


def page_of(num_seeds: int, networks: tuple[str, ...] = ("fc", "conv")) -> tuple[report.Answer, report.Page]:
    """The page of a grid."""
    source = archive(num_seeds, networks)
    grid = report.build_grid(frame(source.found.values()))
    answer = report.build_answer(grid, source.outcomes_of, Terms(0.001))
    return answer, report.build_page(answer, source.found, source, [])


def test_every_part_has_a_headline_and_a_name_of_its_own() -> None:
    answer, page = page_of(10)
    names = [slug(panel.topic) for panel in page.panels]
    assert len(set(names)) == len(names)
    assert all(names)
    assert all(panel.finding and not panel.finding.endswith(".") for panel in page.panels)
    findings = {panel.topic: panel.finding for panel in page.panels}
    assert findings["Finetune against scratch"] == verdict_finding(answer)
    assert verdict_finding(answer).startswith("Fine-tuning against training from scratch: better in one of four exp")
    assert findings["The grid"].startswith("Finetune has the highest mean accuracy in three of four experiments")


def test_the_opening_has_the_verdicts_and_nothing_that_is_not_judged_looks_like_one() -> None:
    answer, page = page_of(10)
    (opening,) = page.openings
    (card,) = opening.cards
    assert [line.split(": ")[0] for line in card.lines] == [
        *("fc, none", "fc, erasing", "conv, none", "conv, erasing", "pooled, not judged"),
    ]
    assert [line.rpartition(", ")[2] for line in card.lines[:4]] == [str(one.words) for one in answer.verdicts.values()]
    assert dict(opening.facts)["Seeds"] == "fc 0-9; conv 0-9"
    assert dict(opening.facts)["Plan"] == "none: the results are exploratory"
    (few,) = page_of(3)[1].openings
    assert few.sentence.startswith("MNIST: It is not known whether a pretrained network reads more or fewer digits")


def test_figures_to_explore_are_what_vega_draws() -> None:
    answer, page = page_of(10)
    (picture,) = (one.picture for one in page.openings if one.picture)
    (spec,) = picture.specs
    drawn = vl_convert.vegalite_to_svg({**spec, "width": 500})
    assert drawn.count('aria-roledescription="circle"') == 40, "a dot for each seed"
    assert drawn.count('aria-roledescription="square"') == 4
    assert 'xlink:href="http://127.0.0.1:5000/#/runs/run-fc-none-finetune-s3"' in drawn, "it leads to the run"
    assert "run" not in str(paired_spec(answer, {}, lambda _: "")["layer"][1]["encoding"]), (
        "of a bundle it leads nowhere"
    )
    with pytest.raises(ValueError, match="conversion failed"):
        vl_convert.vegalite_to_svg(json.loads(json.dumps(spec).replace('"circle"', '"circl"')))


def test_text_in_a_specification_ends_no_script() -> None:
    spec = {"title": "</script><script>alert(1)</script>"}
    assert "<" not in as_json([spec])
    assert json.loads(as_json([spec])) == [spec]


def test_terms_are_explained_where_they_stand_first() -> None:
    panel = Panel("x", "A scratch", text="A code & codes; the code. Pretraining <b>")
    page = report.Page([Opening("q", "s", None, [Card("t", "f", ())], ())], [panel])
    glossary = glossary_of(page)
    assert list(glossary) == ["code", "pretraining", "scratch"]
    text = explained(panel.text, glossary)
    assert text.count("<button") == 2
    assert 'popovertarget="term-code">code</button> &amp; codes; the code.' in text
    assert text.endswith("&lt;b&gt;")
    assert explained("nothing", {}) == "nothing"
    assert all(first.lower() < second.lower() for first, second in pairwise(GLOSSARY)), "in the order of the alphabet"
    assert all(meaning.endswith(".") for meaning in GLOSSARY.values())


def test_pictures_are_made_smaller_and_know_their_size() -> None:
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 200, 3), dtype=np.uint8)).save(content, "png")
    picture = Picture("a", smaller(content.getvalue()), "A caption.", "And numbers.")
    assert len(picture.content) < len(content.getvalue())
    assert picture.size == (128, 51), "150 dots an inch are 96 pixels"
    assert picture.alternative == "A caption. And numbers."
    assert (smaller(b"no picture"), Picture("b", b"no picture", "c").size) == (b"no picture", (0, 0))


def test_long_tables_and_further_ones_are_folded() -> None:
    short, long, other = (("s", [["h"]] * 5), ("l", [["h"]] * 12), ("o", [["h"]] * 2))
    panel = Panel("x", "y", tables=[short, other])
    assert (panel.shown(9), panel.folded(9)) == ([short], [other])
    assert Panel("x", "y", tables=[long]).folded(9) == [long]
    assert Panel("x", "y", tables=[short], num_shown=0).folded(9) == [short]


def test_the_next_step_counts_the_rows_of_each_objective() -> None:
    specs = [
        TrainingSpec(variant=variant, network="fc", settings=Settings(objective=objective))
        for objective in ("reconstruct", "pixel-mask")
        for variant in ("finetune", "scratch")
    ]
    records = tuple(record_of(spec, 0.9) for spec in specs)
    assert "found with 7 seeds or more, and this grid has 1:" in Results(records, {}, "sqlite:///no.db").next_steps
    assert "found with 6 seeds" in Results(records[:2], {}, "sqlite:///no.db").next_steps
