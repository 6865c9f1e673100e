"""Plans: what a file may say, what it stands for, and what a run of it trains, reuses and remembers."""

import errno
import hashlib
import os
import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from aepretrain import api, figures, tracking
from aepretrain.config import Execution, canonical_json, grid_specs, parse_seeds
from aepretrain.errors import UsageError
from aepretrain.plans import Plan, read_plan
from aepretrain.runner.forecast import BESIDE_S
from aepretrain.tracking import Store
from tests.commands import aepretrain
from tests.conftest import ROOT
from tests.grids import grid

SHIPPED = sorted((ROOT / "plans").glob("*.yaml"))

TEXT = """\
question: Does it help?
smallest_effect: 0.001
alpha: 0.05
datasets: [digits, mnist]
networks:
  fc: 0-1
  conv: 3,5
augmentations: [none, erasing]
objectives: [reconstruct, pixel-mask]
labels: [all, 100]
updates: 20
comparisons:
  - finetune - scratch
  - finetune - scratch with the same corruption
families: [comparison, labels]
settings: {ae-epochs: 1, cls_epochs: 1, erase_scale: [0.1, 0.2]}
tuned:
  networks: [fc]
  seeds: 1000000-1000001
  trials: 8
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a plan.yaml"


def read(path: Path, text: str = TEXT) -> Plan:
    path.write_text(text)
    return read_plan(path)


def complaint(path: Path, text: str | bytes) -> str:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UsageError) as error:
        read_plan(path)
    message = str(error.value)
    assert message.startswith(f"{path}:")
    assert "\n" not in message
    return message.removeprefix(f"{path}:")


def test_a_plan_has_what_its_file_says(path: Path) -> None:
    plan = read(path)
    assert (plan.name, plan.question, plan.smallest_effect.value, plan.alpha) == (
        "a plan",
        "Does it help?",
        0.001,
        0.05,
    )
    assert plan.networks == {"fc": (0, 1), "conv": (3, 5)}
    assert (plan.labels, plan.updates) == ((0, 100), 20)
    assert plan.settings == {"ae_epochs": 1, "cls_epochs": 1, "erase_scale": (0.1, 0.2)}
    assert plan.tuned is not None
    assert (plan.tuned.networks, plan.tuned.seeds, plan.tuned.trials) == (("fc",), (1000000, 1000001), 8)
    assert plan.source == TEXT.encode()


REPLACED = [
    ("alpha: 0.05", "alpa: 0.05", "3: alpa: this key is not known: it must be one of question, smallest_effect, "),
    ("alpha: 0.05\n", "", "1: the key alpha is missing"),
    ("alpha: 0.05", "alpha: 1", "3: alpha: 1 is not allowed: it must be a number between 0 and 1, like 0.05"),
    ("alpha: 0.05", "alpha: nan", "3: alpha: nan is not allowed"),
    ("alpha: 0.05", "alpha: [0.05]", "3: alpha: a list is not allowed"),
    ("alpha: 0.05", "alpha:", "3: alpha: '' is not allowed"),
    ("alpha: 0.05", "alpha: 0.05\nalpha: 0.05", "4: alpha: this key is there twice"),
    ("0.001", "five", "2: smallest_effect: five is not allowed: it must be a number between 0 and 1, like 0.001"),
    ("Does it help?", '"\\e[31m"', "1: question: '\\x1b[31m' is not allowed: it must be a text of 1 to 500 characters"),
    ("[digits, mnist]", "[]", "4: datasets: an empty list is not allowed: it must be a list with at least one entry"),
    ("[digits, mnist]", "digits", "4: datasets: digits is not allowed: it must be a list with at least one entry"),
    ("[digits, mnist]", "[digits,\n  digits]", "5: datasets: digits is there twice"),
    (
        "[digits, mnist]",
        "[a/b]",
        "4: datasets: a/b is not allowed: it must be a dataset's name, folder:PATH, npz:PATH or parquet:PATH",
    ),
    ("fc: 0-1", "fc: 5-1", "6: networks.fc: 5-1 is not allowed: it must be seeds like 0-19 or 0,3,7"),
    ("fc: 0-1", "fc: [0, 1]", "6: networks.fc: a list is not allowed: it must be seeds like"),
    ("fc: 0-1", "fc: 0,1000000", "6: networks.fc: 0,1000000 is not allowed: it must be seeds below 1000000, as"),
    (
        "{ae-epochs: 1, cls_epochs: 1, erase_scale: [0.1, 0.2]}",
        "[1]",
        "16: settings: a list is not allowed: it must be opt",
    ),
    (
        "networks:\n  fc: 0-1\n  conv: 3,5",
        "networks: {}",
        "5: networks: an empty mapping is not allowed: it must be names",
    ),
    (
        "networks:\n  fc: 0-1\n  conv: 3,5",
        "networks: fc",
        "5: networks: fc is not allowed: it must be names of networks",
    ),
    ("fc: 0-1", "f-c: 0-1", "6: networks.f-c: a network's name has only letters, digits and _"),
    ("fc: 0-1", "[fc]: 0-1", "6: a key must be a word"),
    ("[all, 100]", "[all, 5]", "10: labels: 5 is not allowed: it must be all or an integer from 10 on"),
    ("[all, 100]", "[0]", "10: labels: 0 is not allowed: it must be all or"),
    ("[all, 100]", "[100, '100']", "10: labels: 100 is there twice"),
    ("updates: 20\n", "", "1: the key updates is missing: classifiers with few labels are trained for a number of"),
    ("updates: 20", "updates: 0", "11: updates: 0 is not allowed: it must be an integer >= 1"),
    (
        "- finetune - scratch\n",
        "- finetune - zero\n",
        "13: comparisons: finetune - zero is not allowed: it must be",
    ),
    ("- finetune - scratch\n", "- scratch - scratch\n", "13: comparisons: scratch - scratch is not allowed"),
    ("- finetune - scratch\n", "- {a: b}\n", "13: comparisons: a mapping is not allowed"),
    (", pixel-mask", "", "14: comparisons: finetune - scratch with the same corruption is not allowed: it needs"),
    ("[none, erasing]", "[erasing]", "14: comparisons: finetune - scratch with the same corruption is not allowed: "),
    ("[comparison, labels]", "[seed]", "15: families: seed is not allowed: it must be one of comparison, network, "),
    ("ae-epochs: 1", "ae-epochs: one", "16: settings.ae-epochs: one is not allowed: it must be an integer from 1 to"),
    ("ae-epochs: 1", "epochs: 1", "16: settings.epochs: this is no option that a plan can set: it must be one of"),
    ("ae-epochs: 1", "labels: 100", "16: settings.labels: this is no option that a plan can set"),
    ("ae-epochs: 1", "ae_epochs: 1, ae-epochs: 2", "16: settings.ae-epochs: this option is there twice"),
    ("[0.1, 0.2]", "[0.2, 0.1]", "16: settings.erase_scale: a list is not allowed: it must be two numbers with 0 < "),
    ("ae-epochs: 1", "split: no", "16: settings.split: no is not allowed: it must be one of random, stratified, fixed"),
    ("ae-epochs: 1", "ae-loss: bce, normalize: mnist", "16: settings: ae_loss='bce' needs targets in [0, 1]: use it"),
    (
        "networks: [fc]",
        "networks: [fd]",
        "18: tuned.networks: fd is not allowed: it must be one of the plan's",
    ),
    ("1000000-1000001", "0-1", "19: tuned.seeds: 0-1 is not allowed: it must be seeds from 1000000 on, as those below"),
    ("  trials: 8\n", "", "17: tuned: the key trials is missing"),
    ("[fc]", "[fc", "19: this is not YAML: "),
    ("alpha: 0.05", "alpha: *a", "3: this is not YAML: found undefined alias"),
    ("[digits, mnist]", "&a [*a]", "4: aliases (*) are not allowed: write the value again"),
    ("alpha: 0.05", "alpha: !!float 0.05", "3: tags (!) are not allowed: leave it out"),
    ("alpha: 0.05", "alpha: 0.05\x07", "3: the character U+0007 is not allowed"),
    ("alpha: 0.05", "alpha: 0.05\n---", "4: this is not YAML: but found another document"),
]


@pytest.mark.parametrize(("part", "other", "expected"), REPLACED, ids=[expected for *_, expected in REPLACED])
def test_what_is_wrong_is_a_line_with_file_line_and_key(part: str, other: str, expected: str, path: Path) -> None:
    assert part in TEXT
    assert complaint(path, TEXT.replace(part, other, 1)).startswith(expected)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "1: '' is not allowed: it must be keys and values, with the keys question, "),
        ("[a, b]", "1: a list is not allowed: it must be keys and values"),
        ("just text", "1: just text is not allowed: it must be keys and values"),
        (b"question: a\nalpha: \xff", "2: this is not text in UTF-8"),
        ("[" * 5000, "1: it is nested too deeply"),
    ],
)
def test_a_file_that_is_no_plan(content: str | bytes, expected: str, path: Path) -> None:
    assert complaint(path, content).startswith(expected)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for name, expected in {"missing.yaml": "there is no such file", ".": "this is not an ordinary file"}.items():
        with pytest.raises(UsageError, match=rf"^{re.escape(str(tmp_path / name))}: {expected}$"):
            read_plan(tmp_path / name)


def test_a_file_that_the_disk_does_not_give(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(TEXT)

    def fail(_: Path) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(UsageError, match=rf"^{re.escape(str(path))}: Input/output error$"):
        read_plan(path)


def test_the_digest_is_that_of_the_content(path: Path) -> None:
    plan = read(path)
    assert plan.digest == hashlib.sha256(canonical_json(plan.content).encode()).hexdigest()
    lines = TEXT.splitlines()
    tuned, others = lines[16:], lines[:16]
    same = [
        "# A comment\n" + TEXT,
        "\n".join([*tuned, *reversed(others[:4]), *others[4:]]),
        TEXT.replace("[digits, mnist]", "\n  - digits\n  - 'mnist'"),
        TEXT.replace("0.05", "0.050").replace("0-1\n", "0,1\n", 1).replace("ae-epochs", "ae_epochs"),
        TEXT.replace("Does it help?", "Does it\n  help?"),
        TEXT.replace("\n", "\r\n"),
    ]
    assert {read(path, text).digest for text in same} == {plan.digest}
    assert read(path.with_name("other.yaml")).digest == plan.digest
    others = [TEXT.replace(*pair) for pair in (("0.05", "0.04"), ("0-1\n", "0-2\n"), ("trials: 8", "trials: 9"))]
    assert len({plan.digest, *(read(path, text).digest for text in others)}) == 4


def test_optional_keys_that_say_nothing_do_not_change_the_digest(path: Path) -> None:
    plain = TEXT[: TEXT.index("settings")]
    assert read(path, plain).digest == read(path, f"{plain}settings: {{}}\n").digest


def test_the_digests_of_shipped_plans() -> None:
    """Whoever changes one of them makes another plan."""
    assert {path.stem: read_plan(path).digest[:10] for path in SHIPPED} == {
        "source-grid": "f8cbe642a5",
        "source-grid-fashion": "8ae6290f04",
        "when": "450382e646",
    }


def test_shipped_plans() -> None:
    plans = {path.stem: read_plan(path) for path in SHIPPED}
    assert {name: {one: len(plan.specs(one)) for one in plan.datasets} for name, plan in plans.items()} == {
        "source-grid": {"mnist": 480},
        "source-grid-fashion": {"fashion-mnist": 240},
        "when": {"mnist": 900, "fashion-mnist": 900},
    }
    families = {name: Counter(one.family for one in plan.comparisons) for name, plan in plans.items()}
    assert families["source-grid"] == {"finetune - scratch": 4, "frozen - scratch": 4}
    assert families["when"] == {
        f"{name}, {network}, {dataset}": num
        for name, num in {
            "finetune - scratch": 9,
            "finetune - scratch with the same corruption": 6,
            "frozen - scratch": 9,
        }.items()
        for network in ("fc", "conv")
        for dataset in ("mnist", "fashion-mnist")
    }
    for path in SHIPPED:
        assert path.read_text().startswith(f"# aepretrain run plans/{path.name}\n")


def test_the_sources_grid_as_a_plan_is_the_grid() -> None:
    plan = read_plan(ROOT / "plans" / "source-grid.yaml")
    settings = plan.specs("mnist")[0].settings
    of_grid = {
        spec
        for network, seeds in {"fc": "0-39", "conv": "0-19"}.items()
        for spec in grid_specs((network,), ("none", "erasing"), parse_seeds(seeds), settings)
    }
    assert set(plan.specs("mnist")) == of_grid


def test_specs_are_complete_seeds_with_each_training_once(path: Path) -> None:
    plan = read(path)
    specs = plan.specs("digits")
    assert len({canonical_json(spec.identity()) for spec in specs}) == len(specs) == 4 * 18
    order = [(spec.network, spec.seed) for spec in specs]
    assert list(dict.fromkeys(order)) == [("fc", 0), ("fc", 1), ("conv", 3), ("conv", 5)]
    assert order == sorted(order, key=lambda one: (one[0] != "fc", one[1])), "seed by seed"
    of_seed = specs[:18]
    counted = Counter((spec.augmentation, spec.variant, spec.settings.labels) for spec in of_seed)
    assert counted == {
        **{(augmentation, "pretrain", 0): 2 for augmentation in ("none", "erasing")},
        **{(augmentation, "finetune", num): 2 for augmentation in ("none", "erasing") for num in (0, 100)},
        **{(augmentation, "scratch", num): 1 for augmentation in ("none", "erasing") for num in (0, 100)},
        **{("pixel-mask", "scratch", num): 1 for num in (0, 100)},
    }
    labels = [spec.settings.labels for spec in of_seed if spec.variant != "pretrain"]
    assert labels == sorted(labels, reverse=True), "100 before all"
    for place, spec in enumerate(specs):
        sources = [source.identity() for source in spec.sources.values()]
        assert all(source in [one.identity() for one in specs[:place]] for source in sources)
        assert spec.settings.updates == (20 if spec.settings.labels else 0)
        assert (spec.settings.ae_epochs, spec.settings.dataset) == (1, "digits")
    assert {spec.settings.objective for spec in specs if spec.variant == "scratch"} == {"reconstruct"}


def test_comparisons_are_those_of_trainings_that_are_trained(path: Path) -> None:
    plan = read(path)
    trained = {spec.seedless for dataset in plan.datasets for spec in plan.specs(dataset)}
    assert {side for one in plan.comparisons for side in (one.first, one.second)} <= trained
    with_corruption = [one for one in plan.comparisons if "corruption" in one.name]
    assert len(plan.comparisons) == 2 * 2 * 2 * 2 * 2 + len(with_corruption)
    assert len(with_corruption) == 2 * 2 * 2
    first = with_corruption[0]
    assert (first.dataset, first.network, first.augmentation, first.objective) == ("digits", "fc", "none", "pixel-mask")
    assert (first.first.variant, first.first.augmentation, first.first.settings.objective) == (
        "finetune",
        "none",
        "pixel-mask",
    )
    assert (first.second.variant, first.second.augmentation) == ("scratch", "pixel-mask")
    assert (first.seeds, first.family) == ((0, 1), "finetune - scratch with the same corruption, all labels")
    assert plan.comparisons[1].family == "finetune - scratch, 100 labels"


TINY = """\
question: Tiny?
smallest_effect: 0.001
alpha: 0.05
datasets: [digits]
networks: {fc: 0-1}
augmentations: [none]
objectives: [reconstruct]
labels: [100, all]
updates: 20
comparisons: [finetune - scratch]
families: [comparison]
settings: {ae_epochs: 1, cls_epochs: 1}
"""


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "training_figures", lambda *_: {})


@pytest.mark.usefixtures("no_pictures")
def test_a_plan_is_trained_in_parts_under_one_run_and_tags_what_it_starts(path: Path, store: Store) -> None:
    plan = read(path, TINY)
    specs = plan.specs("digits")
    assert len(specs) == 10
    before, _ = grid([spec for spec in specs if spec.variant == "scratch" and not spec.settings.labels][:1], store)
    first, events = grid(specs[:5], store, plan=plan)
    assert [one.spec.variant for one in events if one.kind == "finished"] == [
        "pretrain",
        "finetune",
        "scratch",
        "finetune",
    ], "in the plan's order"
    run = store.client.get_run(first.run_id)
    seen = datetime.fromtimestamp(run.info.start_time // 1000, UTC).isoformat()
    for record in first.records:
        expected = (None, None) if record.run_id == before.records[0].run_id else (plan.digest, seen)
        assert (record.tags.get("plan"), record.tags.get("plan_seen")) == expected
    assert {name: run.data.tags[f"aepretrain.{name}"] for name in ("kind", "plan")} == {
        "kind": "plan",
        "plan": plan.digest,
    }
    assert run.info.run_name == "a plan digits"
    assert run.data.params["question"] == "Tiny?"
    assert yaml.safe_load(run.data.params["networks"]) == {"fc": "0-1"}
    assert store.client.list_artifacts(first.run_id)[0].path == "plan.yaml"

    second, events = grid(specs, store, plan=plan)
    assert second.run_id == first.run_id
    assert Counter(one.kind for one in events if one.kind in ("reused", "finished")) == {"reused": 5, "finished": 5}
    assert {record.tags.get("plan_seen") for record in second.records} == {seen, None}

    made = api.make_report(plans=[path], tracking_uri=store.uri)
    assert "No pair" not in repr(made)
    assert "a plan, which was first seen on " in repr(made)
    assert re.search("that counts? other trainings (is|are) exploratory", repr(made))
    assert f"| trainings that count | {len(made.plans[0].records)} |" in made.files["report.md"].decode()
    assert all(re.fullmatch(r"[\w./-]+", name) for name in made.files)
    assert "results/answer.md" in {one.path for one in store.client.list_artifacts(first.run_id, "results")}

    other = replace(plan, question="Another?")
    _, events = grid(specs, store, plan=other)
    assert {one.kind for one in events} == {"reused"}
    assert {record.tags.get("plan") for record in store.records().values()} == {plan.digest, None}


@pytest.mark.usefixtures("no_pictures")
def test_a_bundle_keeps_when_a_plan_was_first_seen(
    path: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = read(path, TINY)
    specs = plan.specs("digits")
    monkeypatch.setattr(tracking, "plan_seen", lambda *_: "2026-01-02T03:04:05+00:00")
    result, _ = grid(specs[:1], store, plan=plan)
    monkeypatch.undo()
    tracking.export(store, result.records, (), tmp_path / "bundle")
    other = tracking.open_store(f"sqlite:///{tmp_path}/other.db")
    tracking.restore(other, tracking.read_bundle(tmp_path / "bundle"))
    again, _ = grid(specs[2:3], other, plan=plan)
    assert [record.tags["plan_seen"] for record in again.records] == ["2026-01-02T03:04:05+00:00"]


def files(folder: Path) -> dict[Path, bytes]:
    """All files, without those in which SQLite notes who is reading."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".db-shm"}


