import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sdnjax.data.data_settings import Data
from sdnjax.data.locks import Lock
from sdnjax.data.preparing import examine
from sdnjax.data.preparing import prepare as prepare_module
from sdnjax.data.preparing.command import main
from sdnjax.data.preparing.prepare import prepare
from sdnjax.data.sets import DATA_SETS, shapes
from sdnjax.data.sets.scenes import render_scene
from sdnjax.data.sources import open_source
from sdnjax.errors import InputError
from tests.data.conftest import one_line, png


def everything(root):
    return sorted(str(p.relative_to(root)) for p in root.rglob("*"))


@pytest.fixture(scope="module")
def prepared(camvid_dir, tmp_path_factory):
    root = tmp_path_factory.mktemp("prepared")
    target, skipped = prepare("camvid", root, camvid_dir, partial=True, progress=False)
    assert target == root / "camvid" / "1.0.0"
    assert skipped == {}
    return root


@pytest.mark.parametrize("split", ["train", "val"])
def test_prepared_equals_the_folder(prepared, camvid_dir, split):
    ours = open_source(Data(name="camvid", dir=str(prepared)), split)
    theirs = open_source(Data(name="camvid", dir=str(camvid_dir)), split)
    assert type(ours) is not type(theirs)
    assert len(ours) == len(theirs)
    for k in range(len(theirs)):
        assert ours[k].name == ours.name(k) == theirs[k].name
        np.testing.assert_array_equal(ours[k].image, theirs[k].image)
        np.testing.assert_array_equal(ours[k].label, theirs[k].label)
        # Stored bytes are the files themselves.
        assert ours.read(k).image == theirs.read(k).image
        assert ours.read(k).label == theirs.read(k).label


def test_prepared_split_is_checked(prepared):
    with pytest.raises(InputError, match="did you mean val"):
        open_source(Data(name="camvid", dir=str(prepared)), "vall")


def test_damaged_index_is_named(prepared, tmp_path):
    folder = tmp_path / "camvid" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(InputError) as error:
        open_source(Data(name="camvid", dir=str(tmp_path)), "train")
    assert f"{folder}: damaged, prepare it again" in one_line(error)


def test_one_that_an_earlier_version_prepared_is_read(prepared, tmp_path):
    """The module that wrote it need not exist any more."""
    folder = shutil.copytree(prepared / "camvid", tmp_path / "camvid") / "1.0.0"
    info = json.loads((folder / "dataset_info.json").read_text())
    info["moduleName"] = "sdnjax.data.builders.camvid"
    (folder / "dataset_info.json").write_text(json.dumps(info))
    assert open_source(Data(name="camvid", dir=str(tmp_path)), "train")[6].name == "train_006"


def test_stored_facts_are_those_of_the_record(prepared):
    info = json.loads((prepared / "camvid" / "1.0.0" / "dataset_info.json").read_text())
    camvid = DATA_SETS["camvid"]
    assert (info["name"], info["version"]) == ("camvid", camvid.version)
    assert info["description"] == camvid.description.strip()
    assert info["citation"] == camvid.citation.strip()
    assert info["redistributionInfo"]["license"] == camvid.license


def test_one_without_a_version_cannot_be_prepared(tmp_path):
    mine = dataclasses.replace(DATA_SETS["camvid"], version=None)
    with pytest.raises(InputError, match="camvid cannot be prepared: it is read from its files"):
        prepare(mine, tmp_path, tmp_path, progress=False)


def test_tfds_reads_it_too(prepared):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(prepared / "camvid" / "1.0.0")
    assert builder.info.splits["train"].num_examples == 7
    assert "CC BY-NC 4.0" in builder.info.description
    example = builder.as_data_source("val")[0]
    assert example["image"].shape == (36, 48, 3)
    assert example["label"].shape == (36, 48, 1)


