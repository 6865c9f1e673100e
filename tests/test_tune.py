"""Tuning: what is tried, what is chosen, what a second start does again, and what uses the choices."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from aepretrain import api, figures, report, runner, tracking
from aepretrain.api.choices import arms_of
from aepretrain.config import Execution, Settings, TrainingSpec
from aepretrain.errors import Failure, UsageError
from aepretrain.frame import frame
from aepretrain.plans import read_plan
from aepretrain.records import Record
from aepretrain.report.tuning_panel import tuning_panel
from aepretrain.runner import Event, Listener
from aepretrain.runner.jobs import perform
from aepretrain.runner.tuner import run_tuning
from aepretrain.runner.work import Job, make_job
from aepretrain.tracking import Store
from aepretrain.tuning import LEARNING_RATES, WEIGHT_DECAYS, NotTunedError, Trial, arm_key, choices, tuner, tunings
from aepretrain.variants import CLASSIFIERS
from tests.answers import TUNING_SEEDS as SEEDS
from tests.answers import archive, trial_records
from tests.commands import aepretrain, forked, start
from tests.grids import EXECUTION, inline

SETTINGS = Settings(dataset="digits", ae_epochs=1, cls_epochs=1)
ARM = TrainingSpec(variant="scratch", network="fc", settings=SETTINGS)
CHOSEN = dict[tuple[str, tuple[int, ...], int], Trial]


def test_the_choice_is_the_trial_with_the_lowest_mean_loss_and_the_first_of_equal_ones() -> None:
    records = trial_records(ARM, [0.5, 0.3, 0.3, 0.4])
    assert choices(records) == {(arm_key(ARM), SEEDS, 4): Trial(2, 0.002, 0.0, (0.3, 0.301))}
    assert choices(records[::-1]) == choices(records)
    (found,) = tunings(records)
    assert (arm_key(found.arm), [trial.number for trial in found.trials]) == (arm_key(ARM), [1, 2, 3, 4])
    assert found.trials[0].loss == pytest.approx(0.5005)


def test_test_images_choose_nothing() -> None:
    records = trial_records(ARM, [0.5, 0.3, 0.4])
    names = ("test_accuracy", "test_macro_f1", "test_loss", "last_test_accuracy")
    for number in range(len(records)):
        better = {name: 0.0 if name == "test_loss" else 1.0 for name in names}
        changed = [replace(one, metrics={**one.metrics, **better}) for one in records[number : number + 1]]
        assert choices([*records[:number], *changed, *records[number + 1 :]]) == choices(records)
    assert choices([replace(one, metrics={"best_val_loss": one.metrics["best_val_loss"]}) for one in records])


def test_a_trial_without_all_its_seeds_is_no_choice_and_a_tuning_under_way_has_none() -> None:
    records = trial_records(ARM, [0.5, 0.3, 0.4])
    (chosen,) = choices([one for one in records if one.key != records[2].key or one.seed != SEEDS[0]]).values()
    assert chosen.number == 3
    under_way = [replace(one, tags={**one.tags, "tuned": ""}) for one in records]
    assert choices(under_way) == {}
    damaged = [replace(one, tags={**one.tags, "tuning": "a:b 3", "tuned": "9:x"}) for one in records]
    assert choices(damaged) == {}


def test_further_trials_and_other_seeds_are_tunings_of_their_own() -> None:
    more = trial_records(ARM, [0.5, 0.3, 0.2])
    more[0] = replace(more[0], tags={**more[0].tags, "tuned": "1000000-1000001:3 1000000-1000001:2"})
    others = trial_records(ARM, [0.1, 0.6], (1_000_005, 1_000_006))
    chosen = {(seeds, num): trial.number for (_, seeds, num), trial in choices([*more, *others]).items()}
    assert chosen == {(SEEDS, 3): 3, (SEEDS, 2): 2, ((1_000_005, 1_000_006), 2): 1}


def test_all_arms_use_tunings_with_the_same_seeds_and_number_of_trials() -> None:
    finetune = replace(ARM, variant="finetune")
    records = trial_records(ARM, [0.5, 0.3, 0.2])
    records[0] = replace(records[0], tags={**records[0].tags, "tuned": "1000000-1000001:3 1000000-1000001:2"})
    records += trial_records(finetune, [0.5, 0.6])
    tune = tuner([ARM, finetune], records)
    assert tune(replace(ARM, seed=7)) == replace(ARM, seed=7, settings=replace(SETTINGS, cls_lr=0.002))
    assert tune(finetune) == finetune, "the default is the same specification, and so the same training"
    assert tuner([ARM], records)(ARM).settings.cls_lr == 0.003
    for wanted in ({"num_trials": 3}, {"seeds": (1_000_005, 1_000_006)}):
        with pytest.raises(NotTunedError):
            tuner([ARM, finetune], records, **wanted)


def run(
    store: Store,
    num_trials: int = 3,
    arms: Sequence[TrainingSpec] = (ARM, replace(ARM, variant="finetune")),
    listen: Callable[[Event], object] = lambda _: None,
    execution: Execution = EXECUTION,
) -> tuple[CHOSEN, list[Event]]:
    events: list[Event] = []

    def hear(event: Event) -> None:
        events.append(event)
        listen(event)

    run_tuning(arms, SEEDS, num_trials, store, execution, hear, lambda *_: None, make_pool=inline)
    return choices(store.records().values()), events


def kinds(events: Sequence[Event], kind: str) -> list[TrainingSpec]:
    return [event.spec for event in events if event.kind == kind]


def test_trials_are_trainings_of_their_own_and_a_second_start_trains_none_of_them(store: Store) -> None:
    chosen, events = run(store)
    trained = kinds(events, "finished")
    assert len(chosen) == 2
    for variant in ("scratch", "finetune"):
        of_arm = [spec for spec in trained if spec.variant == variant]
        assert [spec.seed for spec in of_arm] == [*SEEDS] * 3
        rates = [spec.settings.learning_rate("classification") for spec in of_arm[::2]]
        assert rates[0] == 0.001
        assert of_arm[0].settings.weight_decay == 0
        assert all(LEARNING_RATES[0] <= rate <= LEARNING_RATES[1] and float(f"{rate:.3g}") == rate for rate in rates)
        assert {spec.settings.weight_decay for spec in of_arm} <= set(WEIGHT_DECAYS)
    decays = {spec.settings.weight_decay for spec in trained if spec.variant == "finetune"}
    pretrained = [(spec.settings.weight_decay, spec.seed) for spec in trained if spec.variant == "pretrain"]
    assert sorted(pretrained) == sorted((decay, seed) for decay in decays for seed in SEEDS)

    again, events = run(store)
    assert again == chosen
    assert (len(kinds(events, "finished")), len(kinds(events, "reused"))) == (0, 12)
    (parent,) = store.search({"kind": "tuning"})
    assert parent.info.status == "FINISHED"
    records = list(store.records().values())
    assert {record.study for record in records} == {"tuning"}
    assert report.choose(frame(records), {}).empty


def test_a_tuning_that_is_stopped_goes_on_and_makes_the_same_choice(store: Store, uri: str) -> None:
    class Stop(Exception):
        pass

    def stop_after(num: int, event: Event) -> None:
        left.append(event) if event.kind == "finished" else None
        if len(left) == num:
            raise Stop

    left: list[Event] = []
    with pytest.raises(Stop):
        run(store, listen=partial(stop_after, 9))
    before = set(store.records())
    assert choices(store.records().values()) == {}
    chosen, _ = run(store)
    attempts = {one.data.tags["aepretrain.key"] for one in store.search({"kind": "training"})}
    assert len(list(store.search({"kind": "training"}))) == len(attempts), "no training was repeated"
    assert before < attempts
    elsewhere = tracking.open_store(uri, "elsewhere")
    assert run(elsewhere)[0] == chosen


def test_a_trial_with_a_failed_training_counts_as_failed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(jobs: Sequence[Job], listen: Listener) -> list[Record | Failure]:
        return [Failure("no") for _ in jobs] if jobs[0].spec.settings.cls_lr else perform(jobs, listen)

    monkeypatch.setattr("aepretrain.runner.pool.perform", failing)
    chosen, _ = run(store, num_trials=2, arms=[ARM])
    assert [(key[2], trial.number) for key, trial in chosen.items()] == [(2, 1)]


def test_choices_survive_export_and_import(store: Store, tmp_path: Path, uri: str) -> None:
    chosen, _ = run(store, num_trials=2, arms=[ARM])
    api.export(tmp_path / "bundle", tracking_uri=uri)
    other = f"sqlite:///{tmp_path}/other.db"
    api.import_(tmp_path / "bundle", tracking_uri=other)
    assert choices(tracking.open_store(other).records().values()) == chosen
    _, events = run(tracking.open_store(other), num_trials=2, arms=[ARM])
    assert kinds(events, "finished") == []


def use(uri: str, **options: object) -> api.Results:
    given = {"networks": ["fc"], "augmentations": ["none"], "settings": SETTINGS, "tracking_uri": uri, "show": False}
    return api.run_grid(**given, execution=EXECUTION, tuned=True, **options)  # type: ignore[arg-type]


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "local_pool", inline)
    monkeypatch.setattr(tracking, "log_model", lambda *_: None)  # exporting takes seconds


@pytest.mark.usefixtures("in_process")
def test_a_tuned_grid_trains_each_classifier_at_its_choice(store: Store, uri: str) -> None:
    with pytest.raises(UsageError) as error:
        use(uri)
    assert str(error.value) == (
        "fc-none-frozen on digits is not tuned, or not like the other arms: run aepretrain tune --network fc "
        f"--augmentation none --dataset digits --ae-epochs 1 --cls-epochs 1 --tracking-uri {uri}"
    )
    assert list(store.search({"kind": "training"})) == []
    tuned = api.tune(
        networks=["fc"],
        augmentations=["none"],
        settings=SETTINGS,
        trials=2,
        execution=EXECUTION,
        tracking_uri=uri,
        show=False,
    )
    assert [one.arm.variant for one in tuned.tunings] == ["finetune", "frozen", "scratch"]
    assert [row[1] for row in tuned.table] == ["arm", "fc-none-finetune", "fc-none-frozen", "fc-none-scratch"]
    (parent,) = store.search({"kind": "tuning"})
    assert len(store.client.list_artifacts(parent.info.run_id, "results")) == 2
    chosen = {one.arm.variant: one.choice for one in tuned.tunings}

    results = use(uri)
    found = {record.cell[2]: record for record in results.records if record.cell[2] in CLASSIFIERS}
    for variant, record in found.items():
        assert record.setting("cls_lr") == chosen[variant].cls_lr
        assert record.setting("weight_decay") == chosen[variant].weight_decay
        assert record.study == "tuned"
    assert results.table.cells["fc", "none", "scratch"].score("test_accuracy") is not None
    assert api.compare(tracking_uri=uri).records == ()
    with pytest.raises(UsageError, match=r"cls_lr=0\.01 is not allowed: tuning chooses it"):
        api.run_grid(settings=replace(SETTINGS, cls_lr=0.01), tuned=True, tracking_uri=uri, show=False)


@pytest.mark.usefixtures("in_process")
def test_a_choice_that_is_the_default_is_the_training_of_equal_settings(store: Store, uri: str) -> None:
    options = {"networks": ["fc"], "augmentations": ["none"], "settings": SETTINGS, "tracking_uri": uri, "show": False}
    api.tune(**options, trials=1, execution=EXECUTION)  # type: ignore[arg-type]
    tuned = use(uri)
    equal = api.run_grid(**options, execution=EXECUTION)  # type: ignore[arg-type]
    assert {one.run_id for one in equal.records} == {one.run_id for one in tuned.records}
    assert {one.study for one in store.records().values() if one.seed == 0} == {None}, "it belongs to the grid now"


@pytest.mark.usefixtures("in_process")
def test_the_study_of_labels_can_be_tuned(store: Store, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aepretrain.studies.labels.LABELS", (100,))
    settings = replace(SETTINGS, updates=5)
    options = {"networks": ["fc"], "augmentations": ["none"], "tracking_uri": uri, "show": False}
    with pytest.raises(UsageError, match=rf"run aepretrain tune .* --labels 100 --updates 5 --tracking-uri {uri}$"):
        api.run_study("labels", seeds=[0], settings=settings, tuned=True, **options)  # type: ignore[arg-type]
    api.tune(settings=replace(settings, labels=100), trials=2, execution=EXECUTION, **options)  # type: ignore[arg-type]
    tuned = {"seeds": [0], "settings": settings, "tuned": True, "execution": EXECUTION}
    api.run_study("labels", **tuned, **options)  # type: ignore[arg-type]
    made = [one for one in store.records().values() if one.study == "tuned" and one.cell[2] in CLASSIFIERS]
    assert sorted(one.cell[2] for one in made) == sorted(CLASSIFIERS)
    assert {one.setting("labels") for one in made} == {100}
    with pytest.raises(UsageError, match="only the study labels"):
        api.run_study("controls", tuned=True, **options)  # type: ignore[arg-type]


PLAN = """\
question: Does it help?
smallest_effect: 0.001
alpha: 0.05
datasets: [digits]
networks: {fc: 0, conv: 0}
augmentations: [none]
objectives: [pixel-mask]
labels: [all]
comparisons: [finetune - scratch, finetune - scratch with the same corruption]
families: [comparison]
settings: {ae-epochs: 1, cls-epochs: 1}
tuned: {networks: [fc], seeds: 1000000-1000001, trials: 2}
"""


@pytest.mark.usefixtures("in_process")
def test_a_plan_is_tuned_and_then_trained_with_its_choices(uri: str, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    plan = read_plan(path)
    arms = plan.arms("digits")
    assert [(arm.variant, arm.augmentation) for arm in arms] == [
        ("finetune", "none"),
        ("scratch", "none"),
        ("scratch", "pixel-mask"),
    ]
    options = {"execution": EXECUTION, "tracking_uri": uri}
    with pytest.raises(
        UsageError, match=f"fc-none-finetune-pixel-mask on digits .* run aepretrain tune {path} --tracking-uri {uri}$"
    ):
        api.run_plan(path, tuned=True, show=False, **options)  # type: ignore[arg-type]
    tuned = api.tune_plan(path, show=False, **options)  # type: ignore[arg-type]
    assert [arm_key(one.arm) for one in tuned.tunings] == sorted(map(arm_key, arms))
    tune = tuner(arms, tuned.records)
    comparisons = plan.tuned_comparisons(tune)
    assert [one.family for one in comparisons] == [f"{name}, tuned" for name in plan.compared]
    assert comparisons[0].first == tune(plan.comparisons[0].first)

    trained = api.run_plan(path, tuned=True, show=False, **options)  # type: ignore[arg-type]
    assert {one.key for one in trained.records} == {
        make_job(spec, (one.tags["dataset_digest"], ""), store, EXECUTION).key
        for spec in plan.specs("digits", comparisons)
        for one in trained.records[:1]
    }
    assert {one.tags["plan"] for one in trained.records} == {plan.digest}
    preview = api.preview_plan(path, tuned=True, **options)  # type: ignore[arg-type]
    assert sum(one.num_missing for one in preview.rows) == 0
    path.write_text(PLAN.replace(PLAN.splitlines()[-1], ""))
    with pytest.raises(UsageError, match="the plan has no key tuned"):
        api.tune_plan(path, show=False, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "3"], "seeds='3' is not allowed for tuning: seeds below 1000000 are judged"),
        (["--trials", "0"], "trials=0 is not allowed: it must be an integer from 1 to 1000"),
        (["--weight-decay", "0.1"], "--weight-decay=0.1 is not allowed: tuning chooses it"),
        (["--lr", "0.1"], "lr=0.1 is not allowed: tuning starts from it, within 0.0001 to 0.01"),
        (["plan.yaml", "--lr", "0.01"], "--lr is not allowed with a plan: the plan says it"),
        (["plan.yaml", "--objective", "pixel-mask"], "--objective is not allowed with a plan: the plan says it"),
        (["plan.yaml", "--network", "conv"], "network='conv' is not tuned in the plan: it has fc"),
    ],
)
def test_what_cannot_be_tuned_is_refused_in_a_line(arguments: Sequence[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    done = aepretrain("tune", "--dataset", "digits", *arguments, folder=tmp_path)
    assert message in done.refusal()


def test_a_command_that_is_killed_goes_on_and_a_second_process_chooses_the_same(uri: str, tmp_path: Path) -> None:
    options = ["--network", "fc", "--augmentation", "none", "--dataset", "digits", "--epochs", "1", "--trials", "3"]
    command = partial(forked, "tune", *options, "--jobs", "2", "--tracking-uri", uri)
    store = tracking.open_store(uri)
    first = start(command, tmp_path)
    until = time.monotonic() + 120
    while len(store.records()) < 9 and first.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.05)
    first.kill()
    before = {one.run_id for one in store.records().values()}
    assert choices(store.records().values()) == {}
    done = start(command, tmp_path).finish()
    assert done.code == 0, done
    chosen = choices(store.records().values())
    assert len(chosen) == 3
    keys = [one.data.tags["aepretrain.key"] for one in store.search({"done": "true"})]
    assert len(keys) == len(set(keys)), "nothing that was finished is trained again"
    assert before <= {one.run_id for one in store.records().values()}
    again = start(command, tmp_path).finish()
    assert (again.code, again.out.count(" finished: "), again.out.count(" reused: ")) == (0, 0, 18)
    assert choices(store.records().values()) == chosen


def test_the_report_shows_trials_and_choices() -> None:
    assert tuning_panel(archive(2, ("fc",)).records().values()) is None
    finetune = replace(ARM, variant="finetune", settings=replace(SETTINGS, objective="pixel-mask", labels=100))
    records = [*trial_records(ARM, [0.5, 0.3]), *trial_records(finetune, [0.5, 0.6, 0.7])]
    panel = tuning_panel(records)
    assert panel is not None
    ((_, (heading, *rows)),) = panel.tables
    told = [dict(zip(heading, row, strict=True)) for row in rows]
    assert [row["arm"] for row in told] == ["fc-none-finetune-pixel-mask-100labels", "fc-none-scratch"]
    assert [(row["learning rate"], row["trials"]) for row in told] == [("0.001", "3"), ("0.002", "2")]
    pictures = [*panel.pictures, *panel.more]
    assert [one.name for one in pictures] == ["tuning-1", "tuning-2"]
    assert all(one.content.startswith(b"\x89PNG") for one in pictures)
    base = archive(9, ("fc",)).records()
    query = report.Query(report.build_grid(frame(base.values())), {f"{n}": one for n, one in enumerate(records)})
    assert query.frame.empty, "tuning seeds are judged nowhere"


def test_a_figure_of_trials_has_a_panel_for_each_arm_and_a_ring_around_its_choice() -> None:
    arms = {"a $b": [(0.001, 0.0, 0.5), (0.01, 0.1, 0.4)], "c": [(0.0001, 0.0, 0.3)]}
    drawn = figures.trials(arms, {name: points[-1] for name, points in arms.items()})
    assert [axes.get_title() for axes in drawn.axes] == ["a $b", "c"]
    assert [line.get_xydata().tolist() for line in drawn.axes[0].lines] == [  # type: ignore[union-attr]
        [[0.001, 0.5]],
        [[0.01, 0.4]],
        [[0.01, 0.4]],
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("grid", "--dataset", "digits", "--network", "fc", "--augmentation", "none"),
        ("study", "labels", "--dataset", "digits", "--network", "fc", "--augmentation", "none"),
        ("run", "plan.yaml"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_without_choices_nothing_is_made(arguments: Sequence[str], tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    uri = f"sqlite:///{tmp_path}/new.db"
    done = aepretrain(*arguments, "--tuned", folder=tmp_path, MLFLOW_TRACKING_URI=uri)
    assert "is not tuned, or not like the other arms: run aepretrain tune" in done.refusal()
    assert [path.name for path in tmp_path.iterdir()] == ["plan.yaml"]


def test_what_is_no_classifier_cannot_be_tuned() -> None:
    spec = TrainingSpec(variant="pca", network="fc", seed=0)
    with pytest.raises(UsageError, match="variant='pca' cannot be tuned: it must be one of frozen"):
        arms_of([spec])
