"""Classes that are others in the mirror image: in every recipe, on the host and on the device."""

import functools

import jax
import numpy as np
import pytest

from sdnjax.data.data_settings import Data
from sdnjax.data.pipeline import augmentation as host
from sdnjax.data.pipeline.batches import train_batches
from sdnjax.data.reading.examples import Example
from sdnjax.data.reading.source import Source
from sdnjax.data.sets.directions import direction_codes
from sdnjax.data.sets.label_space import mirror_table
from sdnjax.data.sets.segfix import CODES
from sdnjax.experiment import Experiment
from sdnjax.ops import augment as device
from tests.training.tiny import Tiny

PLAIN = {"scale_range": (1.0, 1.0), "max_class_share": 1.0, "photometric": False}
SIZE = (20, 26)
MIRROR = mirror_table(CODES.mirrored)


def example(seed=0, size=SIZE):
    """A class map without symmetries, as a picture and as its codes."""
    rng = np.random.default_rng(seed)
    label = np.zeros(size, np.uint8)
    label[3:17, 2 : 9 + rng.integers(6)] = 1
    label[12:, 15:] = 2
    label[:3, :3] = 255
    return np.repeat(label[..., None], 3, -1), direction_codes(label, 3, least_pixels=10)


def draws(mirror):
    found = np.full(34, 0.5, np.float32)
    found[0], found[1] = 0.55, 0.2 if mirror else 0.8  # DifNet's sixth scale is 1
    return found


@pytest.mark.parametrize("way", ["host", "device", "difnet"])
def test_a_mirrored_example_has_mirrored_classes(way):
    image, codes = example()
    crop = (32, 32)
    recipe = "difnet" if way == "difnet" else "mmseg"
    data = Data(crop_size=crop, recipe=recipe, **PLAIN)

    def made(mirror):
        if way == "device":
            names = ("crop_size", "mean", "std", *PLAIN)
            how = {name: getattr(data, name) for name in names}
            function = functools.partial(
                device.augment, num_classes=16, mirrored_classes=CODES.mirrored, **how
            )
            found = jax.jit(function)(image, codes, draws(mirror))
        else:
            found = host.augment(image, codes, draws(mirror), data, mirror=MIRROR)
        return np.asarray(found["label"])

    plain, turned = made(False), made(True)
    where = np.zeros(crop, bool)
    if way == "difnet":
        where[6:26, 3:29] = True
        beyond = 0
    else:
        where[:20, :26] = True
        beyond = 255
    inside = turned[where].reshape(SIZE)
    np.testing.assert_array_equal(plain[where].reshape(SIZE), codes)
    np.testing.assert_array_equal(inside, MIRROR[codes[:, ::-1]])
    assert not np.array_equal(inside, codes[:, ::-1])
    # Black and class 0 lie beyond a picture under DifNet's recipe, and no mirror touches them.
    assert (turned[~where] == beyond).all()


class Two(Source):
    def __init__(self):
        super().__init__(CODES, "train")

    def __len__(self):
        return 2

    def name(self, index):
        return str(index)

    def read(self, index):
        return Example(*example(index), str(index))


@pytest.mark.parametrize("on", ["host", "device"])
def test_training_batches_know_it_by_their_label_space(on):
    """Seen by their pictures, which are constant under this augmentation but for the mirror."""
    data = Data(crop_size=SIZE, augment_on=on, workers=1, mean=(0,) * 3, std=(1,) * 3, **PLAIN)
    turned = 0
    with train_batches(data, seed=3, batch_size=8, stop_step=1, source=Two()) as batches:
        batch = next(batches)
    if on == "device":
        recipe = Experiment(model=Tiny, data=data, seed=3).build(16, mirrored=CODES.mirrored)
        batch = recipe.augment(batch)
    for picture, label in zip(np.asarray(batch["image"]), np.asarray(batch["label"]), strict=True):
        for image, codes in (example(0), example(1)):
            if np.array_equal(picture, image):
                np.testing.assert_array_equal(label, codes)
                break
            if np.array_equal(picture, image[:, ::-1]):
                turned += 1
                np.testing.assert_array_equal(label, MIRROR[codes[:, ::-1]])
                break
        else:
            raise AssertionError("a picture that is none of the two")
    assert 0 < turned < 8
