"""Where pictures and labels may lie in a user's own folder, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from sdnjax.data.data_settings import Data
from sdnjax.data.sets.folder import FOLDER
from sdnjax.data.sets.layouts import label_suffix
from sdnjax.data.sources import open_source
from sdnjax.errors import InputError
from tests.data.conftest import one_line


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def fill(root, picture, label, names=("a", "b", "c_1"), splits=("train", "val")):
    """Writes pairs; `picture` and `label` are patterns with SPLIT and NAME. Labels differ."""
    (root / "x").mkdir(parents=True)
    (root / "classes.csv").write_text("class,value\nno,0\nyes,1\n")
    for split in splits:
        for k, name in enumerate(names):
            for pattern, array in (
                (picture, np.full((4, 5, 3), 9 * k, np.uint8)),
                (label, (np.arange(20).reshape(4, 5) == k).astype(np.uint8)),
            ):
                save(root / pattern.replace("SPLIT", split).replace("NAME", name), array)
    return Data(name="folder", dir=str(root))


@pytest.mark.parametrize(
    ("picture", "label"),
    [
        ("images/SPLIT/NAME.jpg", "labels/SPLIT/NAME.png"),
        ("images/SPLIT/NAME.jpg", "masks/SPLIT/NAME.png"),
        ("images/SPLIT/NAME.jpg", "annotations/SPLIT/NAME_mask.png"),
        ("images/SPLIT/NAME.jpg", "labels/SPLIT/NAME-label.tif"),
        ("images/SPLIT/d/NAME.jpg", "labels/SPLIT/d/NAME_gt.png"),
        ("SPLIT/images/NAME.png", "SPLIT/labels/NAME.png"),
        ("SPLIT/images/NAME.png", "SPLIT/masks/NAME_mask.bmp"),
        ("SPLIT/NAME.jpg", "SPLIT/NAME_mask.png"),
        ("SPLIT/NAME.png", "SPLIT/NAME_label.png"),
    ],
)
def test_pairs_are_found(tmp_path, picture, label):
    data = fill(tmp_path, picture, label)
    assert FOLDER.splits(tmp_path) == ("train", "val")
    for split in ("train", "val"):
        source = open_source(data, split)
        assert [source.name(i).rpartition("/")[2] for i in range(3)] == ["a", "b", "c_1"]
        for k in range(3):
            np.testing.assert_array_equal(
                source[k].label, (np.arange(20).reshape(4, 5) == k).astype(np.uint8)
            )
    suffixed = "_" in label.rpartition("NAME")[2] or "-" in label
    assert open_source(data, "val").note.startswith("labels are named a") == suffixed


def message_of(data, split="train"):
    with pytest.raises(InputError) as error:
        open_source(data, split)
    return one_line(error)


def test_what_may_be_the_labels_in_two_ways(tmp_path):
    data = fill(tmp_path, "images/SPLIT/NAME.jpg", "labels/SPLIT/NAME.png")
    save(tmp_path / "masks/train/a.png", np.zeros((4, 5), np.uint8))
    assert "the labels of 'train' may lie in " in message_of(data)
    (tmp_path / "masks/train/a.png").rename(tmp_path / "labels/train/a_mask.png")
    (tmp_path / "masks/train").rmdir()
    assert "labels are named in several ways (a, a_mask)" in message_of(data)


def test_two_suffixes_are_refused():
    assert label_suffix(["a", "a_1"], ["a_mask", "a_1_mask"]) == "_mask"
    assert label_suffix(["a", "a_1"], ["a", "a_1"]) == ""
    assert label_suffix(["a"], ["b"]) == ""
    for labels in (["a_mask", "a_edge"], ["a", "b_mask"], ["a", "a_mask", "b"]):
        with pytest.raises(InputError, match="labels are named in several ways"):
            label_suffix(["a", "b"], labels)


def test_a_missing_label_is_named_with_its_suffix(tmp_path):
    data = fill(tmp_path, "images/SPLIT/NAME.jpg", "labels/SPLIT/NAME_mask.png")
    (tmp_path / "labels/train/b_mask.png").unlink()
    assert f"expected {tmp_path / 'labels/train/b_mask.png'}" in message_of(data)


def test_jpeg_labels_are_refused_with_the_reason(tmp_path):
    data = fill(tmp_path, "images/SPLIT/NAME.jpg", "labels/SPLIT/NAME.jpg")
    assert "a.jpg: labels cannot be JPG files, which change values" in message_of(data)


def test_an_undivided_folder(tmp_path):
    data = fill(tmp_path, "images/NAME.jpg", "labels/NAME.png", splits=("",))
    assert FOLDER.splits(tmp_path) == ("all",)
    assert len(open_source(data, "all")) == 3
    assert "--data.val_share 0.2" in message_of(data)


@pytest.mark.parametrize(
    "text",
    ["image,label\np/a.jpg,q/a.png\np/b.jpg, q/b.png\n", "p/b.jpg q/b.png\n\np/a.jpg\tq/a.png\n"],
)
def test_lists_of_pairs(tmp_path, text):
    data = fill(tmp_path, "p/NAME.jpg", "q/NAME.png", splits=("",))
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "train.txt").write_text(text)
    source = open_source(data, "train")
    assert [source.name(i) for i in range(len(source))] == ["p/a", "p/b"]
    assert source[1].label[0, 1] == 1
    for line, message in (
        ("p/a.jpg,q/a.png,1", "line 1: expected IMAGE,LABEL, two paths below"),
        ("p/a.jpg,q/z.png", "line 1: " + str(tmp_path / "q/z.png") + " does not exist"),
        ("p/a.jpg,q/a.png\np/a.jpg,q/b.png", "line 2: p/a.jpg is listed already"),
    ):
        (tmp_path / "lists" / "train.txt").write_text(line)
        assert message in message_of(data)
    (tmp_path / "lists" / "train.csv").write_text(text)
    assert "list one split: remove one of them" in message_of(data)
