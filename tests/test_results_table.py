"""The report of a table of other people's runs: values by other libraries, and wrong tables in one line."""

import errno
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests  # type: ignore[import-untyped]

from aepretrain import UsageError, make_report
from aepretrain.cli.commands import cli
from aepretrain.plans import read_results_plan
from aepretrain.report import TableResults
from aepretrain.stats import Kind
from tests.conftest import ROOT

EXAMPLE = ROOT / "examples" / "embeddings"
RUNS = "\n".join(
    [
        "experiment,variant,seed,accuracy,test_images,lab",
        *(f"small,pretrained,{seed},{0.80 + 0.001 * seed:.3f},500,ours" for seed in range(8)),
        *(f"small,scratch,{seed},{0.75 + 0.002 * seed:.3f},500,ours" for seed in range(8)),
        *(f"large,pretrained,{seed},{0.90 + 0.001 * (seed % 3):.3f},2000,theirs" for seed in range(6)),
        *(f"large,scratch,{seed},0.901,2000,theirs" for seed in range(1, 8)),
        "",
    ]
)
PLAN = """\
question: Does pretraining help?
smallest_effect: 10 images
alpha: 0.1
comparisons: [scratch - pretrained]
families: [comparison, lab]
seeds: 0-7
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "runs.csv"
    path.write_text(RUNS)
    return path


def judged(path: Path, **options: object) -> TableResults:
    found = make_report(results=path, **options).of_table  # type: ignore[arg-type]
    assert found is not None
    return found


def test_verdicts_are_those_of_scipy_and_statsmodels() -> None:
    """Of the published runs, from the file alone."""
    of = judged(EXAMPLE / "runs.csv", plans=[EXAMPLE / "plan.yaml"])
    runs = pd.read_csv(EXAMPLE / "runs.csv")
    wide = runs.pivot_table(index=["experiment", "seed"], columns="variant", values="accuracy")
    for name, first in {"periodic - plain": "periodic", "piecewise - plain": "piecewise"}.items():
        gains = (wide[first] - wide["plain"]).groupby("experiment")
        results = {one.cell["experiment"]: one for one in of.of(name)}
        assert set(results) == set(gains.groups)
        p_values = [
            float(
                scipy_stats.permutation_test(
                    (one.to_numpy(),), np.sum, permutation_type="samples", n_resamples=np.inf
                ).pvalue
            )
            for _, one in gains
        ]
        _, adjusted, *_ = multipletests(p_values, 0.05, method="holm")
        for (experiment, one), p_value in zip(gains, adjusted, strict=True):
            found = results[str(experiment)].verdict
            low, high = scipy_stats.ttest_1samp(one, 0).confidence_interval(0.9)
            assert found.adjusted_p == pytest.approx(p_value)
            assert (found.narrow.low, found.narrow.high) == pytest.approx((low, high))
            beyond = low > 0.002 or high < -0.002
            side = Kind.BETTER if one.mean() > 0 else Kind.WORSE
            assert (found.kind, found.size_settled) == ((side, beyond) if p_value < 0.05 else (Kind.UNDECIDED, False))


def test_the_page_of_a_plan_through_the_command_line(table: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    out = tmp_path / "out"
    done = CliRunner().invoke(cli, ["report", f"{tmp_path}/plan.yaml", "--results", str(table), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "Does pretraining help?" in done.output
    assert "3 runs have no partner with the same seed and are not counted." in done.output
    text = (out / "report.md").read_text()
    assert "**scratch − pretrained, ours: test accuracy, 1 test corrected together**" in text
    assert "±10 images (2 points on small, 0.5 points on large)" in text
    assert "| small | ours | worse | 8 of 8 planned (0-7) | −4.650 (" in text
    assert "| large | theirs | interim: equivalent | 5 of 8 planned (1-5) | −0.020 (" in text
    assert "| scratch − pretrained | large | theirs | 6-7 | 0 |" in text
    names = {path.name for path in (out / "report").iterdir()}
    assert names == {"forest-1.png", "seeds-1-1.png", "seeds-1-2.png"}
    assert (out / "report.html").read_text().count("data:image/png") == 3
    assert (out / "answer.md").read_text().startswith("**Does pretraining help?**\n\n")


def test_without_a_plan_the_first_of_two_variants_is_compared(table: Path) -> None:
    of = judged(table, smallest_effect="10 images")
    assert of.plan.comparisons == ("pretrained - scratch",)
    small, large = of.results
    assert (small.verdict.smallest_effect, large.verdict.smallest_effect) == (10 / 500, 10 / 2000)
    assert small.verdict.difference.value == pytest.approx(np.mean([0.05 - 0.001 * seed for seed in range(8)]))
    assert small.verdict.p_value == 2 / 2**8
    assert (small.num_tests, small.verdict.words) == (2, "better")
    assert (large.verdict.kind, large.verdict.min_seeds, large.verdict.num_seeds) == (Kind.NONE, 7, 5)
    turned = judged(table, compare=["scratch - pretrained"])
    assert turned.results[0].verdict.difference.value == pytest.approx(-small.verdict.difference.value)


def test_a_parquet_file_gives_the_same(table: Path, tmp_path: Path) -> None:
    pd.read_csv(table).to_parquet(tmp_path / "runs.parquet")
    first, second = judged(table), judged(tmp_path / "runs.parquet")
    assert [one.verdict for one in first.results] == [one.verdict for one in second.results]
    assert [one.cell for one in first.results] == [one.cell for one in second.results]


BAD = [
    (
        RUNS.replace("accuracy", "acc"),
        "runs.csv: the column accuracy is missing: there is experiment, variant, seed, acc",
    ),
    (RUNS.replace(",", ";"), "; separate columns by commas"),
    (RUNS.replace("0.801", "good"), "runs.csv:3: accuracy is 'good', which is not a number: give a number, or remove"),
    (RUNS.replace("0.801", ""), "runs.csv:3: accuracy is empty: give a number, or remove the row"),
    (
        RUNS.replace("0.801", "80.1"),
        "runs.csv:3: accuracy is 80.1, but must lie between 0 and 1: divide percentages by",
    ),
    (RUNS.replace("0.801", "-0.1"), "runs.csv:3: accuracy is -0.1, but must lie between 0 and 1: correct it"),
    (RUNS.replace("0.801", "nan"), "runs.csv:3: accuracy is empty"),
    (
        RUNS.replace("small,pretrained,1", "small,pretrained,0"),
        "runs.csv:3: experiment small, variant pretrained, seed 0 is",
    ),
    (
        RUNS.replace("small,pretrained,1", "small,pretrained,1.5"),
        "runs.csv:3: seed is 1.5, but must be an integer from 0",
    ),
    (RUNS.replace("small,pretrained,1", "small,,1"), "runs.csv:3: variant is empty: fill it in, or remove the row"),
    (RUNS.replace("small,pretrained,1", "sm\x1ball,pretrained,1"), "runs.csv:3: experiment has control characters"),
    (RUNS.replace(",500,ours", ",500,ours,more", 1), "runs.csv:2: 7 cells, but the heading has 6"),
    (RUNS.replace("500", "501", 1), "runs.csv: test_images must have one value in each experiment"),
    (RUNS.replace("variant,seed", "variant,variant"), "runs.csv:1: the column 'variant' is there twice"),
    (RUNS.replace("small,pretrained,1", '"small,pretrained,1'), "this is not CSV: "),
    ("", "runs.csv: the file is empty"),
    (RUNS.partition("\n")[0], "runs.csv: there are no runs below the heading"),
    (
        RUNS.replace("small", "größer").encode("latin-1"),
        "runs.csv:2: this is not text in UTF-8: save the file as CSV in",
    ),
    (RUNS.encode("utf-16"), "runs.csv:1: this is not text in UTF-8"),
    (
        RUNS.replace("small,scratch,0", "small,third,0"),
        "there are pretrained, third, scratch in the column variant: name two",
    ),
    (
        "\n".join(line for line in RUNS.split("\n") if "scratch" not in line),
        "there is pretrained in the column variant",
    ),
    (
        RUNS.replace("scratch,", "scratch,9"),
        "runs.csv: no seed has both sides of pretrained - scratch in one experiment",
    ),
]


@pytest.mark.parametrize(("content", "message"), BAD)
def test_what_is_wrong_with_a_table_is_one_line(table: Path, content: str | bytes, message: str) -> None:
    table.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UsageError) as error:
        make_report(results=table)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_table_that_the_disk_does_not_give(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(UsageError, match=rf"^{table}: Input/output error$"):
        make_report(results=table)


def test_what_is_wrong_with_options_is_one_line(table: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    (tmp_path / "wrong.parquet").write_text(RUNS)
    for options, message in (
        ({"results": tmp_path / "none.csv"}, "none.csv: there is no such file"),
        ({"results": tmp_path}, "this is not an ordinary file"),
        ({"results": tmp_path / "plan.yaml"}, "plan.yaml: the name must end in .csv or .parquet"),
        ({"results": tmp_path / "wrong.parquet"}, "wrong.parquet: this is not a Parquet file"),
        (
            {"results": table, "compare": ["pretrained - frozen"]},
            "there is no variant 'frozen' to compare: there is pret",
        ),
        (
            {"results": table, "compare": ["pretrained"]},
            "compare='pretrained': pretrained is not allowed: it must be two",
        ),
        (
            {"results": table, "compare": ["a - b"], "plans": [tmp_path / "plan.yaml"]},
            "results are judged by one plan, or",
        ),
        ({"results": table, "lr": 0.1}, "lr=0.1 is not allowed with results"),
        ({"results": table, "smallest_effect": "600 images"}, "the experiment small has 500 test images"),
        ({"compare": ["a - b"]}, "compare is only allowed with results"),
    ):
        with pytest.raises(UsageError) as refusal:
            make_report(**options)
        assert message in str(refusal.value)
    for key, value, message in (
        ("families", "[color]", "families='color' is not allowed: it must be one of comparison, experiment, lab"),
        ("comparisons", "[scratch]", "plan.yaml:4: comparisons: scratch is not allowed: it must be two variants"),
        ("seeds", "x", "plan.yaml:6: seeds: x is not allowed: it must be seeds like 0-19 or 0,3,7"),
    ):
        lines = [f"{key}: {value}" if line.startswith(key) else line for line in PLAN.splitlines()]
        (tmp_path / "plan.yaml").write_text("\n".join(lines))
        with pytest.raises(UsageError) as refusal:
            make_report(results=table, plans=[tmp_path / "plan.yaml"])
        assert message in str(refusal.value)


def test_a_million_rows_are_refused_or_judged_in_reasonable_time(tmp_path: Path) -> None:
    path, num = tmp_path / "runs.csv", 1_000_000
    rows = pd.DataFrame({"experiment": "one", "variant": np.resize(["a", "b"], num), "seed": np.arange(num) // 2})
    rows.assign(accuracy=0.5).to_csv(path, index=False)
    began = time.monotonic()
    with pytest.raises(
        UsageError, match="500,000 seeds of experiment one, variant a: at most 1,000 are judged; is the co"
    ):
        make_report(results=path)
    rows.assign(accuracy=0.5, experiment=np.arange(num) // 20, seed=np.arange(num) % 20 // 2).to_csv(path, index=False)
    with pytest.raises(
        UsageError, match=r"a family of 50000 tests is too large for the level 0.05; name columns in the"
    ):
        make_report(results=path)
    assert time.monotonic() - began < 300


def test_the_shipped_plan_is_read() -> None:
    plan = read_results_plan(EXAMPLE / "plan.yaml")
    assert (plan.smallest_effect.value, plan.seeds, plan.families) == (0.002, tuple(range(15)), ("comparison",))
