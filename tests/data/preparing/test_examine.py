import io
import os
import signal
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from sdnjax.data.data_settings import Data
from sdnjax.data.preparing import examine as module
from sdnjax.data.preparing.command import main
from sdnjax.data.preparing.examine import Job, all_items, examine
from sdnjax.data.sets import DATA_SETS
from sdnjax.data.sets.items import Pair
from sdnjax.data.sources import open_source
from sdnjax.errors import InputError
from tests.data.conftest import make_camvid, one_line, png

CAMVID = DATA_SETS["camvid"]
JOB = Job(CAMVID.label_space)


def run(root, work, **options):
    work.mkdir(exist_ok=True)
    return examine(all_items(CAMVID, root), JOB, work, block_size=3, **options)


def names(examined):
    return {
        split: [block.states[number][0] for block, number in places]
        for split, places in examined.places.items()
    }


@pytest.fixture
def done(monkeypatch):
    """The first example of every block that is examined in this process."""
    blocks, run_block = [], module._examine_block

    def record(block, job):
        blocks.append(block.states[0][0])
        return run_block(block, job)

    monkeypatch.setattr(module, "_examine_block", record)
    return blocks


def test_finished_blocks_are_not_done_again(own_camvid, tmp_path, done):
    first = run(own_camvid, tmp_path / "work")
    assert done == ["train_000", "train_003", "train_006", "val_000", "val_003"]
    assert names(first)["train"] == [f"train_{k:03d}" for k in range(7)]
    done.clear()
    assert names(run(own_camvid, tmp_path / "work")) == names(first)
    assert done == []


