"""The journal between a training and its store: what it promises when disk, store or process fail at a bad moment."""

import errno
import os
import resource
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE, PERMISSION_DENIED

from aepretrain import runner, tracking
from aepretrain.config import Execution, Settings, TrainingSpec
from aepretrain.tracking import Run, Sender, Store, StoreError, Unavailable, journal, journals_folder, retry
from aepretrain.tracking.journal import Journal
from aepretrain.tracking.operations import Operation
from tests.runs import FIGURES, KEY, begin, stored

END = Operation("end", ["FINISHED", 1_000])


@pytest.fixture
def kept(store: Store) -> Journal:
    """An empty journal of a run that has begun."""
    return Journal.begin(store, KEY, begin(store).run_id)


class Refusals:
    """Makes calls of MLflow's client fail with an error code, as long as it is set; counts them."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.count = 0

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            if self.code is None:
                return call(*arguments, **options)
            self.count += 1
            raise MlflowException("no", error_code=self.code)

        return called


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> Refusals:
    found = Refusals()
    for name in ("log_batch", "set_terminated"):
        monkeypatch.setattr(MlflowClient, name, found.around(getattr(MlflowClient, name)))
    return found


def write(store: Store, run: Run, outage_s: float = 0.2, meanwhile: Callable[[Run], None] = lambda _: None) -> None:
    """What a training writes, through a journal."""
    with Sender(Store(store.uri, store.experiment_id, outage_s)) as sender:
        run = run.journaled(KEY, sender)
        run.log_metrics(FIGURES)
        run.log_bytes("evidence/file", b"content")
        meanwhile(run)
        run.finish()


def test_what_is_sent_while_it_is_being_written_leaves_no_debt(
    store: Store, kept: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender looks just when the end lies in the file but is not yet safe on the disk."""
    senders = []
    sync = os.fsync

    def slow(number: int) -> None:
        senders.append(threading.Thread(target=kept.send, args=(store.bare_client,)))
        senders[-1].start()
        time.sleep(0.2)
        sync(number)

    monkeypatch.setattr(os, "fsync", slow)
    kept.append(END)
    for sender in senders:
        sender.join()
    assert not kept.is_behind
    assert not kept.folder.exists()
    assert stored(store, kept.run_id).info.status == "FINISHED"


def test_an_end_that_is_not_safe_on_the_disk_is_none(kept: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> NoReturn:
        raise OSError(errno.ENOSPC, "full")

    kept.append(Operation("tags", {"a": "b"}))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"full: .*/operations\.jsonl"):
            kept.append(END)
        with pytest.raises(OSError, match=r"full: .*/artifacts/weights\.pt"):
            kept.append(Operation("artifact", "weights.pt"), b"content")
    assert kept.final_state() is None
    kept.append(Operation("end", ["FAILED", 1_000]))
    assert kept.final_state() == "FAILED"


