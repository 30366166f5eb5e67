"""Checkpoints from before the network owned its classifier: every leaf finds its place."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax.traverse_util import flatten_dict

from sdnjax.errors import InputError
from sdnjax.models.old_layout import old_leaves
from tests.models.small import small_network
from tests.models.test_transformers import small

# Parameters outside the backbone, as trees of shapes, of version 0.1's networks.
OLD = json.loads((Path(__file__).parent / "old_layout.json").read_text())
IMAGE = jax.ShapeDtypeStruct((1, 65, 49, 3), jnp.float32)


def shapes(name):
    """Path → shape of a small network's parameters."""
    if name.startswith(("segm", "segf", "mask")):
        model = small(name)
    else:
        model = small_network(name, num_classes=4)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), IMAGE)
    return {k: list(x.shape) for k, x in flatten_dict(variables["params"], sep="/").items()}


@pytest.mark.parametrize("name", OLD)
def test_every_leaf_is_found_with_its_shape(name):
    new, old = shapes(name), flatten_dict(OLD[name], sep="/")
    old |= {path: shape for path, shape in new.items() if path.startswith("backbone/")}
    moved = old_leaves(old, new)
    assert moved.keys() == new.keys() and set(moved.values()) == old.keys()
    for path, was in moved.items():
        assert old[was] == new[path], (path, was)
        # Two leaves of one shape must not be taken for each other.
        assert path == was or path.startswith("classifier/"), (path, was)
        assert was.endswith("/" + path.partition("/")[2]) or path == was, (path, was)
    assert any(path != was for path, was in moved.items()) == ("maskformer" not in name)


def test_auxiliary_heads_stay():
    auxiliary = "decoder/auxiliary/classifier/seg/bias"
    moved = old_leaves(flatten_dict(OLD["ocrnet_hr18"], sep="/"), _without_backbone("ocrnet_hr18"))
    assert moved[auxiliary] == auxiliary
    assert moved["classifier/seg/bias"] == "decoder/classifier/seg/bias"


def test_a_checkpoint_of_today_stays_as_it_is():
    new = _without_backbone("deeplabv2_r50-d8")
    assert old_leaves(new, new) == {path: path for path in new}


def test_leaves_without_a_counterpart_are_named():
    old, new = {"decoder/classifier/seg/bias", "neck/phi/bias"}, {"classifier/seg/bias", "x/kernel"}
    with pytest.raises(InputError, match="it has no x/kernel and the network has no neck/phi/bias"):
        old_leaves(old, new)


def _without_backbone(name):
    return [path for path in shapes(name) if not path.startswith("backbone/")]
