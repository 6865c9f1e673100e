"""The answer and its page, from records and predictions made by hand."""

import io
import re
from collections.abc import Sequence
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from aepretrain import report, stats
from aepretrain.frame import frame
from aepretrain.records import Predictions, Record
from aepretrain.report import Terms
from aepretrain.report.answer_tables import answer_tables
from aepretrain.report.grid_panels import _speed_text
from aepretrain.report.numbers import in_points, interval_text
from aepretrain.report.wording import reproduction_sentence
from aepretrain.stats import Estimate
from tests.answers import NUM_IMAGES, Archive, archive


def answer_of(source: Archive) -> report.Answer:
    return report.build_answer(grid_of(source), source.outcomes_of, Terms(0.001))


def grid_of(source: Archive, asked: Sequence[report.Experiment] = ()) -> report.Grid:
    return report.build_grid(frame(source.records().values()), asked)


@pytest.fixture(scope="module")
def ten() -> Archive:
    return archive(10)


def test_verdicts_follow_the_effects(ten: Archive) -> None:
    answer = answer_of(ten)
    verdicts = {experiment: one.words for experiment, one in answer.verdicts.items()}
    assert verdicts["fc", "erasing"] == "better"
    assert verdicts["conv", "none"] == "worse"
    assert verdicts["fc", "none"] == "undecided"
    mean = np.mean([(seed * 3) % 4 - 1 for seed in range(10)]) / NUM_IMAGES
    assert answer.primary["fc", "erasing"].difference.value == pytest.approx(0.02 + mean)
    assert answer.primary["fc", "erasing"].p_value == 2 / 2**10
    assert answer.num_images == NUM_IMAGES


def test_the_crossed_interval_is_about_the_same_mean_and_not_narrower(ten: Archive) -> None:
    answer = answer_of(ten)
    for experiment, one in answer.new_images.items():
        primary = answer.primary[experiment].difference
        assert one.interval.value == pytest.approx(primary.value)
        assert one.interval.high - one.interval.low >= primary.high - primary.low - 1e-12
        assert one.bootstrap.low < one.interval.value < one.bootstrap.high


def test_what_is_said_of_single_images_is_of_the_predictions() -> None:
    made = archive(2)
    labels_N = np.zeros(20, np.uint8)
    sure_N, even_N = np.zeros(20, np.float16), np.full(20, np.log(2), np.float16)
    for seed, variant, num_wrong in ((0, "finetune", 0), (0, "scratch", 7), (1, "finetune", 0), (1, "scratch", 5)):
        wrong_N = (np.arange(20) < num_wrong).astype(np.uint8)
        nll_N = even_N if variant == "scratch" else sure_N
        name = f"run-fc-none-{variant}-s{seed}", "evidence/predictions.npz"
        made.files[name] = Predictions(labels_N, wrong_N, nll_N, nll_N).to_bytes()
    answer = answer_of(made)
    # McNemar: 7 images of one kind and none of the other have p = 2/128, 5 have 2/32, which is above 5 %.
    assert answer.new_images["fc", "none"].num_mcnemar == 1
    assert answer.new_images["fc", "none"].interval.value == pytest.approx((7 + 5) / 40)
    scratch, finetune = (answer.calibration["fc", "none", variant] for variant in ("scratch", "finetune"))
    assert scratch.nll_S == pytest.approx([np.log(2)] * 2, abs=1e-3)
    assert scratch.error_S == pytest.approx([13 / 20 - 1 / 2, 15 / 20 - 1 / 2], abs=1e-3)
    assert (finetune.nll_S.tolist(), finetune.error_S.tolist()) == ([0, 0], [0, 0])


def test_sentences_say_what_the_rule_gave_and_its_scope(ten: Archive) -> None:
    text = report.sentences(answer_of(ten))
    assert "better than training from scratch in one of the four experiments, and worse in one. " in text
    assert "Finetune − scratch in percentage points of test accuracy: fc without erasing " in text
    assert "fc with erasing +2.050 (better, 10 seeds)" in text
    assert "conv without erasing −1.950 (worse, 10 seeds)" in text
    assert "these 1,000 test images, and about new trainings" in text
    assert "smaller than 0.1 points of test accuracy in two of the four; 0.1 points (1 of 1,000 images)" in text
    assert (
        "limited to a plain autoencoder, the two small networks fc and conv, the learning rate 0.001 and MNIST." in text
    )