def test_a_line_that_finds_no_room_leaves_no_trace(kept: Journal) -> None:
    """The room is short for real: no file of this process may grow beyond it."""
    kept.append(Operation("tags", {"a": "b"}))
    size = (kept.folder / "operations.jsonl").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
    try:
        with pytest.raises(OSError, match=r"No space left.*/operations\.jsonl"):
            kept.append(Operation("tags", {"c": "d" * 100}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (kept.folder / "operations.jsonl").stat().st_size == size
    kept.append(END)
    assert kept.final_state() == "FINISHED"


def test_a_journal_whose_removal_was_interrupted_is_not_uploaded(
    store: Store, kept: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.append(Operation("artifact", "evidence/file"), b"content")
    kept.append(END)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # as if killed before it
        kept.remove()
    assert kept.folder.exists()
    assert tracking.recover(store) == 0
    assert not kept.folder.exists()
    assert stored(store, kept.run_id).info.status == "KILLED"


@pytest.mark.parametrize("damage", [b'["tags", {"a"\n', b"\xff\n", b'["nothing", 1]\n["end", ["FINISHED", 1]]\n'])
def test_a_damaged_journal_is_named(damage: bytes, store: Store, kept: Journal) -> None:
    (kept.folder / "operations.jsonl").write_bytes(damage)
    with pytest.raises(StoreError, match=f"{kept.folder} cannot be uploaded.*remove that folder"):
        tracking.recover(store)


def test_a_journal_without_one_of_its_files_is_named(store: Store, kept: Journal) -> None:
    kept.append(Operation("artifact", "evidence/file"), b"content")
    kept.append(END)
    (kept.folder / "artifacts" / "evidence" / "file").unlink()
    with pytest.raises(StoreError, match="evidence/file is missing"):
        tracking.recover(store)
    assert stored(store, kept.run_id).info.status == "RUNNING", "nothing is claimed that is not there"


def test_a_store_that_is_there_needs_no_patience(store: Store) -> None:
    run = begin(store)
    write(store, run, outage_s=0)
    assert stored(store, run.run_id).info.status == "FINISHED"
    assert not list(journals_folder(store).iterdir())


@pytest.mark.parametrize("code", [INTERNAL_ERROR, PERMISSION_DENIED])
def test_what_is_not_taken_now_is_kept_and_uploaded_later(code: int, store: Store, refusals: Refusals) -> None:
    run = begin(store)
    refusals.code = code
    with pytest.raises(Unavailable, match=f"aepretrain sync --tracking-uri {store.uri}"):
        write(store, run, outage_s=0.6)
    assert refusals.count > 1, "it was tried again"
    refusals.code = None
    assert tracking.recover(store) == 1
    assert store.done(KEY) is not None
    assert tracking.recover(store) == 0


def test_what_is_refused_for_good_fails_its_run(store: Store, refusals: Refusals) -> None:
    def wait_until_refused(run: Run) -> None:
        while run.journal is not None and run.journal.refused is None:
            time.sleep(0.01)
        refusals.code = None

    run = begin(store)
    refusals.code = INVALID_PARAMETER_VALUE
    with pytest.raises(StoreError, match="refuses a run"):
        write(store, run, meanwhile=wait_until_refused)
    assert not list(journals_folder(store).iterdir())
    assert tracking.recover(store) == 0
    assert stored(store, run.run_id).info.status in ("FAILED", "KILLED"), "as far as the store let itself be told"


def test_a_refusal_of_the_last_word_is_an_error_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training has written all by then, and learns of it when it waits for its uploads."""
    statuses: list[str] = []
    end = MlflowClient.set_terminated

    def refuse_first(client: MlflowClient, run_id: str, status: str, *given: Any) -> None:
        statuses.append(status)
        if len(statuses) == 1:
            raise MlflowException("no", error_code=INVALID_PARAMETER_VALUE)
        end(client, run_id, status, *given)

    run = begin(store)
    monkeypatch.setattr(MlflowClient, "set_terminated", refuse_first)
    with pytest.raises(StoreError, match="refuses a run"):
        write(store, run)
    assert statuses == ["FINISHED", "FAILED"]
    assert stored(store, run.run_id).info.status == "FAILED"
    assert not list(journals_folder(store).iterdir())


def test_last_words_are_few(store: Store, refusals: Refusals, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: Run) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(journal, "LAST_WORDS_S", 0.2)
    run = begin(store)
    refusals.code = INTERNAL_ERROR
    started_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        write(store, run, 60, stop)
    assert time.monotonic() - started_s < 10


def test_a_run_that_ends_while_recovery_looks_stays_as_it_ended(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(store)
    seen = list(store.search({}, "attributes.status = 'RUNNING'"))
    run.log_metrics(FIGURES)
    run.finish()
    monkeypatch.setattr(Store, "search", lambda *_: iter(seen))
    tracking.recover(store)
    assert stored(store, run.run_id).info.status == "FINISHED"


def test_what_another_process_could_not_upload_is_not_trained_again(
    store: Store, refusals: Refusals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It kept its journal after this one had looked for such."""
    spec = TrainingSpec(variant="scratch", network="fc", settings=Settings(dataset="digits", cls_epochs=1))
    execution = Execution(device="cpu")
    monkeypatch.setattr(tracking, "log_model", lambda *_: None)

    def away(event: runner.Event) -> None:
        if event.epoch is not None:
            refusals.code = INTERNAL_ERROR

    with pytest.raises(Unavailable):
        runner.run_single(spec, Store(store.uri, store.experiment_id, 0.2), execution, away)
    refusals.code = None
    monkeypatch.setattr(tracking, "recover", lambda _: 0)
    runner.run_single(spec, store, execution, lambda _: None)
    (only,) = store.search({"kind": "training"})
    assert only.info.status == "FINISHED"


def test_told_to_stop_during_its_last_write_a_training_is_finished(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = TrainingSpec(variant="scratch", network="fc", settings=Settings(dataset="digits", cls_epochs=1))
    end = Run.end

    def signalled(run: Run, status: str, time_ms: int | None) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        end(run, status, time_ms)

    monkeypatch.setattr(Run, "end", signalled)
    with pytest.raises(KeyboardInterrupt):
        runner.run_single(spec, store, Execution(device="cpu"), lambda _: None)
    (only,) = store.search({"kind": "training"})
    assert only.info.status == "FINISHED"


def test_a_parent_run_belongs_to_whom_entered_it_last(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "is_of_one_host", False)
    parent = tracking.open_grid(store, "grid", "g", run_id=None, again=False)
    parent.end("KILLED")
    store.client.set_tag(parent.run_id, "aepretrain.host", "another host")
    assert tracking.open_grid(store, "grid", "g", run_id=None, again=False).run_id == parent.run_id
    tracking.recover(store)
    assert stored(store, parent.run_id).info.status == "KILLED", "its process here is gone, for it holds no lock"


@pytest.mark.parametrize(
    ("error", "passes", "can_be_mended"),
    [
        (ConnectionRefusedError(), True, True),
        (MlflowException("down", error_code=INTERNAL_ERROR), True, True),
        (MlflowException("who are you", error_code=PERMISSION_DENIED), False, True),
        (MlflowException("what", error_code=INVALID_PARAMETER_VALUE), False, False),
        (ValueError(), False, False),
    ],
)
def test_which_errors_may_pass(error: Exception, passes: bool, can_be_mended: bool) -> None:
    assert (retry.may_pass(error), retry.may_be_mended(error)) == (passes, can_be_mended)


def test_a_patient_client_waits_for_a_store_that_is_away_but_not_for_one_that_refuses(
    store: Store, refusals: Refusals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "FIRST_DELAY_S", 0.01)
    run_id = begin(store).run_id
    patient = retry.patient(store.bare_client, 0.1)
    refusals.code = INVALID_PARAMETER_VALUE
    with pytest.raises(MlflowException):
        patient.log_batch(run_id, metrics=[])
    assert refusals.count == 1
    refusals.code = INTERNAL_ERROR
    with pytest.raises(Unavailable, match="does not answer"):
        patient.log_batch(run_id, metrics=[])
    assert refusals.count > 3
    threading.Timer(0.05, setattr, (refusals, "code", None)).start()
    patient.log_batch(run_id, metrics=[])


def test_a_snapshot_that_was_not_finished_goes_with_the_others(tmp_path: Path) -> None:
    file = runner.snapshots.SnapshotFile.of(tmp_path, ["key"], {})
    file.save({"a": 1})
    file.path.with_suffix(".partial").write_bytes(b"half")
    file.remove()
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_uploaded_as_the_store_is_away_is_kept(
    store: Store, kept: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise Unavailable("away")

    kept.append(END)
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "send", fail)
        with pytest.raises(Unavailable, match=r"^away$"):
            tracking.recover(store)
    assert tracking.recover(store) == 1
    assert not kept.folder.exists()


def test_an_incomplete_last_line_is_no_operation(store: Store, kept: Journal) -> None:
    kept.append(Operation("tags", {"a": "b"}))
    with (kept.folder / "operations.jsonl").open("ab") as file:
        file.write(b'["end", ["FINISHED", 1]]')
    assert kept.final_state() is None
    kept.send(store.bare_client)
    run = stored(store, kept.run_id)
    assert (run.data.tags["a"], run.info.status) == ("b", "RUNNING")
    assert kept.folder.exists()
