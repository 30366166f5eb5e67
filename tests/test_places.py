"""Folders and buckets by one name, and a lease where there are no locks."""

import importlib.util
import json
import os
import pathlib
import subprocess
import threading
import time

import pytest

from sdnjax.errors import InputError
from sdnjax.files import replacing, write_atomically
from sdnjax.places import (
    InUse,
    Lease,
    _machine,
    download,
    in_bucket,
    make_folder,
    place,
    remove,
    upload,
)
from tests.bucket import bucket  # noqa: F401  (a fixture)


def test_a_place_is_a_path_or_in_a_bucket(bucket):  # noqa: F811
    assert type(place("runs/x")) is type(pathlib.Path("runs"))
    for same in ("s3://bucket/a/b", "s3://bucket/a/b/", pathlib.Path("s3://bucket/a/b")):
        assert str(place(same)) == "s3://bucket/a/b"
        assert in_bucket(same)
    assert str(place(place("s3://bucket/a")) / "b") == "s3://bucket/a/b"
    for here in ("runs/x", "/data/s3", "C:/data", "gs"):
        assert not in_bucket(here)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://host/x", "gs:// or s3://"),
        ("hdfs:/host/x", "gs:// or s3://"),
        ("gs://", "names no bucket"),
        ("s3://b/x", r"needs s3fs: pip install 'sdnjax\[s3\]'"),
    ],
)
def test_other_urls_are_refused_and_what_is_missing_is_named(monkeypatch, url, words):
    there = None if "s3" in url else object()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: there)
    with pytest.raises(InputError, match=words):
        place(url)


def test_objects_are_written_whole(bucket):  # noqa: F811
    path = bucket / "a" / "x.json"
    make_folder(path.parent)
    write_atomically(path, "ß")
    assert path.read_bytes() == "ß".encode()
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "ß"
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    remove(bucket / "a")
    remove(bucket / "a")
    assert not path.exists()


def test_folders_go_up_with_the_last_file_last_and_come_down(bucket, tmp_path):  # noqa: F811
    for name in ("seal", "a/1", "a/2"):
        (tmp_path / "up" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "up" / name).write_text(name)
    (bucket / "x" / "old").write_text("of an earlier one")
    upload(tmp_path / "up", bucket / "x", last="seal")
    assert sorted(p.name for p in (bucket / "x").iterdir()) == ["a", "seal"]
    created = {name: bucket_file.created for name, bucket_file in store().items()}
    assert max(created, key=created.__getitem__) == "/bucket/x/seal"
    (tmp_path / "down" / "a").mkdir(parents=True)
    (tmp_path / "down" / "a" / "1").write_text("cut")  # of another size: copied again
    (tmp_path / "down" / "a" / "2").write_text("???")  # taken to be the same
    download(bucket / "x", tmp_path / "down", {"a/1": 3 + 1, "a/2": 3, "missing": 1})
    assert (tmp_path / "down" / "a" / "1").read_text() == "a/1"
    assert (tmp_path / "down" / "a" / "2").read_text() == "???"
    assert len(list((tmp_path / "down").rglob("*.*"))) == 0


def store():
    from tests.bucket import MemoryBucket

    return MemoryBucket.store


def lease(bucket, **how):  # noqa: F811
    said = []
    how = {"renew": 0.1, "dead": 1.0, "report": said.append, **how}
    return Lease(bucket / "run" / ".lock", **how), said


def test_a_lease_keeps_others_out_and_is_given_back(bucket):  # noqa: F811
    first, _ = lease(bucket)
    with first:
        second, _ = lease(bucket)
        begin = time.monotonic()
        with pytest.raises(InUse, match=f"process {os.getpid()} on .* since 20"), second:
            pass
        assert time.monotonic() - begin < 1  # sooner than it takes for one who is dead
    assert not (bucket / "run" / ".lock").exists()
    with second:
        assert (bucket / "run" / ".lock").exists()


def left(bucket, **record):  # noqa: F811
    found = {"lease": "of-another", "process": 1, "host": "far", "since": "then", **record}
    (bucket / "run" / ".lock").write_bytes(json.dumps(found).encode())


def test_a_lease_that_nobody_renews_is_taken_over_and_that_is_said(bucket):  # noqa: F811
    left(bucket)
    mine, said = lease(bucket, dead=2.0)
    begin = time.monotonic()
    with mine:
        assert time.monotonic() - begin >= 2.0
        assert json.loads((bucket / "run" / ".lock").read_bytes())["process"] == os.getpid()
    assert "is held by process 1 on far since then: waiting 2 s for a sign of life" in said[0]
    assert "is taken over" in said[1]


def test_a_dead_process_of_this_machine_is_known_at_once(bucket):  # noqa: F811
    child = subprocess.Popen(["true"])
    child.wait()
    left(bucket, process=child.pid, machine=_machine())
    mine, _ = lease(bucket, dead=60)
    begin = time.monotonic()
    with mine:
        assert time.monotonic() - begin < 5


def test_a_holder_that_was_taken_over_ends(bucket):  # noqa: F811
    ended = threading.Event()
    codes = []

    def end(code):
        codes.append(code)
        ended.set()

    mine, said = lease(bucket, end=end)
    with mine:
        left(bucket)
        assert ended.wait(5)
        mine._done.set()
    assert codes[0] == 1
    assert "was taken over by process 1 on far" in said[0]
    assert (bucket / "run" / ".lock").exists()  # the other's


def test_a_damaged_lease_is_one_that_is_not_renewed(bucket):  # noqa: F811
    (bucket / "run" / ".lock").write_bytes(b"{")
    mine, _ = lease(bucket, dead=0.3)
    with mine:
        pass