@pytest.mark.parametrize(("num", "which"), [(1, "one of these"), (2, "both")])
def test_sizes_that_are_unsettled_are_counted(ten: Archive, num: int, which: str) -> None:
    answer = answer_of(ten)
    assert "unsettled" not in report.sentences(answer)
    found = [("fc", "erasing"), ("conv", "none")][:num]
    doubtful: dict[tuple[str, ...], stats.Verdict] = {
        one: replace(answer.verdicts[one], size_settled=False) for one in found
    }
    text = report.sentences(replace(answer, verdicts={**answer.verdicts, **doubtful}))
    assert f"and worse in one. Whether the difference is large enough to count is unsettled in {which}." in text
    assert "(better, size unsettled, 10 seeds)" in text


def test_the_effects_have_a_sentence_in_plain_words(ten: Archive) -> None:
    rows = dict(answer_tables(answer_of(ten)))["What that means"]
    said = {row[0]: row[rows[0].index("in plain words")] for row in rows[1:]}
    assert said["fc, erasing"] == (
        "Of 1,000 digits, about 20 more are read correctly; luck alone moves a single run by about 1."
    )
    assert "it is not known whether more or fewer" in said["fc, none"]
    answer = report.build_answer(grid_of(ten), ten.outcomes_of, Terms(0.001, {"fc": 40}))
    assert [row[-1].partition(" ")[0] for row in answer_tables(answer)[1][1][1:]] == ["interim:"] * 4
    shares = {row[0]: row[rows[0].index("probability of improvement")] for row in rows[1:]}
    assert shares["fc, erasing"].startswith("1.00 (0.")


def test_fewer_seeds_than_planned_are_an_interim_look(ten: Archive) -> None:
    grid = grid_of(ten)
    texts = {}
    for planned in ({}, {"fc": 10, "conv": 10}, {"fc": 10, "conv": 20}):
        answer = report.build_answer(grid, ten.outcomes_of, Terms(0.001, planned, is_exploratory=False))
        words, rows = report.sentences(answer), dict(answer_tables(answer)[:1])[answer_tables(answer)[0][0]]
        texts[len(planned) and planned["conv"]] = words, {row[0]: (row[2], row[1]) for row in rows[1:]}
    assert "5 %, provided that the experiments and the number of seeds were fixed before looking." in texts[0][0]
    assert texts[10][0].endswith("is at most 5 %.")
    exploratory = Terms(0.001, {"fc": 10, "conv": 10}, "source-grid", "0 of 80 were started under it.")
    said = report.sentences(report.build_answer(grid, ten.outcomes_of, exploratory))
    assert said.endswith(
        "the experiments and the number of seeds were fixed before looking.\n\n0 of 80 were started under it."
    )
    assert "interim look, at fewer seeds than the planned 20 (conv): " in texts[20][0]
    assert "only at the planned seeds" in texts[20][0]
    assert [texts[num][0].startswith("So far, on ") for num in (0, 10, 20)] == [False, False, True]
    assert texts[0][1]["conv, none"] == ("10 (0-9)", "worse")
    assert texts[20][1]["conv, none"] == ("10 of 20 planned (0-9)", "interim: worse")
    assert texts[20][1]["fc, erasing"] == ("10 of 10 planned (0-9)", "interim: better"), "its p may change with conv's"
    assert "fc with erasing +2.050 (interim: better, 10 seeds)" in texts[20][0]


@pytest.mark.parametrize(
    "planned",
    [{"fc": 10}, {"fc": 10, "conv": 9}, {"fc": 9, "conv": 9}, {}],
    ids=["conv not", "more", "all more", "none"],
)
def test_what_is_not_just_as_planned_is_promised_under_a_condition(ten: Archive, planned: dict[str, int]) -> None:
    grid = grid_of(ten)
    assert "provided that" in report.sentences(
        report.build_answer(grid, ten.outcomes_of, Terms(0.001, planned, is_exploratory=False))
    )


