"""A folder stands for the bucket: epath's calls on gs:// paths are led to it."""

import contextlib
import os
import pathlib

import pytest
from etils import epath
from etils.epath import gpath

from sdnjax.data.data_settings import Data
from sdnjax.data.preparing.command import main
from sdnjax.data.preparing.prepare import prepare
from sdnjax.data.reading import buckets
from sdnjax.data.reading.prepared import PreparedSource
from sdnjax.data.sources import open_source
from sdnjax.errors import InputError
from tests.data.conftest import one_line

URL = "gs://bucket/sets"
RELATIVE = pathlib.PurePosixPath("camvid/1.0.0")


class Bucket:
    """Where the bucket's files are, and what was called."""

    def __init__(self, root):
        self.root = root
        self.copied: list[str] = []
        self.fail_at: str | None = None

    def place(self, path):
        text = os.fspath(path)
        return os.fspath(self.root / text[5:]) if text.startswith("gs://") else text

    def call(self, original, path, *args, **kwargs):
        return original(self.place(path), *args, **kwargs)

    def copy(self, original, path, goal, **kwargs):
        name = os.path.basename(os.fspath(path))  # noqa: PTH119 (of a URL)
        if name == self.fail_at:
            pathlib.Path(self.place(goal)).write_bytes(b"half")
            raise OSError("connection lost\nin the middle")
        self.copied.append(name)
        return original(self.place(path), self.place(goal), **kwargs)

    def replace(self, original, path, goal):
        return original(self.place(path), self.place(goal))

    def makedirs(self, original, path, **kwargs):
        return original(self.place(path), **kwargs)


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    stand_in = Bucket(tmp_path / "bucket")
    stand_in.root.mkdir()
    # With TensorFlow, epath would ask its client, which no mock reaches.
    monkeypatch.setattr(gpath, "_is_tf_installed", lambda: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = ("exists", "isdir", "listdir", "mkdir", "open", "remove", "stat")
    with epath.testing.mock_epath(
        **dict.fromkeys(names, stand_in.call),
        copy=stand_in.copy,
        makedirs=stand_in.makedirs,
        replace=stand_in.replace,
    ):
        yield stand_in


@pytest.fixture
def filled(bucket, camvid_dir):
    """The bucket with a prepared CamVid; the cache of the machine that built it is empty."""
    target, _ = prepare("camvid", URL, camvid_dir, partial=True, progress=False)
    assert target == f"{URL}/camvid/1.0.0"
    (cache := buckets.mirror(URL)).rename(cache.with_name("built"))
    bucket.copied.clear()
    return bucket


def opened():
    return open_source(Data(name="camvid", dir=URL), "train")


def test_kinds_of_paths():
    assert buckets.is_bucket("gs://bucket/x")
    assert not buckets.is_bucket("/data/gs")
    assert not buckets.is_bucket(pathlib.Path("data"))
    assert buckets.is_bucket("s3://b/x")
    assert buckets.mirror("s3://b/x") != buckets.mirror("gs://b/x")
    with pytest.raises(InputError, match="hdfs://b/x: only folders and buckets of gs:// or s3://"):
        buckets.is_bucket("hdfs://b/x")


def test_prepared_in_a_bucket(bucket, camvid_dir, capsys):
    command = ["camvid", "--source", str(camvid_dir), "--data-dir", URL + "/", "--partial"]
    assert main([*command, "--workers", "1"]) == 0
    assert capsys.readouterr().out == f"{URL}/camvid/1.0.0\n"
    there = bucket.root / "bucket" / "sets" / "camvid" / "1.0.0"
    built = buckets.mirror(URL) / RELATIVE
    assert sorted(p.name for p in there.iterdir()) == sorted(p.name for p in built.iterdir())
    for path in built.iterdir():
        assert (there / path.name).read_bytes() == path.read_bytes()
    assert bucket.copied[-1] == "dataset_info.json"
    bucket.copied.clear()
    assert main([*command, "--workers", "1"]) == 0  # it is there
    assert bucket.copied == []


def test_read_from_a_copy(filled, camvid_dir, capsys):
    source = opened()
    said = capsys.readouterr().err
    assert f"of {URL}/camvid/1.0.0, 0." in said and f"MB, to {buckets.mirror(URL)}" in said
    assert isinstance(source, PreparedSource)
    folder = open_source(Data(name="camvid", dir=str(camvid_dir)), "train")
    assert [source.read(k).image for k in range(7)] == [folder.read(k).image for k in range(7)]
    assert filled.copied[-1] == "dataset_info.json"
    assert len(filled.copied) == len(set(filled.copied))
    filled.copied.clear()
    opened()
    assert filled.copied == []  # once


@pytest.mark.parametrize("direction", ["up", "down"])
def test_an_interrupted_copy_goes_on(bucket, camvid_dir, direction):
    bucket.fail_at = "camvid-val.array_record-00000-of-00001"
    if direction == "down":
        bucket.fail_at = None
        prepare("camvid", URL, camvid_dir, partial=True, progress=False)
        buckets.mirror(URL).rename(buckets.mirror(URL).with_name("built"))
        bucket.fail_at = "camvid-val.array_record-00000-of-00001"
        bucket.copied.clear()

    def copy():
        if direction == "up":
            prepare("camvid", URL, camvid_dir, partial=True, progress=False)
        else:
            opened()

    with pytest.raises(InputError) as error:
        copy()
    assert one_line(error) == f"{URL}: connection lost in the middle"
    first = list(bucket.copied)
    assert "camvid-train.array_record-00000-of-00001" in first
    assert "dataset_info.json" not in first
    goal = buckets.mirror(URL) if direction == "down" else bucket.root / "bucket" / "sets"
    assert not (goal / RELATIVE / "dataset_info.json").exists()
    bucket.fail_at = None
    bucket.copied.clear()
    copy()
    assert not set(bucket.copied) & set(first)
    assert {"camvid-val.array_record-00000-of-00001", "dataset_info.json"} <= set(bucket.copied)
    assert len(opened()) == 7
    assert sorted(p.name for p in (goal / RELATIVE).iterdir()) == sorted(first + bucket.copied)


def test_another_data_set_in_the_bucket_is_copied_anew(filled):
    opened()
    there = filled.root / "bucket" / "sets" / RELATIVE
    info = there / "dataset_info.json"
    info.write_text(info.read_text() + "\n")
    filled.copied.clear()
    opened()
    assert set(filled.copied) == {p.name for p in there.iterdir()}


def test_a_copy_of_the_wrong_size_is_an_error(filled, monkeypatch):
    def short(original, path, goal, **_):
        pathlib.Path(filled.place(goal)).write_bytes(b"short")

    with (
        epath.testing.mock_epath(
            **dict.fromkeys(("exists", "isdir", "listdir", "mkdir", "open"), filled.call),
            **dict.fromkeys(("remove", "stat", "makedirs"), filled.call),
            copy=short,
        ),
        pytest.raises(InputError, match=r"has 5 of \d+ bytes"),
    ):
        opened()
    assert not (buckets.mirror(URL) / RELATIVE / "dataset_info.json").exists()


def test_nothing_in_the_bucket_names_the_command(bucket):
    with pytest.raises(InputError) as error:
        opened()
    assert one_line(error) == (
        f"{URL} holds no camvid/1.0.0; `python -m sdnjax.data.prepare camvid --source DIR "
        f"--data-dir {URL}` prepares it"
    )
    with pytest.raises(InputError, match=f"prepare shapes --data-dir {URL}` prepares it"):
        open_source(Data(dir=URL), "train")


def test_a_bucket_that_cannot_be_reached_is_one_line(bucket, monkeypatch):
    class Denied(Exception):
        """As TensorFlow's, it is no OSError."""

    def refuse(*_):
        raise Denied("permission denied:\n  no credentials")

    monkeypatch.setattr(bucket, "place", refuse)
    for call in (opened, lambda: prepare("camvid", URL, "/nowhere", progress=False)):
        with pytest.raises(InputError) as error:
            call()
        assert one_line(error) == f"{URL}: permission denied: no credentials"


def test_processes_of_a_machine_wait_for_the_first(filled, monkeypatch):
    held = []

    @contextlib.contextmanager
    def record(path):
        held.append(path)
        yield

    monkeypatch.setattr(buckets, "locked", record)
    opened()
    assert held == [buckets.mirror(URL) / "camvid" / ".1.0.0.lock"]
