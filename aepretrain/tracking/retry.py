"""Retries while the store is away, and errors of full disks."""

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
from aepretrain.redaction import in_a_line

FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 5.0

PASSING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
MENDABLE = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
FULL_SQLITE = ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_IOERR", "SQLITE_CANTOPEN")


class StoreError(Failure):
    """The tracking store cannot be opened or used."""


class Unavailable(StoreError):
    """The store is away or its disk is full: it may work later, and until then nothing else can be stored either."""


def one_line(error: BaseException) -> str:
    """An error's message on one line, without credentials, cut to a readable length."""
    return in_a_line(str(error))[:300] or type(error).__name__


def may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed later, as the store is away, busy or full; it has not refused the call."""
    status = _http_status(error)
    return isinstance(error, OSError) if status is None else status >= 500 or status in PASSING


def may_be_mended(error: BaseException) -> bool:
    """Whether it may succeed later, or when somebody has corrected credentials, permissions or limits."""
    return may_pass(error) or _http_status(error) in MENDABLE


@contextmanager
def where_possible() -> Iterator[None]:
    """Skip the rest of a block if the server forbids it, as with other users' runs, or if the run is gone."""
    try:
        yield
    except (MlflowException, requests.HTTPError) as error:
        if _http_status(error) not in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
            raise


def _http_status(error: BaseException) -> int | None:
    """The status that a server, or MLflow for a store of its own, has answered; None if there was no answer."""
    if isinstance(error, MlflowException):
        return int(error.get_http_status_code())  # type: ignore[no-untyped-call]  # MLflow has no types here
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code
    return None


def is_full(error: BaseException | None) -> bool:
    """Whether the error comes from a full or read-only disk, so that waiting does not help."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorname", "").startswith(FULL_SQLITE):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def full_disk_in_a_line() -> Iterator[None]:
    """Turn any error that a full or read-only disk causes into `Unavailable`."""
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
    """The seconds to wait before each further try."""
    delay_s = FIRST_DELAY_S
    while True:
        yield delay_s
        delay_s = min(2 * delay_s, LONGEST_DELAY_S)


def patient(client: MlflowClient, outage_s: float) -> MlflowClient:
    """The client, with calls that are repeated for this time while the store is away; then they raise `Unavailable`.

    After a signal they are not repeated. A call whose answer was lost is made twice, which leaves at most a run that
    never begins; the next start ends it.
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