def test_an_experiment_without_seeds_is_fewer_than_planned(ten: Archive) -> None:
    alone = Archive({name: one for name, one in ten.found.items() if one.cell[0] == "fc"}, ten.files)
    plan = Terms(0.001, {"fc": 10, "conv": 20})
    answer = report.build_answer(grid_of(alone, report.EXPERIMENTS), alone.outcomes_of, plan)
    assert "interim look" in report.sentences(answer)
    assert [row[1].partition(" ")[0] for row in answer_tables(answer)[0][1][1:]] == ["interim:", "interim:", "not"]


def test_too_few_seeds_have_no_verdict_anywhere() -> None:
    answer = answer_of(archive(3))
    assert report.sentences(answer).startswith("So far there is no verdict on MNIST.")
    assert report.sentences(answer).count("no verdict: 3 seeds, at least 8 needed") == 4
    words = report.page_files(answer, report.build_page(answer, archive(3).found, archive(3), []))[
        "report.html"
    ].decode()
    assert not re.search(r"<td>(better|worse|different|equivalent|undecided)", words)


def test_pairs_are_made_by_seed_and_missing_ones_left_out(ten: Archive) -> None:
    some = Archive(
        {name: one for name, one in ten.found.items() if not (one.cell == ("fc", "none", "scratch") and one.seed == 4)},
        ten.files,
    )
    assert answer_of(some).primary["fc", "none"].num_seeds == 9
    alone = Archive({name: one for name, one in ten.found.items() if one.cell[0] == "fc"}, ten.files)
    planned = report.build_answer(grid_of(alone, report.EXPERIMENTS), alone.outcomes_of, Terms(0.001))
    assert report.sentences(planned).count("missing") == 2
    assert "conv without erasing missing" in report.sentences(planned)
    assert "provided that the number of seeds was fixed" in report.sentences(planned), "the experiments were"
    assert "missing" not in report.sentences(answer_of(alone)), "nobody has asked for conv"
    report.build_page(answer_of(alone), alone.found, alone, [])  # draws what there is, without a warning
    kept = answer_of(ten)
    for experiment, one in answer_of(alone).primary.items():  # what is drawn does not depend on the others
        assert one.p_value == kept.primary[experiment].p_value
        assert answer_of(alone).new_images[experiment].bootstrap == kept.new_images[experiment].bootstrap
    assert set(answer_of(alone).primary) == {("fc", "none"), ("fc", "erasing")}
    assert planned.verdicts["fc", "erasing"].adjusted_p == pytest.approx(4 * 2 / 2**10)  # of four, two missing
    assert answer_of(alone).verdicts["fc", "erasing"].adjusted_p == pytest.approx(2 * 2 / 2**10)  # of two


def test_the_pooled_difference_stands_below_the_four(ten: Archive) -> None:
    answer = answer_of(ten)
    four = list(answer.primary.values())
    errors = [one.std / np.sqrt(one.num_seeds) for one in four]
    expected = stats.pooled_effect(np.array([one.difference.value for one in four]), np.array(errors), 0.95)
    (*_, last) = answer_tables(answer)[0][1]
    assert last[0] == "pooled over the four experiments"
    assert last[3] == interval_text(expected)
    assert last[1] == "not judged"
    assert f"Pooled over the four experiments, it is {100 * expected.value:+.2f} points (95 %" in report.sentences(
        answer
    )


def test_one_experiment_alone_is_not_pooled(ten: Archive) -> None:
    few = {name: one for name, one in ten.found.items() if one.cell[:2] == ("fc", "none") or one.seed < 3}
    answer = answer_of(Archive(few, ten.files))
    assert answer.pooled(0.95) is None, "the others have too few seeds for a verdict"
    assert len(answer_tables(answer)[0][1]) == 5
    assert "ooled" not in report.sentences(answer)
    assert "in one of the experiments with a verdict" in report.sentences(answer)


