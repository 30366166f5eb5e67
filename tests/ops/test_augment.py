"""Augmentation of a batch: rows depend on themselves alone, wherever they lie.

What each augmentation does, and that the host does the same, is in
tests/data/pipeline/test_augmentation.py.
"""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from sdnjax.ops import augment_batch
from sdnjax.ops.augment import augment, random_size
from sdnjax.training.sharding import to_global
from sdnjax.training.step import by_rows, compile_step
from tests.training.test_step import mesh_of

SETTINGS = {
    "crop_size": (24, 32),
    "num_classes": 5,
    "mean": (123.675, 116.28, 103.53),
    "std": (58.395, 57.12, 57.375),
    "max_class_share": 0.4,
}


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 5, (8, 6, 8)).repeat(6, 1).repeat(6, 2)
    return {
        "image": rng.integers(0, 256, (8, 36, 48, 3)).astype(np.uint8),
        "label": np.where(rng.random(label.shape) < 0.1, 255, label).astype(np.uint8),
        "superpixels": rng.integers(0, 600, (8, 36, 48)).astype(np.int32),
        "epoch": np.int32([0, 0, 0, 0, 1, 1, 1, 1]),
        "index": np.int32([3, 1, 0, 2, 3, 1, 0, 2]),
    }


@pytest.fixture(scope="module")
def augmented(batch):
    return jax.jit(functools.partial(augment_batch, seed=3, **SETTINGS))(batch)


def test_form(augmented):
    kinds = {k: (v.shape, v.dtype.name) for k, v in augmented.items()}
    assert kinds == {
        "image": ((8, 24, 32, 3), "float32"),
        "label": ((8, 24, 32), "int32"),
        "superpixels": ((8, 24, 32), "int32"),
    }
    assert set(np.unique(augmented["label"])) <= {0, 1, 2, 3, 4, 255}
    # Different rows are different crops, in different epochs too.
    assert len({np.asarray(row).tobytes() for row in augmented["label"]}) == 8


def test_a_row_depends_on_itself_alone(batch, augmented):
    order = np.random.default_rng(1).permutation(8)
    shuffled = {k: v[order] for k, v in batch.items()}
    again = jax.jit(functools.partial(augment_batch, seed=3, **SETTINGS))(shuffled)
    for key in ("label", "superpixels"):
        np.testing.assert_array_equal(again[key], augmented[key][order])
    # To a rounding: loops multiply and add in one operation in some places and not in others.
    np.testing.assert_allclose(again["image"], augmented["image"][order], atol=1e-5)


def test_seed_decides(batch, augmented):
    other = jax.jit(functools.partial(augment_batch, seed=4, **SETTINGS))(batch)
    assert all((other["label"][k] != augmented["label"][k]).any() for k in range(8))


def test_devices_augment_their_own_rows_and_exchange_nothing(batch, augmented):
    mesh = mesh_of(8)
    augment = functools.partial(augment_batch, seed=3, **SETTINGS)
    # As the train step does it, here with a step that returns what it was given.
    step = compile_step(lambda state, batch: (state, by_rows(augment)(batch)), mesh)
    rows = NamedSharding(mesh, PartitionSpec("data"))
    with jax.set_mesh(mesh):
        own = jax.jit(by_rows(augment), in_shardings=rows, out_shardings=rows)
        text = own.lower(to_global(batch, mesh)).compile().as_text()
    assert "while" in text
    for word in ("all-gather", "all-reduce", "all-to-all", "collective", "permute"):
        assert word not in text
    _, spread = step({}, to_global(batch, mesh))
    for key in ("label", "superpixels"):
        np.testing.assert_array_equal(spread[key], augmented[key])
    np.testing.assert_allclose(spread["image"], augmented["image"], atol=1e-5)


def test_no_implicit_promotion(batch, strict_numerics):
    row = {k: batch[k][0] for k in ("image", "label")}
    augment(**row, draws=np.full(34, 0.3, np.float32), **SETTINGS)


def test_too_large_an_image():
    random_size((16384, 16384), np.float32(0.5), scale_range=(0.5, 2.0))
    with pytest.raises(ValueError, match="overflow"):
        random_size((32768, 32768), np.float32(0.5), scale_range=(0.5, 2.0))
