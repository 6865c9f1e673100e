"""A file is there whole, or as it was before."""

import os
import stat
from pathlib import Path

import pytest

from aepretrain.errors import Failure
from aepretrain.files import atomic_write


def test_a_file_is_replaced_when_all_of_it_is_there(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"
    for content in ("one", "two"):
        with atomic_write(target) as partial:
            partial.write_text(content)
        assert target.read_text() == content
    with pytest.raises(UnicodeEncodeError), atomic_write(target) as partial:
        partial.write_text("half, and then what cannot be written: \udc80", encoding="utf-8")
    assert target.read_text() == "two"
    assert list(target.parent.iterdir()) == [target]


def test_what_is_no_file_is_left_as_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # like a device, which only root could replace
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder", "."):
        with (
            pytest.raises(Failure, match=r"nothing can be written to .*: it is not an ordinary file"),
            atomic_write(tmp_path / name),
        ):
            pytest.fail("this must not be reached")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert {one.name for one in tmp_path.iterdir()} == {"pipe", "folder"}


def test_where_nothing_can_be_written_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    with pytest.raises(Failure, match=r"nothing can be written to .*: File exists"), atomic_write(tmp_path / "file/x"):
        pytest.fail("this must not be reached")
