import dataclasses
import shutil

import numpy as np
import pytest

from sdnjax.data.data_settings import Data
from sdnjax.data.reading.source import Failures, load_example
from sdnjax.data.sources import open_source
from sdnjax.errors import InputError
from sdnjax.ops.labels import IGNORE
from tests.data.conftest import one_line, png


def opened(root, split="train"):
    return open_source(Data(name="camvid", dir=str(root)), split)


def test_camvid_folder(camvid_dir):
    source = opened(camvid_dir)
    assert len(source) == 7
    assert source.split == "train"
    assert source.label_space.name == "camvid"
    example = source[1]
    assert example.name == "train_001"
    assert example.image.shape == (38, 48, 3)
    assert example.label.shape == (38, 48)
    assert IGNORE in example.label
    assert set(np.unique(example.label)) <= {*range(11), IGNORE}


@pytest.mark.parametrize("kind", ["image", "label"])
def test_truncated_file_is_named(own_camvid, kind):
    folder = "train" if kind == "image" else "trainannot"
    path = own_camvid / folder / "train_002.png"
    path.write_bytes(path.read_bytes()[:-40])
    source = opened(own_camvid)
    assert source[1].name == "train_001"
    with pytest.raises(InputError) as error:
        source[2]
    assert f"{path}: the image is truncated or damaged" in one_line(error)


def test_wrong_label_value_is_named(own_camvid):
    path = own_camvid / "trainannot" / "train_000.png"
    path.write_bytes(png(np.full((36, 48), 99)))
    with pytest.raises(InputError) as error:
        opened(own_camvid)[0]
    assert f"{path}: label value 99" in one_line(error)


def test_sizes_that_differ_are_named(own_camvid):
    path = own_camvid / "trainannot" / "train_000.png"
    path.write_bytes(png(np.zeros((36, 40))))
    with pytest.raises(InputError) as error:
        opened(own_camvid)[0]
    image = own_camvid / "train" / "train_000.png"
    assert f"{image} is 48×36 but {path} is 40×36" in one_line(error)


@pytest.mark.parametrize(("lost", "other"), [("trainannot", "label"), ("train", "image")])
def test_half_a_pair_is_named(own_camvid, lost, other):
    path = own_camvid / lost / "train_003.png"
    path.unlink()
    with pytest.raises(InputError) as error:
        opened(own_camvid)
    assert f"has no {other}: expected {path}" in one_line(error)


def test_missing_split_suggests(camvid_dir):
    with pytest.raises(InputError, match="did you mean train") as error:
        opened(camvid_dir, "trian")
    assert str(camvid_dir) in one_line(error)


def test_missing_folder_says_what_was_expected(tmp_path):
    with pytest.raises(InputError) as error:
        opened(tmp_path / "none")
    message = one_line(error)
    assert f"--data.dir {tmp_path / 'none'} does not exist" in message
    assert "train/*.png with" in message
    assert "camvid/1.0.0" in message
    with pytest.raises(InputError, match=r"expected train/.* with trainannot/\*\.png"):
        opened(tmp_path)


def test_camvid_needs_a_folder():
    with pytest.raises(InputError, match=r"camvid needs --data\.dir"):
        open_source(Data(name="camvid"), "train")


def test_raise_propagates(own_camvid):
    (own_camvid / "train" / "train_002.png").write_bytes(b"")
    failures = Failures()
    with pytest.raises(InputError, match="empty"):
        load_example(opened(own_camvid), 2, "raise", failures)
    assert len(failures) == 0


def test_skip_replaces_counts_once_and_wraps(own_camvid):
    for k in (2, 3, 6):
        (own_camvid / "train" / f"train_{k:03d}.png").write_bytes(b"")
    source, failures = opened(own_camvid), Failures()
    names = [load_example(source, k, "skip", failures).name for k in (0, 2, 3, 6, 2)]
    assert names == ["train_000", "train_004", "train_004", "train_000", "train_004"]
    assert sorted(failures.messages) == ["train_002", "train_003", "train_006"]
    assert len(failures) == 3
    assert "train_003.png: the file is empty" in failures.messages["train_003"]
    assert load_example(source, 2, "skip", failures, replace=False) is None


def test_nothing_readable_is_an_error(own_camvid):
    for path in (own_camvid / "val").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match="no example of 'val' can be read; the first failure"):
        load_example(opened(own_camvid, "val"), 1, "skip", Failures())


def test_home_is_expanded(camvid_dir, monkeypatch):
    monkeypatch.setenv("HOME", str(camvid_dir.parent))
    assert len(opened("~/camvid")) == 7


def test_files_may_vanish_later(own_camvid):
    source = opened(own_camvid)
    shutil.rmtree(own_camvid / "train")
    with pytest.raises(InputError, match=r"train_000\.png: no such file"):
        source[0]


def test_data_is_hashable_and_replaceable(camvid):
    assert hash(camvid) == hash(dataclasses.replace(camvid))
