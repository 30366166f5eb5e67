"""Scores over a data set."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import multihost_utils

from sdnjax.errors import InputError
from sdnjax.inference.predictor import Predictor
from sdnjax.inference.protocols import Evaluation
from sdnjax.inference.scoring import evaluate, groups_of_one_size, sum_over_processes
from sdnjax.metrics import SegmentationMetrics, sum_field
from sdnjax.ops.normalization import Normalization
from tests.inference.fake import NORMALIZATION, Fake, fake_logits


@dataclasses.dataclass
class Example:
    image: np.ndarray
    label: np.ndarray
    name: str


def examples(sizes):
    rng = np.random.default_rng(5)
    for i, (h, w) in enumerate(sizes):
        label = rng.integers(0, 4, (h, w)).astype(np.uint8)
        label[0] = 255
        yield Example(rng.integers(0, 255, (h, w, 3), dtype=np.uint8), label, f"{i}.png")


def test_groups_keep_order_and_never_mix_sizes():
    sizes = [(4, 5)] * 5 + [(5, 4)] * 2 + [(4, 5)]
    groups = list(groups_of_one_size(examples(sizes), 2))
    assert [len(g) for g in groups] == [2, 2, 1, 2, 1]
    assert [e.name for g in groups for e in g] == [f"{i}.png" for i in range(8)]


def test_every_image_is_scored_once_at_its_own_size():
    sizes = [(16, 24)] * 3 + [(11, 13)]
    protocol = Evaluation(
        batch_size=2,
        size_multiple=1,
        boundary_thresholds=(2,),
        boundary_absent="skip",
        boundary_iou_ratio=0.05,
        trimap_widths=(1, 3),
    )
    how = {"num_classes": 4, "protocol": protocol}
    predictor = Predictor(Fake(4), protocol, NORMALIZATION)
    metrics = SegmentationMetrics.empty(
        4,
        boundary_thresholds=(2,),
        boundary_absent="skip",
        boundary_iou_ratio=0.05,
        trimap_widths=(1, 3),
    )
    for e in examples(sizes):
        prediction = fake_logits(NORMALIZATION(e.image), 4).argmax(-1)
        metrics = metrics.update(e.label, prediction, e.name)
    found = evaluate(predictor, {}, examples(sizes), **how)
    for name, value in metrics.arrays().items():
        np.testing.assert_array_equal(found.arrays()[name], value)
    assert found.compute() == metrics.compute()
    with pytest.raises(InputError, match="no readable image"):
        evaluate(predictor, {}, [], **how)


def test_given_label_maps_are_scored_as_they_are():
    """A network whose logits are one-hot in the image's first channel repeats that map."""

    class Given:
        def apply(self, variables, x, *, train):
            hot = (x[..., :1] == np.arange(4, dtype=np.float32)).astype(x.dtype)
            return {"logits": 9 * hot}

    rng = np.random.default_rng(0)
    maps = [rng.integers(0, 4, size).astype(np.uint8) for size in ((20, 31), (17, 40))]
    given = [
        Example(np.repeat(m[..., None], 3, -1), np.where(rng.random(m.shape) < 0.7, m, 255), "x")
        for m in maps
    ]
    expected = np.diag(sum(np.bincount(e.label.ravel(), minlength=256)[:4] for e in given))
    for how in ({}, {"mode": "slide", "window": (9, 12), "stride": (5, 12)}):
        protocol = Evaluation(flip=True, **how)
        metrics = evaluate(
            Predictor(Given(), protocol, Normalization((0.0,) * 3, (1.0,) * 3)),
            {},
            given,
            num_classes=4,
            protocol=protocol,
        )
        np.testing.assert_array_equal(metrics["MeanIoU"].confusion, expected)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"resize_to": (512, 2048)}, r"resize_to is \(long, short\)"),
        ({"resize_to": (3, 1), "scales": (0.5,)}, "leave nothing of 1 pixels"),
        ({"trimap_widths": (3, 3)}, "trimap_widths must differ"),
        ({"trimap_widths": (0,)}, "at least 1"),
        ({"window": (8, 8), "stride": (9, 8)}, "at most the window"),
    ],
)
def test_settings_that_make_no_sense(how, message):
    with pytest.raises(InputError, match=message):
        Evaluation(**how)


def test_sums_over_processes_keep_64_bits():
    for array in (np.array([2**40 + 1, -3]), np.array(0.1), np.zeros((2, 3), np.int64)):
        total = sum_over_processes(array)
        assert total.dtype == array.dtype
        assert total.shape == array.shape
        np.testing.assert_array_equal(total, array)


@pytest.fixture
def two_equal_processes(monkeypatch):
    """What is gathered comes from two processes that say the same, through arrays of JAX."""

    def gather(array):
        rows = jnp.stack([jnp.asarray(array)] * 2)
        assert rows.dtype.itemsize < 8, "JAX without x64 has no such numbers"
        return np.asarray(rows)

    monkeypatch.setattr(multihost_utils, "process_allgather", gather)
    monkeypatch.setattr(jax, "process_count", lambda: 2)


@pytest.mark.parametrize(
    "array",
    [
        np.array([2**32 + 1, 2**40 + 3, 5], np.int64),
        np.array(2**53 - 1, np.int64),
        np.array([[1 / 3], [1e-300]]),
        np.array([7.5], np.float32),
    ],
)
def test_sums_over_two_processes_are_exact(two_equal_processes, array):
    total = sum_over_processes(array)
    assert (total.dtype, total.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(total, array + array)


@dataclasses.dataclass(frozen=True)
class Pixels:
    """Counts in a unit so small that 32 bits do not hold it."""

    unit: int = 2**33
    pixels: np.ndarray = sum_field()

    def empty(self, num_classes):
        return dataclasses.replace(self, pixels=np.zeros((num_classes, 1), np.int64))

    def update(self, pair):
        counts = np.bincount(pair.label[~pair.void], minlength=pair.num_classes)
        return dataclasses.replace(self, pixels=self.pixels + self.unit * counts[:, None])

    def compute(self):
        return {"pixels": self.pixels.sum() / self.unit}


def test_own_metrics_are_added_up_over_processes(two_equal_processes):
    protocol = Evaluation(trimap_widths=(1,), metrics=(Pixels(),))
    metrics = evaluate(
        Predictor(Fake(4), protocol, NORMALIZATION),
        {},
        examples([(9, 8), (5, 6)]),
        num_classes=4,
        protocol=protocol,
    )
    counts = sum(np.bincount(e.label.ravel(), minlength=256) for e in examples([(9, 8), (5, 6)]))
    expected = 2 * counts[:4].astype(np.int64)
    np.testing.assert_array_equal(metrics["Pixels"].pixels[:, 0], expected * 2**33)
    np.testing.assert_array_equal(metrics["MeanIoU"].confusion.sum(axis=1), expected)
    results = metrics.compute()
    assert (results["pixels"], results["images"]) == (expected.sum(), 4)


def test_metrics_that_are_none_are_refused():
    with pytest.raises(InputError, match=r"evaluation\.metrics must be values with empty"):
        Evaluation(metrics=("mIoU",))
    with pytest.raises(InputError, match=r"Evaluation\.metrics must be"):
        Evaluation(metrics=Pixels())