@pytest.mark.usefixtures("no_pictures")
def test_a_dry_run_says_what_is_missing_and_writes_nothing(path: Path, store: Store, tmp_path: Path) -> None:
    plan = read(path, TINY)
    grid(plan.specs("digits")[:5], store, plan=plan)
    before = files(tmp_path)
    preview = api.preview_plan(path, execution=Execution(jobs=2), tracking_uri=store.uri)
    assert files(tmp_path) == before
    cells = [(one.network, one.labels, one.variant, one.num_done, one.num_missing) for one in preview.rows]
    assert cells == [
        ("fc", "", "pretrain", 1, 1),
        ("fc", "100", "finetune", 1, 1),
        ("fc", "100", "scratch", 1, 1),
        ("fc", "all", "finetune", 1, 1),
        ("fc", "all", "scratch", 1, 1),
    ]
    assert [one.bytes_each for one in preview.rows[:2]] == [4 * (233_856 + 234_512) + 200_000, 4 * 235_146 + 200_000]
    seconds = {record.cell[2]: record.metrics["training_s"] for record in store.records().values()}
    assert preview.rows[0].seconds == seconds["pretrain"] + BESIDE_S
    assert preview.summary.startswith("5 trainings are done and 5 are missing. The missing ones take about ")
    assert api.preview_plan(path, seeds=[0], tracking_uri=store.uri).summary == (
        "5 trainings are done and 0 are missing."
    )