def test_the_limits_are_those_of_what_was_run(ten: Archive) -> None:
    changed = {
        name: replace(one, identity={**one.identity, "lr": 0.01, "ae_target": "clean", "dataset": "kmnist"})
        for name, one in ten.found.items()
        if one.cell[0] == "fc"
    }
    text = report.sentences(answer_of(Archive(changed, ten.files)))
    assert (
        "limited to an autoencoder that restores what was erased, the network fc, the learning rate 0.01 and KM" in text
    )


def test_three_networks_are_listed_as_in_a_sentence(ten: Archive) -> None:
    third = {
        f"{name} of residual": replace(one, identity={**one.identity, "network": "residual"})
        for name, one in ten.found.items()
        if one.cell[0] == "conv"
    }
    text = report.sentences(answer_of(Archive(ten.found | third, ten.files)))
    assert "the networks fc, conv and residual, the learning rate" in text


def test_the_comparisons_of_a_csv_file_are_the_same(ten: Archive) -> None:
    """Without run ids and artifacts: there are no figures of single images then, and no calibration."""
    ours = answer_of(ten)
    columns = frame(ten.found.values()).drop(columns=["key", "run_id", "parent_run_id", "attempt"])
    read = pd.read_csv(io.StringIO(columns.to_csv(index=False)))
    theirs = report.build_answer(report.build_grid(read), None, Terms(0.001))
    for experiment, one in ours.primary.items():
        found = theirs.primary[experiment]
        assert (found.num_seeds, found.p_value) == (one.num_seeds, one.p_value)
        assert theirs.verdicts[experiment].kind == ours.verdicts[experiment].kind
        assert found.difference.value == pytest.approx(one.difference.value, abs=1e-12)
    assert answer_tables(theirs)[0] == answer_tables(ours)[0]
    assert answer_tables(theirs)[3] == answer_tables(ours)[3]
    assert (dict(theirs.new_images), dict(theirs.calibration)) == ({}, {})
    text = report.sentences(theirs)
    assert (
        report.sentences(ours)
        .replace(" (1 of 1,000 images)", "")
        .replace("these 1,000 test images", "the test images that were used")
        == text
    )


def renamed(source: Archive, network: str) -> dict[str, Record]:
    """The trainings of fc as those of another network."""
    return {
        name.replace("fc", network): replace(
            one, key=name.replace("fc", network), identity={**one.identity, "network": network}
        )
        for name, one in source.found.items()
        if one.cell[0] == "fc"
    }


def test_a_network_of_ones_own_is_judged_like_any_other(ten: Archive) -> None:
    answer = answer_of(Archive(ten.found | renamed(ten, "wide"), ten.files))
    assert answer.family == [*report.EXPERIMENTS, ("wide", "erasing"), ("wide", "none")]
    assert answer.verdicts["wide", "erasing"].adjusted_p == pytest.approx(6 * 2 / 2**10)
    text = report.sentences(answer)
    assert "better than training from scratch in two of the six experiments, and worse in one. " in text
    assert "wide with erasing +2.050 (better, 10 seeds)" in text
    assert "among the six experiments is at most 5 %" in text
    assert "Pooled over the six experiments" in text
    alone = answer_of(Archive(renamed(ten, "wide"), ten.files))
    assert alone.verdicts["wide", "erasing"].adjusted_p == pytest.approx(2 * 2 / 2**10)
    assert [row[0] for row in dict(report.tables(alone.grid))[alone.grid.title][1:]] == ["1", "2"]


def test_a_single_experiment_has_a_verdict_in_words(ten: Archive) -> None:
    one = {name: one for name, one in renamed(ten, "wide").items() if one.cell[1] == "erasing"}
    answer = answer_of(Archive(one, ten.files))
    assert answer.verdicts["wide", "erasing"].min_seeds == 6
    assert report.sentences(answer).startswith(
        "On MNIST, fine-tuning a pretrained encoder was found better than training from scratch in the one experiment. "
        "The mean difference is at least 0.1 points of test accuracy; 0.1 points (1 of 1,000 images) is the smallest "
    )
    assert 'the chance of a false "better" or "worse" is at most 5 %' in report.sentences(answer)