def test_bad_file_is_named_and_the_checks_are_kept(own_camvid, tmp_path):
    path = own_camvid / "valannot" / "val_003.png"
    right = path.read_bytes()
    path.write_bytes(png(np.full((36, 48), 77)))
    out = tmp_path / "new" / "data"
    with pytest.raises(InputError) as error:
        prepare("camvid", out, own_camvid, partial=True, progress=False)
    assert f"{path}: label value 77" in one_line(error)
    assert [p.name for p in (out / "camvid").iterdir()] == [".work-1.0.0"]
    path.write_bytes(right)
    prepare("camvid", out, own_camvid, partial=True, progress=False)
    assert [p.name for p in (out / "camvid").iterdir()] == ["1.0.0"]


def test_an_error_before_the_first_check_leaves_nothing_behind(own_camvid, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(examine, "_examine_block", full)
    with pytest.raises(InputError, match=r"1\.0\.0: cannot be written \(No space left on device"):
        prepare("camvid", tmp_path / "new" / "data", own_camvid, partial=True, progress=False)
    assert not (tmp_path / "new").exists()


def test_skip_leaves_bad_pairs_out(own_camvid, tmp_path):
    (own_camvid / "train" / "train_002.png").write_bytes(b"x")
    _, skipped = prepare(
        "camvid",
        tmp_path / "data",
        own_camvid,
        on_bad_image="skip",
        partial=True,
        progress=False,
    )
    assert list(skipped) == ["train_002"]
    source = open_source(Data(name="camvid", dir=str(tmp_path / "data")), "train")
    assert [source.name(k) for k in (1, 2)] == ["train_001", "train_003"]
    assert len(source) == 6
    assert everything(tmp_path / "data")[:2] == ["camvid", "camvid/1.0.0"]


def test_a_split_without_a_good_example_is_an_error(own_camvid, tmp_path):
    for path in (own_camvid / "val").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError) as error:
        prepare("camvid", tmp_path, own_camvid, on_bad_image="skip", partial=True, progress=False)
    assert "no example of 'val' can be read; the first failure: " in one_line(error)
    assert "val_000.png: the file is empty" in one_line(error)


def test_counts_are_compared(own_camvid, tmp_path, capsys):
    command = ["camvid", "--source", str(own_camvid), "--data-dir", str(tmp_path / "out")]
    assert main(command) == 2
    assert capsys.readouterr().err == (
        f"error: {own_camvid}: train has 7 of 367 examples, val has 4 of 101 examples; an "
        "incomplete download? --partial prepares what is there\n"
    )
    assert not (tmp_path / "out").exists()
    shutil.rmtree(own_camvid / "val")
    shutil.rmtree(own_camvid / "valannot")
    assert main(command) == 2
    assert "val has 0 of 101 examples" in capsys.readouterr().err
    assert main([*command, "--partial"]) == 0
    assert "partial: train has 7 of 367 examples" in capsys.readouterr().err


def test_a_test_split_may_be_missing_but_not_incomplete():
    camvid = DATA_SETS["camvid"]
    assert camvid.counts == {"train": 367, "val": 101, "test": 233}
    found = {"train": [0] * 367, "val": [0] * 101}
    assert prepare_module._missing(camvid, None, found, partial=False) == []
    found["test"] = [0] * 232
    with pytest.raises(InputError, match="test has 232 of 233 examples"):
        prepare_module._missing(camvid, None, found, partial=False)


def test_a_folder_that_is_no_data_set_is_not_replaced(own_camvid, tmp_path):
    (tmp_path / "out" / "camvid" / "1.0.0").mkdir(parents=True)
    (tmp_path / "out" / "camvid" / "1.0.0" / "features.json").write_text("{}")
    with pytest.raises(InputError, match=r"1\.0\.0 is there but not complete: remove it"):
        prepare("camvid", tmp_path / "out", own_camvid, partial=True, progress=False)


