import dataclasses
import hashlib
import itertools
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from sdnjax.data.data_settings import Data
from sdnjax.data.pipeline.batches import shuffled_index, train_batches
from sdnjax.data.reading import examples
from sdnjax.data.reading.examples import Example
from sdnjax.data.reading.source import ItemSource, Source
from sdnjax.data.reading.superpixels import encode_superpixels
from sdnjax.data.sets.shapes import SHAPES
from sdnjax.data.sources import open_source
from sdnjax.data.tf_setup import tf
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from tests.data.conftest import make_camvid, one_line


def run(data, **options):
    options = {"seed": 3, "batch_size": 4, "start_step": 0, "stop_step": 6, **options}
    with train_batches(data, **options) as batches:
        return list(batches)


def same(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert x.keys() == y.keys()
        for key in x:
            np.testing.assert_array_equal(x[key], y[key])


@pytest.fixture(scope="module", params=["host", "device"])
def unbroken(request, camvid_dir, tmp_path_factory):
    """Settings and six batches, augmented on the host, or left to the device."""
    if request.param == "device":  # images of one size
        camvid_dir = make_camvid(tmp_path_factory.mktemp("one") / "camvid", taller=0)
    options = {"dir": str(camvid_dir), "crop_size": (24, 32), "workers": 2}
    data = Data(name="camvid", augment_on=request.param, **options)
    return data, run(data)


def test_form(unbroken):
    data, batches = unbroken
    assert len(batches) == 6
    size, kind = ((24, 32), np.float32) if data.augment_on == "host" else ((36, 48), np.uint8)
    for batch in batches:
        assert batch["image"].shape == (4, *size, 3)
        assert batch["image"].dtype == kind
        assert batch["label"].shape == (4, *size)
        assert batch["label"].dtype == (np.int32 if data.augment_on == "host" else np.uint8)
        assert set(np.unique(batch["label"])) <= {*range(11), 255}
        assert ("epoch" in batch) == ("index" in batch) == (data.augment_on == "device")


def test_device_batches_say_which_examples_they_show(unbroken):
    data, batches = unbroken
    if data.augment_on == "host":
        return
    source = open_source(data, "train")
    rows = [row for b in batches for row in zip(*(b[k] for k in b), strict=True)]
    for number, (image, label, epoch, index) in enumerate(rows):
        assert epoch == number // 7
        np.testing.assert_array_equal(image, source[index].image)
        np.testing.assert_array_equal(label, source[index].label)
    assert batches[0]["epoch"].dtype == batches[0]["index"].dtype == np.int32


def test_same_again_and_with_other_workers(unbroken):
    data, batches = unbroken
    same(run(dataclasses.replace(data, workers=5)), batches)


@pytest.mark.parametrize("count", [2, 4])
def test_same_for_any_number_of_processes(unbroken, count):
    data, batches = unbroken
    shares = [run(data, process_index=p, process_count=count) for p in range(count)]
    joined = [
        {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        for parts in zip(*shares, strict=True)
    ]
    same(joined, batches)


@pytest.mark.parametrize("step", range(1, 7))
def test_resumed_equals_the_unbroken_tail(unbroken, step):
    data, batches = unbroken
    same(run(data, start_step=step), batches[step:])


def test_resuming_late_costs_nothing(unbroken):
    data, _ = unbroken
    begun = time.monotonic()
    late = run(data, start_step=10**6, stop_step=10**6 + 2)
    assert time.monotonic() - begun < 5
    same(run(data, start_step=10**6 + 1, stop_step=10**6 + 2), late[1:])


def test_seeds_differ(unbroken):
    data, batches = unbroken
    other = run(data, seed=4, stop_step=1)[0]
    assert not np.array_equal(other["image"], batches[0]["image"])


def test_each_epoch_is_a_permutation(unbroken):
    """Undistorted whole images are recognised by their content."""
    data, _ = unbroken
    data = dataclasses.replace(
        data,
        crop_size=(40, 48),
        scale_range=(1.0, 1.0),
        max_class_share=1.0,
        flip=False,
        photometric=False,
    )
    source = open_source(data, "train")
    known = {}
    for k in range(7):
        image = source[k].image
        if data.augment_on == "host":
            padded = np.zeros((40, 48, 3), np.float32)
            padded[: image.shape[0]] = data.normalization(image)
            image = padded
        known[image.tobytes()] = k
    batches = run(data, batch_size=3, stop_step=14)
    order = [known[image.tobytes()] for b in batches for image in b["image"]]
    epochs = [order[e : e + 7] for e in range(0, 42, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6


class WithSuperpixels(Source):
    """Examples of another source with superpixels that tell the label of each pixel."""

    def __init__(self, source):
        super().__init__(source.label_space, source.split)
        self.source = source

    def __len__(self):
        return len(self.source)

    def name(self, index):
        return self.source.name(index)

    def read(self, index):
        numbers = 1000 + self.source[index].label.astype(np.int32)
        encoded = self.source.read(index)
        return dataclasses.replace(encoded, superpixels=encode_superpixels(numbers))


def test_superpixels_come_with_the_label(unbroken):
    data, _ = unbroken
    source = WithSuperpixels(open_source(data, "train"))
    data = dataclasses.replace(data, superpixels=200, crop_size=(30, 40))
    batches = run(data, source=source, extras=("superpixels",))
    beyond = 0
    for batch in batches:
        assert batch["superpixels"].dtype == np.int32
        assert batch["superpixels"].shape == batch["label"].shape
        inside = batch["superpixels"] >= 0
        np.testing.assert_array_equal(
            batch["superpixels"][inside], 1000 + batch["label"][inside].astype(int)
        )
        assert (batch["superpixels"][~inside] == -1).all()
        assert (batch["label"][~inside] == 255).all()
        beyond += (~inside).sum()
    assert (beyond > 0) == (data.augment_on == "host")
    for batch, plain in zip(batches, run(data, source=source.source), strict=True):
        del batch["superpixels"]
        same([batch], [plain])


@pytest.mark.parametrize("extras", [(), ("picture",)])
def test_superpixels_that_nobody_asks_for_are_not_decoded(unbroken, extras, monkeypatch):
    data, batches = unbroken
    source = WithSuperpixels(open_source(data, "train"))
    monkeypatch.setattr(examples, "decode_superpixels", None)
    same(run(dataclasses.replace(data, superpixels=200), source=source, extras=extras), batches)


def test_extras_that_cannot_be_had(unbroken):
    data, _ = unbroken
    with pytest.raises(InputError) as error:
        run(data, extras=("superpixels",))
    assert one_line(error) == (
        "superpixels are needed, but data.superpixels is none: prepare the data set with "
        "`python -m sdnjax.data.prepare camvid … --superpixels 200` and set --data.superpixels 200"
    )
    with pytest.raises(InputError, match="unknown extra input 'superpixel'; did you mean superp"):
        run(dataclasses.replace(data, superpixels=200), extras=("superpixel",))


def test_superpixels_that_are_not_there(unbroken):
    data = dataclasses.replace(unbroken[0], superpixels=200, on_bad_image="skip")
    source = WithSuperpixels(open_source(dataclasses.replace(data, superpixels=None), "train"))
    source.read = source.source.read
    with pytest.raises(InputError) as error:
        run(data, source=source, extras=("superpixels",))
    assert "comes without superpixels" in one_line(error)


def test_time_is_accounted_for(unbroken):
    data, _ = unbroken
    with train_batches(data, seed=3, batch_size=4, stop_step=2) as batches:
        assert batches.seconds == {"reading": 0, "decoding": 0, "augmentation": 0}
        list(batches)
    assert batches.seconds["reading"] > 0
    assert batches.seconds["decoding"] > 0
    assert (batches.seconds["augmentation"] > 0) == (data.augment_on == "host")


def test_permutations_are_many_and_fair():
    def order(epoch):
        return tf.map_fn(lambda p: shuffled_index(p, epoch, 1, 12), tf.range(12, dtype=tf.int64))

    orders = np.array(list(tf.data.Dataset.range(700).map(order).as_numpy_iterator()))
    np.testing.assert_array_equal(np.sort(orders, 1), np.arange(12)[None].repeat(700, 0))
    assert len(np.unique(orders, axis=0)) == 700
    counts = np.stack([np.bincount(orders[:, p], minlength=12) for p in range(12)])
    chi_squared = ((counts - 700 / 12) ** 2 / (700 / 12)).sum()
    assert chi_squared < 121 + 4 * (2 * 121) ** 0.5


def test_endless_by_default(unbroken):
    data, batches = unbroken
    with train_batches(data, seed=3, batch_size=4) as endless:
        same(list(itertools.islice(endless, 6)), batches)
        assert endless.num_examples == 7
        assert endless.label_space.name == "camvid"
    assert list(endless) == []
    endless.close()


def test_wrong_settings(unbroken):
    data, _ = unbroken
    with pytest.raises(InputError, match="batch size 5 must be a positive multiple of 2"):
        train_batches(data, seed=0, batch_size=5, process_count=2)
    with pytest.raises(InputError, match="batch size 0"):
        train_batches(data, seed=0, batch_size=0)
    with pytest.raises(InputError, match="has no split 'test'"):
        train_batches(dataclasses.replace(data, train_split="test"), seed=0, batch_size=1)


def test_closing_at_any_moment(unbroken):
    data, _ = unbroken
    for taken in (0, 1, 2, 1, 0):
        batches = train_batches(data, seed=0, batch_size=4)
        for _ in range(taken):
            next(batches)
        batches.close()


def test_interrupt_and_exit_are_quiet(tmp_path):
    """Ctrl-C in the middle of an endless run: one KeyboardInterrupt, then a clean exit."""
    make_camvid(tmp_path / "camvid", size=(240, 320))
    code = f"""
from sdnjax.data import Data, train_batches
data = Data(name="camvid", dir={str(tmp_path / "camvid")!r}, crop_size=(224, 224))
try:
    for step, batch in enumerate(train_batches(data, seed=0, batch_size=8)):
        if step == 2:
            print("running", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("TF_")},
    )
    try:
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (0, "interrupted\n", "")


class Interrupting:
    """An iterator that is interrupted in a destructor, where Python forgets exceptions."""

    def __init__(self, held):
        self.held = held

    def __next__(self):
        fields = next(self.held)
        DiesInterrupting()
        return fields


class DiesInterrupting:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_in_a_destructor_is_not_lost(tmp_path):
    """TensorFlow's iterators wait in one."""
    make_camvid(tmp_path / "camvid")
    data = Data(name="camvid", dir=str(tmp_path / "camvid"), crop_size=(16, 16), workers=1)
    with train_batches(data, seed=0, batch_size=2) as batches:
        batches._held[0] = Interrupting(batches._held[0])
        with pytest.raises(KeyboardInterrupt):
            next(batches)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handlers_of_ones_own_are_called_at_once(tmp_path):
    make_camvid(tmp_path / "camvid")
    data = Data(name="camvid", dir=str(tmp_path / "camvid"), crop_size=(16, 16), workers=1)
    seen = []
    before = signal.signal(signal.SIGINT, lambda *how: seen.append(how))
    try:
        with train_batches(data, seed=0, batch_size=2) as batches:
            batches._held[0] = Interrupting(batches._held[0])
            next(batches)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(seen) == 1


# Of eight scenes of shapes under seed 5: step, mean of each augmented image, digest of the
# augmented labels, and of the whole images and labels that are augmented on the device.
PINNED = [
    (
        0,
        [-0.32782, 0.44242, 0.33403, 0.333, 0.17217, -0.05848, 0.16739, 0.19781],
        "111872a5a8dca5bf",
        "27fd6c2972705c76",
    ),
    (
        357,
        [-0.15302, -0.22603, 0.45405, 0.07096, 0.6272, -0.06314, 0.04864, 0.17904],
        "991e580b87236fa1",
        "e1704abb1a04f54d",
    ),
]


def digest(*arrays):
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()[:16]


@pytest.mark.parametrize(("step", "means", "labels", "whole"), PINNED)
def test_batches_of_a_seed_never_change(step, means, labels, whole):
    """A run that is resumed with a later version goes on with the batches it would have had."""
    source = ItemSource(SHAPES.label_space, "train", SHAPES.find(None, "train"))
    options = {"seed": 5, "batch_size": 8, "start_step": step, "stop_step": step + 1}
    (batch,) = run(Data(crop_size=(80, 112)), source=source, **options)
    assert digest(batch["label"]) == labels
    np.testing.assert_allclose(batch["image"].mean((1, 2, 3)), means, atol=1e-4)
    (batch,) = run(Data(augment_on="device"), source=source, **options)
    assert digest(batch["image"], batch["label"]) == whole
    assert (batch["epoch"] == step * 8 // 640).all()


class Finished(Source):
    """The examples of another source, as somebody without files would make them."""

    def __init__(self, source, **changes):
        super().__init__(source.label_space, source.split)
        self.source, self.changes = source, changes

    def __len__(self):
        return len(self.source)

    def name(self, index):
        return self.source.name(index)

    def read(self, index):
        return dataclasses.replace(self.source[index], **self.changes)


def test_examples_without_files_make_the_same_batches(unbroken):
    data, batches = unbroken
    source = Finished(open_source(data, "train"))
    assert isinstance(source.read(0), Example)
    same(run(data, source=source), batches)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": np.zeros((9, 9), np.uint8)}, "image must be uint8 [H, W, 3], not uint8 [9, 9]"),
        ({"image": np.zeros((9, 9, 3), np.float32)}, "must be uint8 [H, W, 3], not float32 [9,"),
        ({"label": np.zeros((9, 9), np.uint8)}, "label must be uint8 [36, 48], not uint8 [9, 9]"),
        ({"label": np.zeros((36, 48), np.int32)}, "not int32 [36, 48]"),
        ({"label": np.full((36, 48), 11, np.uint8)}, "label value 11 at 1728 pixels; there are 0-"),
        ({"superpixels": np.zeros((36, 48), np.int64)}, "superpixels must be int32 [36, 48], not"),
    ],
)
def test_examples_without_files_are_checked(camvid, changes, message):
    source = Finished(open_source(camvid, "train"), **changes)
    with pytest.raises(InputError) as error:
        source[0]
    assert one_line(error).startswith("train_000: ")
    assert message in one_line(error)


def test_eight_bits_are_the_rounded_values_and_are_normalised_on_the_device(camvid_dir):
    """A crop larger than the pictures: what is beyond them is 0 for the network, as ever."""
    for recipe in ("mmseg", "difnet"):
        data = Data(
            name="camvid", dir=str(camvid_dir), crop_size=(80, 72), workers=2, recipe=recipe
        )
        (real,) = run(data, stop_step=1)
        (small,) = run(dataclasses.replace(data, transfer="uint8"), stop_step=1)
        assert {k: x.dtype.name for k, x in small.items()} == {
            "image": "uint8",
            "label": "uint8",
            "extent": "int32",
        }
        found = jax.jit(data.normalization.batch)(small)
        assert found.keys() == {"image", "label"} and found["label"].dtype == np.int32
        np.testing.assert_array_equal(found["label"], real["label"])
        # Half a level of 255, over the smallest deviation.
        error = np.abs(np.asarray(found["image"]) - real["image"])
        assert error.max() <= 0.5001 / 57.12
        beyond = np.arange(80)[:, None] >= small["extent"][0, 0]
        if recipe == "mmseg":
            assert beyond.any()
            assert not np.asarray(found["image"])[0][beyond[:, 0]].any()


def test_eight_bits_reach_the_step(camvid_dir):
    experiment = Experiment(data=Data(name="camvid", dir=str(camvid_dir), transfer="uint8"))
    augment = experiment.build(11).augment
    assert augment.__self__ == experiment.data.normalization and augment.__name__ == "batch"
    assert Experiment(data=Data(name="camvid")).build(11).augment is None
    assert "transfer" in dataclasses.replace(experiment.data, augment_on="device").unused()