def test_rows_that_share_scratch_are_judged_but_not_pooled(ten: Archive) -> None:
    masked = {
        f"masked-{name}": replace(one, key=f"masked-{name}", identity={**one.identity, "objective": "pixel-mask"})
        for name, one in ten.found.items()
        if one.cell[2] == "finetune"
    }
    answer = answer_of(Archive(ten.found | masked, ten.files))
    assert len(answer.family) == 8
    assert answer.pooled_experiments == report.EXPERIMENTS


def test_what_the_data_cannot_decide_is_told(ten: Archive) -> None:
    answer = report.build_answer(grid_of(ten), ten.outcomes_of, Terms(0.0005))
    assert [one.cell["experiment"] for one in answer.undecidable] == ["fc, none", "conv, erasing"]
    assert (
        "In 2 of 4 experiments the data cannot decide. The smallest effect, 0.05 points, is less than one of 1,000 "
        "test images: at least 2,000 test images are needed, or a smallest effect of one image (0.1 points) or more."
    ) in report.sentences(answer)
    rows = dict(answer_tables(answer))["Where the data cannot decide, and what could"]
    assert [dict(zip(rows[0], row, strict=True))["in test images"] for row in rows[1:]] == ["0.5 of 1,000"] * 2
    assert answer_of(ten).undecidable == [], "one image of 1,000 is the smallest effect there"
    tiny = report.build_answer(grid_of(ten), None, Terms(0.00001))
    assert "seeds are needed at the observed spread over seeds. The seeds that are there find" in report.sentences(tiny)
    assert "less than one" not in report.sentences(tiny), "the number of images is unknown"
    assert answer_tables(tiny)[0][1][1][-1] == "more than 1,000"


def test_one_seed_says_nothing_of_the_spread() -> None:
    answer = answer_of(archive(1))
    rows = dict(answer_tables(answer))["Finetune − scratch, test accuracy, these images and new trainings (primary)"]
    assert [row[-1] for row in rows[1:]] == ["unknown"] * 4
    assert all(not np.isfinite(one.bootstrap.low) for one in answer.new_images.values())


def test_the_sources_numbers_are_compared_with_single_runs(ten: Archive) -> None:
    answer = answer_of(ten)
    assert len(answer.reproduced) == 24
    one = next(one for one in answer.reproduced if one.cell.variant == "scratch" and one.metric == "test_accuracy")
    assert (one.source, one.inside) == (0.9780, False)
    inside = sum(one.inside for one in answer.reproduced)
    words = reproduction_sentence(answer)
    assert f"Of the source's 24 numbers, {inside} lie inside these intervals. Outside: " in words
    outside = [one for one in answer.reproduced if not one.inside]
    assert words.count("above") + words.count("below") == len(outside)
    side = "above" if one.source > one.interval.high else "below"
    assert f"fc without erasing, scratch (accuracy {side}" in words


class Tags(HTMLParser):
    """Counts tags and collects addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name == "src"]


def test_the_page_needs_nothing_else_and_says_the_same_as_its_markdown(ten: Archive) -> None:
    answer = answer_of(ten)
    ten.files["run-fc-none-pretrain-s0", "figures/reconstructions.png"] = b"\x89PNG picture"
    built = report.build_page(
        answer, ten.found, ten, [ten.found["fc-none-pretrain-s0"], ten.found["fc-none-scratch-s1"]]
    )
    files = report.page_files(answer, built)
    html, text = files["report.html"].decode(), files["report.md"].decode()
    page = Tags(html)
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert len(page.sources) == 5  # the pairs, the pipeline, the grid, the curves, the picture that a run brought along
    assert not {"link", "iframe"} & set(page.tags)
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//(?!127\.0\.0\.1)""", html)
    pictures = {name for name in files if name.endswith(".png")}
    assert {f"report/{name}" for name in re.findall(r"\]\(report/(.+?)\)", text)} == pictures
    assert files["report/fc-none-pretrain-s0-reconstructions.png"] == b"\x89PNG picture"
    shown = unescape(html)
    for _, rows in answer_tables(answer):
        for row in rows:
            assert f"| {' | '.join(row)} |" in unescape(text)
            assert all(f">{cell}<" in shown for cell in row)
    assert 'href="http://127.0.0.1:5000/#/runs/run-fc-none-scratch-s1"' in html


