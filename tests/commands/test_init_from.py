"""Starting from another run: what is taken, by which name, and what is refused."""

import dataclasses

import numpy as np
import pytest
from flax import linen as nn

from sdnjax.commands.initial import flat, transferred
from sdnjax.commands.train import train
from sdnjax.commands.trained import load_network
from sdnjax.data import Data
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.models import Model
from sdnjax.models.layers import BatchNorm, conv
from tests.commands.test_train import experiment


class Necked(nn.Module):
    """A backbone with batch norm, a neck if asked for, and a classifier."""

    num_classes: int
    neck: bool = True

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.relu(BatchNorm(name="norm")(conv(4, 3, name="backbone")(x), train=train))
        if self.neck:
            x = conv(4, 1, name="neck")(x)
        return {"logits": conv(self.num_classes, 1, bias=True, name="classifier")(x)}


def plain(num_classes):
    return Necked(num_classes, neck=False)


def variables_of(workdir, own):
    found = load_network(workdir, own)
    return {k: np.asarray(v) for k, v in flat(found.variables).items()}


@pytest.fixture
def source(camvid, tmp_path):
    own = experiment(camvid, model=Necked, steps=3)
    train(own, tmp_path / "source", report=lambda line: None)
    return own, tmp_path / "source"


@pytest.fixture
def folder(camvid, tmp_path):
    """The pictures of CamVid with three classes, of which CamVid has two at other places."""
    for split in ("train", "val"):
        for kind, name in (("images", split), ("labels", f"{split}annot")):
            target = tmp_path / "own" / kind / split
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(camvid / name, target_is_directory=True)
    rows = "".join(f"{name},{value},\n" for name, value in (("cow", 0), ("sky", 1), ("road", 2)))
    rest = "".join(f"void,{value},\n" for value in range(3, 12))
    (tmp_path / "own" / "classes.csv").write_text(f"class,value,color\n{rows}{rest}")
    return tmp_path / "own"


def test_other_classes_keep_the_neck_and_the_classes_of_equal_names(source, folder, tmp_path):
    own, there = source
    data = dataclasses.replace(own.data, name="folder", dir=str(folder))
    lines = []
    new = dataclasses.replace(own, data=data, init_from=str(there), steps=1)
    # A rate of 0 leaves the parameters as they began.
    rate = dataclasses.replace(own.optimizer, learning_rate=0.0, end_learning_rate=0.0)
    new = dataclasses.replace(new, optimizer=dataclasses.replace(rate, weight_decay=0.0))
    train(new, tmp_path / "new", report=lines.append)
    before, after = variables_of(there, own), variables_of(tmp_path / "new", new)
    for path, x in before.items():
        if path.startswith("params/") and "classifier" not in path:
            np.testing.assert_array_equal(after[path], x, path)
    classes = load_network(there, own).classes
    for leaf in ("params/classifier/kernel", "params/classifier/bias"):
        for k, name in enumerate(("cow", "sky", "road")):
            if name in classes:
                np.testing.assert_array_equal(
                    after[leaf][..., k], before[leaf][..., classes.index(name)]
                )
        assert after[leaf].shape[-1] == 3
    (said,) = [line for line in lines if "taken from" in line]
    assert "tensors taken from step 3 of" in said and "2 of 3 classes kept by name" in said


def test_what_is_missing_there_is_named_and_can_be_left_out(source, camvid, tmp_path):
    _, there = source
    without = experiment(camvid, model=plain, init_from=str(there))
    with pytest.raises(InputError, match=r"neck/kernel is there alone; init_without neck leaves"):
        train(without, tmp_path / "a", report=lambda line: None)
    without = dataclasses.replace(without, init_without=("neck",))
    train(without, tmp_path / "a", report=lambda line: None)
    back = experiment(camvid, model=Necked, init_from=str(tmp_path / "a"))
    with pytest.raises(InputError, match=r"neck/kernel is missing there; init_without neck"):
        train(back, tmp_path / "b", report=lambda line: None)
    back = dataclasses.replace(back, init_without=("nek",))
    with pytest.raises(InputError, match=r"no part 'nek'; there are backbone, classifier, neck"):
        train(back, tmp_path / "b", report=lambda line: None)


class Directions(Necked):
    """A network of as many outputs as there are, whatever is asked for, as SegFix's is."""

    class_axes = False

    @nn.compact
    def __call__(self, x, *, train):
        if self.num_classes != 11:
            raise InputError("11 and no others")
        x = nn.relu(BatchNorm(name="norm")(conv(4, 3, name="backbone")(x), train=train))
        return {"logits": conv(11, 1, name="codes")(x)}


def test_a_network_without_a_place_for_each_class_can_start_from_another(source, camvid, tmp_path):
    _, there = source
    own = experiment(camvid, model=Directions, init_from=str(there), steps=1)
    own = dataclasses.replace(own, init_without=("neck", "classifier", "codes"))
    rate = dataclasses.replace(own.optimizer, learning_rate=0.0, end_learning_rate=0.0)
    own = dataclasses.replace(own, optimizer=dataclasses.replace(rate, weight_decay=0.0))
    train(own, tmp_path / "new", report=lambda line: None)
    before, after = variables_of(there, source[0]), variables_of(tmp_path / "new", own)
    kernel = "params/backbone/kernel"
    np.testing.assert_array_equal(after[kernel], before[kernel])


def test_segfix_has_no_place_for_each_class():
    for name in ("segfix_hr18s", "segfix_efficientnet-lite0"):
        own = Experiment(model=Model(name), data=Data("camvid_segfix"))
        assert not own.network(16).class_axes


def test_sources_that_are_none(camvid, tmp_path):
    (tmp_path / "a.pth").write_bytes(b"")
    for name, match in (("a.pth", "convert.py from-torch"), ("none", "is no work directory")):
        own = experiment(camvid, init_from=str(tmp_path / name))
        with pytest.raises(InputError, match=match):
            train(own, tmp_path / "run", report=lambda line: None)
    with pytest.raises(InputError, match="no effect without init_from"):
        experiment(camvid, init_without=("neck",))


def test_classes_in_another_order_are_found_by_name_and_the_rest_behind_them_stays():
    initial = {"a/head/kernel": np.zeros((2, 4)), "a/head/table": np.zeros((3, 2))}
    theirs = {"a/head/kernel": np.arange(6.0).reshape(2, 3), "a/head/table": np.ones((2, 2))}
    taken, said = transferred(
        initial,
        theirs,
        {"a/head/kernel": 1, "a/head/table": 0},
        ours=("x", "y", "z"),
        others=("z", "x"),
        without=(),
        where="there",
    )
    # One column more than there are classes: "no object".
    np.testing.assert_array_equal(taken["a/head/kernel"], [[1, 0, 0, 2], [4, 0, 3, 5]])
    np.testing.assert_array_equal(taken["a/head/table"], [[1, 1], [0, 0], [1, 1]])
    assert said == "; 2 of 3 classes kept by name, the others start anew"
