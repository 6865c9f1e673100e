"""Stores that are away for a while, and disks that take nothing more."""

import errno
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, cast

import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from aepretrain import stopping
from aepretrain.errors import Failure
from aepretrain.redaction import redact

FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 5.0

PASSING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
MENDABLE = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
FULL_SQLITE = ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_IOERR", "SQLITE_CANTOPEN")


class StoreError(Failure):
    """The tracking store cannot be opened or used."""


class Unavailable(StoreError):
    """The store, or the disk beside it, takes nothing now but may later: nothing else need be tried until then."""


def one_line(error: BaseException) -> str:
    """An error's message on one line, without credentials, cut to a readable length."""
    return redact(" ".join(str(error).split()))[:300] or type(error).__name__


def may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed later: the store is away, busy or full; it has not refused what it was told."""
    status = _http_status(error)
    return isinstance(error, OSError) if status is None else status >= 500 or status in PASSING


def may_be_mended(error: BaseException) -> bool:
    """Whether it may succeed later, if need be when somebody has put right credentials, permissions or limits."""
    return may_pass(error) or _http_status(error) in MENDABLE


@contextmanager
def where_allowed() -> Iterator[None]:
    """Leave the rest of a block undone where a server forbids it, as with runs of others."""
    try:
        yield
    except (MlflowException, requests.HTTPError) as error:
        if _http_status(error) != HTTPStatus.FORBIDDEN:
            raise


def _http_status(error: BaseException) -> int | None:
    """As a server gave it, or as MLflow says of its own stores; None of what is no answer."""
    if isinstance(error, MlflowException):
        return int(error.get_http_status_code())  # type: ignore[no-untyped-call]  # MLflow has no types here
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code
    return None


def is_full(error: BaseException | None) -> bool:
    """Whether a disk is full or read-only, so that waiting will not help."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorname", "").startswith(FULL_SQLITE):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def full_disk_in_a_line() -> Iterator[None]:
    """Raises `Unavailable` for whatever a disk that is full or read-only brings about."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        if not is_full(error):
            raise
        where = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else one_line(error)
        raise Unavailable(
            f"nothing can be written ({where}); what is finished is kept, and the same command goes on from there "
            "when there is room"
        ) from error


def delays() -> Iterator[float]:
    """How long to wait before each further try, in seconds."""
    delay_s = FIRST_DELAY_S
    while True:
        yield delay_s
        delay_s = min(2 * delay_s, LONGEST_DELAY_S)


def patient(client: MlflowClient, outage_s: float) -> MlflowClient:
    """The client, whose calls wait so long for a store that is away. Then they raise `Unavailable`.

    A call whose answer was lost is made twice, which leaves at most a run that never begins; the next start ends it.
    """
    return cast(MlflowClient, _Patient(client, outage_s))


class _Patient:
    def __init__(self, client: MlflowClient, outage_s: float) -> None:
        self._client, self._outage_s = client, outage_s

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)
        return (lambda *args, **options: self._try(lambda: call(*args, **options))) if callable(call) else call

    def _try(self, call: Callable[[], Any]) -> Any:
        until_s = time.monotonic() + self._outage_s
        retry = delays()
        while True:
            delay_s = next(retry)
            try:
                return call()
            except Exception as error:
                if not may_pass(error):
                    raise
                if stopping.is_requested() or time.monotonic() + delay_s > until_s:
                    raise Unavailable(
                        f"the tracking server does not answer ({one_line(error)}); what is finished is kept, and the "
                        "same command goes on from there when it does"
                    ) from error
            stopping.sleep(delay_s)