def test_text_from_runs_is_escaped() -> None:
    source = archive(2)
    for name, one in source.found.items():
        source.found[name] = Record(
            one.run_id,
            None,
            one.key,
            1,
            one.identity,
            one.metrics,
            dict(one.tags) | {"host": "<script>alert(1)</script>"},
        )
    answer = answer_of(source)
    html = report.page_files(answer, report.build_page(answer, source.found, source, []))["report.html"].decode()
    assert "<script>alert" not in html
    assert "&lt;script&gt;" in html


def table_of(page: report.Page, topic: str, title: str) -> dict[str, list[str]]:
    """A table's rows by their first column."""
    (rows,) = (rows for panel in page.panels if panel.topic == topic for name, rows in panel.tables if title in name)
    return {row[0]: row[1:] for row in rows}


def test_how_long_trainings_took_and_how_the_autoencoders_did_is_told(ten: Archive) -> None:
    panels = report.build_page(answer_of(ten), ten.found, ten, [])
    assert table_of(panels, "Training", "autoencoders (mean squared error")["conv, none"] == [
        *("10", "0.00700 ± 0.00000", "10", "24", "0 of 10")  # num_epochs are 20 to 29, of at most 50
    ]
    assert table_of(panels, "Training", "Learning speed")["fc, none"][-2:] == ["24", "0 of 10"]
    late = {
        name: replace(one, metrics={**one.metrics, "num_epochs": 50}) if one.seed < 3 else one
        for name, one in ten.found.items()
    }
    panels = report.build_page(answer_of(ten), late, ten, [])
    assert table_of(panels, "Training", "autoencoders")["conv, none"][-1] == "3 of 10"


def test_what_is_not_recorded_of_a_run_is_counted() -> None:
    """One training says of another processor than all others, and one says of none."""
    processors = {"fc-none-scratch-s3": "another", "fc-none-finetune-s4": None}
    source = archive(10)
    for name, one in source.found.items():
        told = processors.get(name, "the usual")
        source.found[name] = replace(one, tags=dict(one.tags) | ({"processor": told} if told else {}))
    rows = table_of(report.build_page(answer_of(source), source.found, source, []), "How this was made", "Runs")
    assert rows["processor"] == ["another; the usual; not recorded in 1 of 160 runs"]
    assert rows["pairs of finetune and scratch on processors that differ or are not recorded"] == ["2 of 40"]
    assert rows["finished pretrainings"] == ["40 (seeds 0-9)"]


def test_numbers_that_round_to_zero_have_no_minus() -> None:
    assert (in_points(-0.000_004), in_points(-0.000_95), in_points(0.02)) == ("+0.000", "−0.095", "+2.000")
    assert interval_text(Estimate(0.001, -np.inf, np.inf), "n = 1") == "+0.100 (n = 1)"


def test_a_half_is_written_alike_from_whichever_side_it_comes() -> None:
    below, above = -0.001125 - 1e-15, -0.001125 + 1e-15
    assert f"{100 * below:.3f}" != f"{100 * above:.3f}", "what plain formatting makes of it"
    assert in_points(below) == in_points(above)


def test_learning_speed_counts_seeds_that_never_arrive() -> None:
    of_seeds = [[0.9, 0.96, 0.99], [0.96], [0.9, 0.9, 0.9, 0.98]]
    assert _speed_text(of_seeds, 0.95) == "2 (3 of 3)"
    assert _speed_text(of_seeds, 0.98) == "4 (2 of 3)"
    assert _speed_text(of_seeds[:2], 0.98) == "3 (1 of 2)"  # half of them have arrived then
    assert _speed_text(of_seeds, 0.99) == "not by half (1 of 3)"
