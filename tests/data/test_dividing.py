"""Parts of a split that are set aside to validate on."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from sdnjax.data.data_settings import Data
from sdnjax.data.dividing import set_aside
from sdnjax.data.pipeline.in_order import evaluation_examples
from sdnjax.data.sources import open_source
from sdnjax.errors import InputError
from tests.data import miniatures
from tests.data.conftest import one_line


def names(data, split):
    source = open_source(data, split)
    return [source.name(i) for i in range(len(source))]


@pytest.fixture
def own(tmp_path):
    root = miniatures.make_own(tmp_path / "own", counts=(("train", 12),), size=(6, 6))
    return Data(name="folder", dir=str(root), val_share=0.4)


def test_each_example_is_in_one_part_and_reads_as_before(own):
    train, val = names(own, "train"), names(own, "val")
    whole = dataclasses.replace(own, val_share=None)
    assert sorted(train + val) == sorted(names(whole, "train"))
    assert train
    assert val
    source, part = open_source(whole, "train"), open_source(own, "val")
    place = names(whole, "train").index(val[-1])
    np.testing.assert_array_equal(part[len(val) - 1].image, source[place].image)
    assert [e.name for e in evaluation_examples(own)] == val
    assert f"val: {len(val)} of the 12 examples of 'train' (data.val_share 0.4)" in part.note


def test_adding_pictures_moves_none(own):
    before = set(names(own, "val"))
    miniatures.make_own(Path(own.dir), counts=(("train", 20),), size=(6, 6))
    after = set(names(own, "val"))
    assert before <= after
    assert not (after - before) & set(names(own, "train"))


def test_share_is_about_what_was_asked():
    data = Data(val_share=0.2)
    count = sum(set_aside(f"picture {i}", data) for i in range(5000))
    assert abs(count / 5000 - 0.2) < 0.02
    # A greater share takes more, and drops none.
    more = Data(val_share=0.3)
    assert all(set_aside(f"{i}", more) for i in range(500) if set_aside(f"{i}", data))


def test_folds_are_disjoint_and_complete():
    for i in range(200):
        assert sum(set_aside(f"{i}", Data(fold=(k, 5))) for k in range(5)) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fold": (5, 5)}, "data.fold must be i,k with 0 <= i < k"),
        ({"fold": (0, 1)}, "data.fold must be"),
        ({"val_share": 0.2, "fold": (0, 5)}, "data.val_share must be none beside data.fold"),
        ({"val_share": 0.2, "val_split": "train"}, "data.val_split must be a name, and not"),
        ({"val_share": 1.0}, "data.val_share"),
    ],
)
def test_impossible_settings(changes, message):
    with pytest.raises(InputError) as error:
        Data(**changes)
    assert message in one_line(error)


def test_a_split_of_its_own_is_not_mixed_up_with_a_part(tmp_path):
    root = miniatures.make_own(tmp_path / "own", size=(6, 6))
    data = Data(name="folder", dir=str(root), fold=(0, 2))
    for split in ("train", "val"):
        with pytest.raises(InputError, match="has a split 'val' of its own"):
            open_source(data, split)
    other = dataclasses.replace(data, val_split="fold")
    assert len(names(other, "train")) + len(names(other, "fold")) == 3
    assert len(names(other, "val")) == 2


def test_an_empty_part_is_named(own):
    with pytest.raises(InputError, match=r"data.val_share 1e-09 leaves none of the 12 examples"):
        open_source(dataclasses.replace(own, val_share=1e-9), "val")
