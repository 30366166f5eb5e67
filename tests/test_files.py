"""Files that hold what they held before, or all of what was written."""

import os
import stat

import pytest

from sdnjax.errors import InputError
from sdnjax.files import read_bytes, write_atomically


def test_bytes_and_text(tmp_path):
    path = tmp_path / "a.txt"
    write_atomically(path, b"\x00\r\n")
    assert path.read_bytes() == b"\x00\r\n"
    write_atomically(path, "größer\n")
    assert path.read_bytes() == "größer\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_there_stays_until_everything_is_written(tmp_path, monkeypatch):
    """And it is on the disk before it takes the place: in this order."""
    path, calls = tmp_path / "a.txt", []
    path.write_text("before")
    sync, replace = os.fsync, type(path).replace

    def fsync(descriptor):
        calls.append(("fsync", path.read_text(), os.fstat(descriptor).st_size))
        sync(descriptor)

    def replaced(self, target):
        calls.append(("replace", path.read_text()))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(type(path), "replace", replaced)
    write_atomically(path, "after")
    assert calls == [("fsync", "before", 5), ("replace", "before")]
    assert path.read_text() == "after"


@pytest.mark.parametrize("where", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path, monkeypatch, where, error):
    path = tmp_path / "a.txt"
    path.write_text("before")

    def fail(*_):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(*((os, "fsync") if where == "fsync" else (type(path), "replace")), fail)
        with pytest.raises(type(error)):
            write_atomically(path, "after")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_others_may_read_it_as_any_other_file(tmp_path):
    (tmp_path / "plain").write_text("")
    write_atomically(tmp_path / "atomic", "")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_reading_names_the_file(tmp_path):
    with pytest.raises(InputError, match=r"a\.txt: no such file"):
        read_bytes(tmp_path / "a.txt")
    with pytest.raises(InputError, match="cannot be read"):
        read_bytes(tmp_path)