@pytest.mark.parametrize("change", ["content", "time", "size", "name"])
def test_a_changed_file_is_looked_at_again(own_camvid, tmp_path, done, change):
    run(own_camvid, tmp_path / "work")
    done.clear()
    path = own_camvid / "trainannot" / "train_004.png"
    facts = path.stat()
    if change == "content":
        path.write_bytes(png(np.full((38, 48), 77)))
        with pytest.raises(InputError, match=r"train_004\.png: label value 77"):
            run(own_camvid, tmp_path / "work")
    elif change == "time":
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
        run(own_camvid, tmp_path / "work")
    elif change == "size":
        path.write_bytes(path.read_bytes() + b"\0")
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        run(own_camvid, tmp_path / "work")
    else:
        path.rename(path.with_name("train_0040.png"))
        image = own_camvid / "train" / "train_004.png"
        image.rename(image.with_name("train_0040.png"))
        run(own_camvid, tmp_path / "work")
    assert done == ["train_003"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign"])
def test_a_damaged_block_is_done_again(own_camvid, tmp_path, done, damage):
    run(own_camvid, tmp_path / "work")
    done.clear()
    file = next((tmp_path / "work").glob("val-0000000-*.zip"))
    content = bytearray(file.read_bytes())
    if damage == "cut":
        content = content[:-30]
    elif damage == "flipped":
        content[content.index(b"null")] ^= 1
    elif damage == "empty":
        content = b""
    else:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("other", "x")
        content = stream.getvalue()
    file.write_bytes(content)
    run(own_camvid, tmp_path / "work")
    assert done == ["val_000"]


def test_a_full_disk_keeps_what_is_finished(own_camvid, tmp_path, monkeypatch, done):
    write = zipfile.ZipFile.writestr

    def fill_up(self, name, content):
        if len(done) == 3:
            raise OSError(28, "No space left on device")
        write(self, name, content)

    with monkeypatch.context() as patched:
        patched.setattr(zipfile.ZipFile, "writestr", fill_up)
        with pytest.raises(OSError, match="No space left"):
            run(own_camvid, tmp_path / "work")
    assert len(list((tmp_path / "work").iterdir())) == 2  # no part of a block
    done.clear()
    run(own_camvid, tmp_path / "work")
    assert done == ["train_006", "val_000", "val_003"]


def test_several_processes_find_the_same(own_camvid, tmp_path):
    """Also: the first bad example in order is raised, whichever was found first."""
    (own_camvid / "train" / "train_005.png").write_bytes(b"")
    (own_camvid / "trainannot" / "train_001.png").write_bytes(b"x")
    one = run(own_camvid, tmp_path / "one", on_bad_image="skip")
    two = run(own_camvid, tmp_path / "two", on_bad_image="skip", workers=2)
    assert names(one) == names(two)
    assert one.skipped == two.skipped
    assert list(two.skipped) == ["train_001", "train_005"]
    for path in (tmp_path / "one").iterdir():
        with zipfile.ZipFile(path) as a, zipfile.ZipFile(tmp_path / "two" / path.name) as b:
            assert a.read("errors.json") == b.read("errors.json")
    with pytest.raises(InputError) as error:
        run(own_camvid, tmp_path / "three", workers=2)
    assert "train_001.png: not an image" in one_line(error)


class Deadly(Pair):
    def read(self):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_is_one_line(own_camvid, tmp_path):
    splits = {
        split: [Deadly(p.name, p.image, p.label) for p in pairs]
        for split, pairs in all_items(CAMVID, own_camvid).items()
    }
    with pytest.raises(InputError, match="a worker process was ended from outside") as error:
        examine(splits, JOB, tmp_path, workers=2, block_size=3)
    assert one_line(error)


def test_skipped_examples_of_one_name_are_both_counted(tmp_path):
    root = make_camvid(tmp_path / "camvid", (("train", 2), ("val", 2)))
    for folder, split in (("train", "train"), ("val", "val")):
        (root / folder / f"{split}_000.png").rename(root / folder / "same.png")
        (root / f"{folder}annot" / f"{split}_000.png").rename(root / f"{folder}annot" / "same.png")
        (root / folder / "same.png").write_bytes(b"")
    skipped = run(root, tmp_path / "work", on_bad_image="skip").skipped
    assert len(skipped) == 2
    assert [
        str(root / split / "same.png") in "".join(skipped.values()) for split in ("train", "val")
    ]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def _encoded(array, form, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.asarray(array)).save(stream, form, **options)
    return stream.getvalue()


def _broken():
    """(image bytes, label bytes or None for the right ones, what the error says)."""
    image = png(np.random.default_rng(0).integers(0, 256, (8, 8, 3)))
    label = png(np.ones((8, 8)))
    grey = np.ones((8, 8), np.uint8)
    flipped = bytearray(image)
    flipped[len(image) // 2] ^= 255
    bomb = image[:16] + struct.pack(">II", 60000, 60000) + image[24:29]
    bomb += struct.pack(">I", zlib.crc32(bomb[12:29])) + image[33:]
    jpeg = _encoded(np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8), "JPEG")
    return [
        (b"", None, "the file is empty"),
        (None, b"", "the file is empty"),
        (b"<html>404</html>", None, "not an image"),
        (None, b"not found", "not an image"),
        (image[: len(image) // 2], None, "truncated or damaged"),
        (None, label[:48], "truncated or damaged"),
        (image[:30], None, "not an image"),
        (bytes(flipped), None, "truncated or damaged"),
        (bomb, None, "60000×60000 pixels, more than data.max_pixels"),
        (jpeg[:-30], None, "truncated or damaged"),
        (image[:8] + _chunk(b"IEND", b""), None, "not an image"),
        (None, png(np.full((8, 8), 12)), "label value 12"),
        (None, png(np.eye(8) * 200), "label value 200"),
        (None, png(np.ones((8, 9))), "an image and its label must have one size"),
        (None, png(np.ones((4, 8))), "an image and its label must have one size"),
        (png(np.ones((8, 7, 3))), None, "an image and its label must have one size"),
        (None, png(np.ones((8, 8, 1)) + np.arange(3)), "must be a grey or palette image"),
        (None, _encoded(np.dstack([grey, grey]), "PNG"), "some pixels are transparent"),
        (None, _encoded(grey.astype(np.uint16) * 300, "PNG"), "label value 300"),
        (_encoded(grey, "GIF")[:20], None, "not an image"),
    ]


def test_twenty_broken_of_a_thousand_are_all_named(tmp_path, capsys):
    root, broken = make_camvid(tmp_path / "camvid", (("val", 2),)), _broken()
    assert len(broken) == 20
    image, label = png(np.zeros((8, 8, 3))), png(np.ones((8, 8)))
    for folder, content in (("train", image), ("trainannot", label)):
        (root / folder).mkdir()
        for k in range(1000):
            (root / folder / f"{k:04d}.png").write_bytes(content)
    expected = {}
    for k, (bad_image, bad_label, message) in enumerate(broken):
        name = f"{(k * 487) % 1000:04d}"
        folder, content = ("train", bad_image) if bad_label is None else ("trainannot", bad_label)
        (root / folder / f"{name}.png").write_bytes(content)
        expected[name] = (str(root / folder / f"{name}.png"), message)
    assert len(expected) == 20
    command = ["camvid", "--source", str(root), "--data-dir", str(tmp_path / "out"), "--partial"]
    command += ["--workers", "1"]

    assert main(command) == 2
    first = min(expected)
    assert expected[first][0] in capsys.readouterr().err.splitlines()[-1]

    assert main([*command, "--on-bad-image", "skip"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'out' / 'camvid' / '1.0.0'} (20 skipped)\n"
    lines = [line for line in err.splitlines() if line.startswith("skipped: ")]
    assert len(lines) == 20
    for line, name in zip(lines, sorted(expected), strict=True):
        path, message = expected[name]
        assert path in line
        assert message in line
    source = open_source(Data(name="camvid", dir=str(tmp_path / "out")), "train")
    assert len(source) == 980
    kept = [source.name(k) for k in range(980)]
    assert kept == [f"{k:04d}" for k in range(1000) if f"{k:04d}" not in expected]