def test_a_dry_run_makes_no_store(path: Path, tmp_path: Path) -> None:
    read(path, TINY)
    preview = api.preview_plan(path, tracking_uri=f"sqlite:///{tmp_path}/new.db")
    assert list(tmp_path.iterdir()) == [path]
    assert "The time of 10 is unknown, as no training like them is finished." in preview.summary
    assert {row[-2] for row in preview.table[1:]} == {"unknown"}
    empty = tmp_path / "empty.db"
    empty.touch()
    assert sum(one.num_missing for one in api.preview_plan(path, tracking_uri=f"sqlite:///{empty}").rows) == 10
    assert empty.read_bytes() == b""


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"datasets": ["mnist"]}, "dataset='mnist' is not in the plan: it has digits"),
        ({"networks": ["fc", "conv"]}, "network='conv' is not in the plan: it has fc"),
        ({"seeds": [7, 8]}, "seeds='7-8' selects nothing of the plan: it has the seeds fc 0-1"),
    ],
)
def test_a_part_that_is_not_in_the_plan(part: dict[str, Any], expected: str, path: Path) -> None:
    read(path, TINY)
    for call in (api.run_plan, api.preview_plan):
        with pytest.raises(UsageError, match=f"^{re.escape(expected)}$"):
            call(path, **part)


def test_the_command_trains_a_plan(path: Path, tmp_path: Path) -> None:
    read(path, TINY)
    done = aepretrain("run", str(path), "--seeds", "1", "--jobs", "1", folder=tmp_path)
    assert done.code == 0, done.err
    assert "plan a plan, digits: 5 trainings" in done.out
    assert "[5/5] fc-none-" in done.out
    shown = aepretrain("run", str(path), "--dry-run", folder=tmp_path)
    assert "5 trainings are done and 5 are missing." in shown.out
    path.write_text(TINY.replace("fc: 0-1", "fc: 1-0"))
    wrong = aepretrain("run", path.name, folder=tmp_path)
    assert (wrong.code, wrong.out) == (2, "")
    expected = "aepretrain: a plan.yaml:5: networks.fc: 1-0 is not allowed: it must be seeds like 0-19 or 0,3,7\n"
    assert wrong.err == expected
