"""A data set of one's own, given as a value: `Data(name=DataSet(…), dir=…)`."""

import dataclasses
import json

import numpy as np
import pytest

from sdnjax.commands.check import check_split
from sdnjax.data import (
    Data,
    DataSet,
    LabelSpace,
    Pair,
    dataset_of,
    evaluation_examples,
    label_space_of,
    open_source,
    train_batches,
)
from sdnjax.data.sets.shapes import SHAPES, scenes
from sdnjax.errors import InputError
from tests.data.conftest import one_line
from tests.data.miniatures import png

CLASSES = LabelSpace(
    "fields",
    classes=("soil", "leaf", "stem"),
    palette=((90, 60, 30), (30, 160, 60), (160, 160, 50)),
    file_values=((0, 255), (10, 0), (20, 1), (30, 2), (31, 2)),
)


def splits(root):
    return ("train", "val") if (root / "photos").is_dir() else ()


def pairs(root, split):
    first = {"train": "t", "val": "v"}[split]
    images = sorted((root / "photos").glob(f"{first}*.png"))
    return [Pair(p.stem, p, root / "masks" / p.name) for p in images]


FIELDS = DataSet("fields", CLASSES, splits, pairs, expected="photos/*.png with masks/*.png")


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("photos", "masks"):
        (tmp_path / folder).mkdir()
    for name in ("t0", "t1", "t2", "v0", "v1"):
        values = rng.choice([0, 10, 20, 30, 31], (5, 6)).repeat(8, 0).repeat(8, 1)
        (tmp_path / "masks" / f"{name}.png").write_bytes(png(values))
        (tmp_path / "photos" / f"{name}.png").write_bytes(png(rng.integers(0, 256, (40, 48, 3))))
    return Data(name=FIELDS, dir=str(tmp_path), crop_size=(24, 32), workers=2)


def test_it_is_read_as_the_named_ones_are(data):
    assert dataset_of(data) is FIELDS
    assert label_space_of(data) is CLASSES
    source = open_source(data, "train")
    assert [source.name(k) for k in range(len(source))] == ["t0", "t1", "t2"]
    names = []
    for k, example in enumerate(evaluation_examples(data)):
        names.append(example.name)
        np.testing.assert_array_equal(example.label, open_source(data, "val")[k].label)
        assert set(np.unique(example.label)) <= {0, 1, 2, 255}
    assert names == ["v0", "v1"]


@pytest.mark.parametrize("on", ["host", "device"])
def test_it_is_trained_on_as_the_named_ones_are(data, on):
    data = dataclasses.replace(data, augment_on=on)
    with train_batches(data, seed=0, batch_size=3, stop_step=2) as batches:
        assert batches.label_space is CLASSES
        assert batches.num_examples == 3
        first, second = list(batches)
    assert not np.array_equal(first["image"], second["image"])
    assert set(np.unique(first["label"])) == {0, 1, 2, 255}


def test_it_is_checked_as_the_named_ones_are(data, tmp_path):
    (tmp_path / "masks" / "t1.png").write_bytes(png(np.full((40, 48), 11)))
    results = check_split(data, "train", tmp_path / "out", report=lambda _: None)
    assert results["data"] == "fields"
    assert results["examples"] == 3
    assert results["published"] is None
    assert list(results["unusable"]) == ["t1"]
    assert "fields label files hold 0, 10, 20, 30-31" in results["unusable"]["t1"]
    assert json.loads((tmp_path / "out" / "train.json").read_text()) == results


def test_its_classes_may_be_in_its_folder(data):
    def read(root):
        assert root.name == data.dir.rpartition("/")[2]
        return CLASSES

    own = dataclasses.replace(data, name=dataclasses.replace(FIELDS, label_space=read))
    assert label_space_of(own) is CLASSES
    assert open_source(own, "train").label_space is CLASSES


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dir": None}, "fields needs --data.dir, the folder that holds it"),
        ({"dir": "/none"}, "--data.dir /none does not exist: expected photos/*.png with masks/"),
        ({"train_split": "trian"}, "has no split 'trian'; did you mean train?"),
        ({"superpixels": 200}, "data.name 'fields' cannot be prepared, as superpixels and"),
        ({"dir": "gs://bucket/x"}, "data.name 'fields' cannot be prepared, as superpixels and"),
    ],
)
def test_what_is_wrong_is_one_line(data, changes, message):
    data = dataclasses.replace(data, **changes)
    with pytest.raises(InputError) as error:
        open_source(data, data.train_split)
    assert message in one_line(error)


def test_a_file_that_is_missing_is_named(data, tmp_path):
    (tmp_path / "masks" / "t2.png").unlink()
    with pytest.raises(InputError, match=r"t2\.png: no such file"):
        open_source(data, "train")[2]


def test_one_that_is_generated_needs_no_folder():
    few = dataclasses.replace(SHAPES, version=None, items=lambda *args: scenes(*args)[:3])
    source = open_source(Data(name=few), "val")
    assert [source[k].name for k in range(len(source))] == ["1-00000", "1-00001", "1-00002"]
    with pytest.raises(InputError, match="shapes has no split 'test'; it has train, val"):
        open_source(Data(name=few), "test")


def test_records_are_compared_by_what_they_mean(data):
    """A configuration file that is loaded twice makes two records of the same data set."""
    again = DataSet("fields", dataclasses.replace(CLASSES), lambda _: (), lambda *_: [])
    assert dataclasses.replace(data, name=again) == data
    assert hash(dataclasses.replace(data, name=again)) == hash(data)
    others = [dataclasses.replace(CLASSES, name="x"), dataclasses.replace(CLASSES, file_values=())]
    for space in others:
        other = dataclasses.replace(FIELDS, label_space=space)
        assert dataclasses.replace(data, name=other) != data