def test_a_full_disk_is_noticed_before_writing(own_camvid, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(prepare_module.shutil, "disk_usage", lambda _: usage._replace(free=99))
    with pytest.raises(InputError, match=r"1\.0\.0: needs .* GiB, there are 0\.0 GiB left"):
        prepare("camvid", tmp_path, own_camvid, partial=True, progress=False)


def test_a_file_that_changes_meanwhile_is_noticed(own_camvid, tmp_path, monkeypatch):
    path, write = own_camvid / "train" / "train_004.png", prepare_module._write

    def touch_and_write(*arguments, **named):
        os.utime(path, ns=(1, 1))
        write(*arguments, **named)

    monkeypatch.setattr(prepare_module, "_write", touch_and_write)
    with pytest.raises(InputError) as error:
        prepare("camvid", tmp_path, own_camvid, partial=True, progress=False)
    assert str(path) in one_line(error)
    assert "changed while it was prepared" in one_line(error)
    assert not (tmp_path / "camvid" / "1.0.0").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["camvid"], "camvid needs --source"),
        (["camvid", "--source", "/no/such/folder"], "--source /no/such/folder is not a folder"),
        (["camvid", "--source", "EMPTY"], "expected train/*.png with trainannot/*.png"),
        (["shapes", "--source", "EMPTY"], "leave out --source"),
        (["shape"], "'shape'"),
        (["camvid", "--sauce", "x"], "did you mean --source?"),
        (["shapes", "--workers", "0"], "workers must be at least 1"),
        (["shapes", "--superpixels", "0"], "superpixels must be 1 to 65536"),
        (["shapes", "--data-dir", "FILE"], "cannot be"),
    ],
)
def test_command_says_what_is_wrong(arguments, message, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    places = {"EMPTY": str(tmp_path / "empty"), "FILE": str(tmp_path / "file" / "x")}
    data_dir = [] if "FILE" in arguments else ["--data-dir", str(tmp_path / "out")]
    assert main([places.get(a, a) for a in arguments] + data_dir) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "out").exists()


