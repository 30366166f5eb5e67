"""Files that cannot be read while training, and how a run hears of them."""

import dataclasses
import io
import shutil

import numpy as np
import pytest
from PIL import Image

from sdnjax.data.data_settings import Data
from sdnjax.data.pipeline import loader
from sdnjax.data.pipeline.batches import train_batches
from sdnjax.data.sources import open_source
from sdnjax.errors import InputError
from tests.data.conftest import make_camvid, one_line, png


@pytest.fixture
def data(own_camvid, camvid):
    return dataclasses.replace(camvid, dir=str(own_camvid))


def run(data, **options):
    with train_batches(data, **{"seed": 3, "batch_size": 4, "stop_step": 6, **options}) as batches:
        return list(batches)


def test_bad_file_reaches_the_consumer_as_it_was(data, own_camvid):
    path = own_camvid / "train" / "train_004.png"
    path.write_bytes(path.read_bytes()[:100])
    batches = train_batches(data, seed=0, batch_size=1)
    with pytest.raises(InputError) as error:
        for _ in range(7):
            next(batches)
    assert f"{path}: the image is truncated or damaged" in one_line(error)
    assert list(batches) == []


def test_defects_reach_the_consumer_too(data, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(loader, "load_example", broken)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        run(data)


def test_skip_counts_and_goes_on(data, own_camvid):
    for name in ("train_004", "train_005"):
        (own_camvid / "train" / f"{name}.png").write_bytes(b"")
    data = dataclasses.replace(data, on_bad_image="skip")
    with train_batches(data, seed=0, batch_size=7, stop_step=3) as batches:
        assert [len(b["image"]) for b in batches] == [7, 7, 7]
    assert sorted(batches.failures.messages) == ["train_004", "train_005"]
    for mine, whole in zip(run(data, process_index=1, process_count=2), run(data), strict=True):
        for key, values in mine.items():
            np.testing.assert_array_equal(values, whole[key][2:])


@pytest.mark.parametrize("on_bad_image", ["raise", "skip"])
def test_another_size_is_no_bad_image_but_an_error(data, own_camvid, on_bad_image):
    """Under augment_on=device; the data set's images are 36, 38 and 40 rows high."""
    data = dataclasses.replace(data, augment_on="device", on_bad_image=on_bad_image)
    with pytest.raises(InputError) as error:
        run(data)
    message = one_line(error)
    assert str(own_camvid / "train" / "train_00") in message
    assert "other images are 48×36: data.augment_on=device needs images of one size" in message


def grey16(array):
    buffer = io.BytesIO()
    Image.fromarray(np.full(array.shape[:2], 999, np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


# What may happen to a pair of files, and what the one line says of it.
DAMAGES = [
    ("empty image", lambda image, label: image.write_bytes(b""), "is empty"),
    ("empty label", lambda image, label: label.write_bytes(b""), "is empty"),
    ("no image", lambda image, label: image.write_bytes(b"<html>404</html>"), "not an image"),
    ("cut image", lambda image, label: cut(image), "truncated or damaged"),
    ("cut label", lambda image, label: cut(label), "truncated or damaged"),
    ("flipped bits", lambda image, label: flip(image), "truncated or damaged"),
    ("other size", lambda image, label: label.write_bytes(png(np.zeros((3, 5)))), "one size"),
    ("unknown class", lambda image, label: label.write_bytes(png(np.full((8, 8), 77))), "77"),
    ("in colours", shutil.copy, "not RGB"),
    ("deep label", lambda image, label: label.write_bytes(grey16(np.zeros((8, 8)))), "999"),
    ("folder", lambda image, label: (image.unlink(), image.mkdir()), "cannot be read"),
    ("gone", lambda image, label: image.unlink(), "no such file"),
]


def cut(path):
    path.write_bytes(path.read_bytes()[:-30])


def flip(path):
    content = bytearray(path.read_bytes())
    content[60] ^= 255
    path.write_bytes(bytes(content))


@pytest.fixture(scope="module")
def thousand(tmp_path_factory):
    """A thousand pairs of 8×8 pixels, twenty of them damaged in twelve ways after they were
    found, and what is wrong with those."""
    root = tmp_path_factory.mktemp("thousand") / "camvid"
    make_camvid(root, counts=(("train", 1000),), size=(8, 8), taller=0)
    source = open_source(Data(name="camvid", dir=str(root)), "train")
    damaged = {}
    for k, number in enumerate(range(13, 1000, 50)):
        name = f"train_{number:03d}"
        _, damage, what = DAMAGES[k % len(DAMAGES)]
        damage(root / "train" / f"{name}.png", root / "trainannot" / f"{name}.png")
        damaged[name] = what
    return source, damaged


@pytest.mark.parametrize("on", ["host", "device"])
def test_an_epoch_with_twenty_bad_pairs(thousand, on):
    source, damaged = thousand
    data = Data(name="camvid", augment_on=on, crop_size=(8, 8), on_bad_image="skip")
    options = {"seed": 0, "batch_size": 100, "stop_step": 10, "source": source}
    with train_batches(data, **options) as batches:
        assert [len(batch["image"]) for batch in batches] == [100] * 10
    assert batches.failures.messages.keys() == damaged.keys()
    for name, message in batches.failures.messages.items():
        assert f"{name}.png" in message
        assert damaged[name] in message
        assert "\n" not in message
    data = dataclasses.replace(data, on_bad_image="raise")
    with train_batches(data, **options) as raising, pytest.raises(InputError) as error:
        list(raising)
    assert one_line(error) in batches.failures.messages.values()