def test_command_prepares(own_camvid, tmp_path, capsys):
    (own_camvid / "val" / "val_000.png").write_bytes(b"x")
    arguments = ["camvid", "--source", str(own_camvid), "--data-dir", str(tmp_path / "out")]
    assert main([*arguments, "--on-bad-image", "skip", "--partial"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'out' / 'camvid' / '1.0.0'} (1 skipped)\n"
    assert "skipped: " in err
    assert "val_000.png" in err
    assert main(arguments) == 0  # it is there: nothing is read again


def test_interrupt_says_how_far_it_is(camvid_dir, tmp_path, monkeypatch, capsys):
    find, found = examine.find, []

    def find_and_interrupt(item, recipe):
        found.append(item.name)
        if item.name == "val_002":
            signal.raise_signal(signal.SIGINT)
        return find(item, recipe)

    out = tmp_path / "out"
    command = ["camvid", "--source", str(camvid_dir), "--data-dir", str(out), "--partial"]
    with monkeypatch.context() as patched:
        patched.setattr(examine, "find", find_and_interrupt)
        assert main([*command, "--workers", "1"]) == 130
    assert capsys.readouterr().err.endswith(
        "interrupted: 7 of 11 examples are checked; the same command goes on from there\n"
    )
    assert [p.name for p in (out / "camvid").iterdir()] == [".work-1.0.0"]
    monkeypatch.setattr(examine, "find", lambda *a: found.append(a[0].name) or find(*a))
    found.clear()
    assert main([*command, "--workers", "1"]) == 0
    assert found == [f"val_{k:03d}" for k in range(4)]
    assert [p.name for p in (out / "camvid").iterdir()] == ["1.0.0"]


def test_interrupt_while_writing(camvid_dir, tmp_path, monkeypatch, capsys):
    from sdnjax.data.preparing import builder

    def interrupt(*_):
        assert list(tmp_path.glob("camvid/.work-1.0.0/writing-*/camvid/incomplete*"))
        signal.raise_signal(signal.SIGINT)

    command = ["camvid", "--source", str(camvid_dir), "--data-dir", str(tmp_path), "--partial"]
    with monkeypatch.context() as patched:
        patched.setattr(builder, "_features", interrupt)
        assert main([*command, "--workers", "1"]) == 130
    assert capsys.readouterr().err.endswith(
        "interrupted: everything is checked; the same command writes the data set\n"
    )
    assert not list(tmp_path.glob("camvid/.work-1.0.0/writing-*"))
    monkeypatch.setattr(examine, "find", None)  # nothing is checked again
    assert main([*command, "--workers", "1"]) == 0


def test_killed_and_started_again(tmp_path):
    """SIGKILL in the middle: the workers end, finished blocks are not done again."""
    source, out, count = tmp_path / "camvid", tmp_path / "out", 1280
    image = np.random.default_rng(0).integers(0, 256, (180, 240, 3))
    for folder, content in (("train", png(image)), ("trainannot", png(np.ones((180, 240))))):
        (source / folder).mkdir(parents=True)
        (source / folder / "0000.png").write_bytes(content)
        for k in range(1, count):  # one file under many names
            os.link(source / folder / "0000.png", source / folder / f"{k:04d}.png")
    command = ["-m", "sdnjax.data.prepare", "camvid", "--source", str(source), "--partial"]
    command += ["--data-dir", str(out), "--workers", "2"]
    root = Path(__file__).parents[3]
    target, work = out / "camvid" / "1.0.0", out / "camvid" / ".work-1.0.0"
    process = subprocess.Popen([sys.executable, *command], cwd=root, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while len(list(work.glob("train-*.zip"))) < 1:
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        workers = children.read_text().split() if children.exists() else []
    finally:
        process.kill()
        process.wait()
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "a worker outlives its parent"
        time.sleep(0.01)
    finished = {p.name: p.stat().st_ino for p in work.glob("train-*.zip")}
    assert 1 <= len(finished) < 10
    assert not target.exists()

    (work / "writing-stale").mkdir()  # as left by one that was killed while it wrote
    done, run = [], examine._examine_block
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(examine, "_examine_block", lambda *a: done.append(a[0].file) or run(*a))
        prepare("camvid", out, source, partial=True, progress=False)
    assert len(done) == 10 - len(finished)
    assert not {path.name for path in done} & set(finished)
    assert not work.exists()
    prepared = open_source(Data(name="camvid", dir=str(out)), "train")
    assert len(prepared) == count
    assert [prepared.name(k) for k in (0, 127, 128, 1279)] == ["0000", "0127", "0128", "1279"]


@pytest.fixture
def few_scenes(monkeypatch):
    monkeypatch.setattr(shapes, "SCENES", {"train": (0, 6), "val": (1, 3)})


def test_shapes_prepares_itself_in_the_cache(few_scenes, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = open_source(Data(), "val")
    assert len(source) == 3
    image, label = render_scene(1, 2)
    np.testing.assert_array_equal(source[2].image, image)
    np.testing.assert_array_equal(source[2].label, label)
    assert everything(tmp_path)[:3] == ["sdnjax", "sdnjax/shapes", "sdnjax/shapes/1.0.0"]


def test_shapes_has_a_fixed_number_of_scenes():
    assert shapes.SCENES == {"train": (0, 640), "val": (1, 128)}


def test_two_processes_may_prepare_at_once(few_scenes, tmp_path, monkeypatch):
    """The other one begins after us and has finished before we rename our folder."""
    write, others = prepare_module._write, []

    def overtaken(*arguments, **named):
        if not others:
            others.append(True)
            prepare("shapes", tmp_path, progress=False)
            assert (tmp_path / "shapes" / ".work-1.0.0").exists()  # it is ours, too
        write(*arguments, **named)

    monkeypatch.setattr(prepare_module, "_write", overtaken)
    prepare("shapes", tmp_path, progress=False)
    assert others
    assert len(open_source(Data(dir=str(tmp_path)), "train")) == 6
    assert [p.name for p in (tmp_path / "shapes").iterdir()] == ["1.0.0"]


def test_the_work_folder_of_another_process_is_left_alone(few_scenes, tmp_path):
    work = tmp_path / "shapes" / ".work-1.0.0"
    (work / "writing-theirs").mkdir(parents=True)
    with Lock(work / "lock") as theirs:
        theirs.share()
        prepare("shapes", tmp_path, progress=False)
        assert (work / "writing-theirs").exists()
    assert json.loads((tmp_path / "shapes" / "1.0.0" / "dataset_info.json").read_text())
