"""Whole image, sliding windows, scales and mirrors against loops in NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from sdnjax.errors import InputError
from sdnjax.inference.config import Evaluation
from sdnjax.inference.evaluation import evaluate, groups_of_one_size, sum_over_processes
from sdnjax.inference.predictor import Predictor, scaled_probabilities
from sdnjax.inference.sliding import sliding_logits, window_starts
from sdnjax.metrics import SegmentationMetrics
from sdnjax.models.layers import conv
from sdnjax.ops import resize_bilinear


class Net(nn.Module):
    """A convolution: its border makes a window's logits differ from the whole image's."""

    @nn.compact
    def __call__(self, x, *, train):
        return {"logits": conv(4, 5, bias=True)(x)}


@pytest.fixture(scope="module")
def net():
    model = Net()
    return model, model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)


def image(h, w, seed=0):
    return np.random.default_rng(seed).normal(size=(h, w, 3)).astype(np.float32)


def logits_of(net, x):
    return np.asarray(net[0].apply(net[1], x[None], train=False)["logits"])[0]


@pytest.mark.parametrize(
    ("size", "window", "stride", "expected"),
    [
        (10, 10, 5, [0]),
        (7, 10, 5, [0]),
        (11, 10, 5, [0, 1]),
        (20, 10, 5, [0, 5, 10]),
        (21, 10, 5, [0, 5, 10, 11]),
        (1024, 769, 513, [0, 255]),
        (2048, 769, 513, [0, 513, 1026, 1279]),
    ],
)
def test_window_starts(size, window, stride, expected):
    assert window_starts(size, window, stride) == expected


@pytest.mark.parametrize(
    ("h", "w", "window", "stride"),
    [(17, 23, (8, 9), (5, 4)), (8, 9, (8, 9), (5, 4)), (6, 23, (8, 9), (8, 9))],
)
def test_sliding_logits_are_averages_of_windows(net, h, w, window, stride):
    x = image(h, w)
    padded = np.pad(x, ((0, max(0, window[0] - h)), (0, max(0, window[1] - w)), (0, 0)))
    total = np.zeros((*padded.shape[:2], 4))
    count = np.zeros((*padded.shape[:2], 1))
    y = 0
    while True:
        y = min(y, padded.shape[0] - window[0])
        left = 0
        while True:
            left = min(left, padded.shape[1] - window[1])
            part = np.s_[y : y + window[0], left : left + window[1]]
            total[part] += logits_of(net, padded[part])
            count[part] += 1
            if left + window[1] == padded.shape[1]:
                break
            left += stride[1]
        if y + window[0] == padded.shape[0]:
            break
        y += stride[0]
    expected = (total / count)[:h, :w]

    model, variables = net
    ours = sliding_logits(
        lambda t: model.apply(variables, t, train=False)["logits"],
        jnp.asarray(x)[None],
        window,
        stride,
    )
    np.testing.assert_allclose(ours[0], expected, atol=1e-5)
    assert np.abs(expected - logits_of(net, x)).max() > 1e-3 or (h, w) == window


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_mirror_sees_the_mirrored_image(net):
    x = image(9, 12)
    flipped = scaled_probabilities(*net, jnp.asarray(x)[None], Evaluation(), flip=True)[0]
    expected = softmax(logits_of(net, x[:, ::-1]))[:, ::-1]
    np.testing.assert_allclose(flipped, expected, atol=1e-5)


def test_scales_and_mirrors_are_averaged_as_probabilities(net):
    x = image(16, 24)
    protocol = Evaluation(scales=(0.5, 1.0, 1.75), flip=True, size_multiple=1)
    total = 0
    for scale in protocol.scales:
        for step in (1, -1):
            size = (round(16 * scale), round(24 * scale))
            scaled = np.asarray(resize_bilinear(jnp.asarray(x[None, :, ::step]), size))[0]
            back = resize_bilinear(jnp.asarray(logits_of(net, scaled))[None], (16, 24))
            total = total + softmax(np.asarray(back)[0])[:, ::step]
    predictor = Predictor(net[0], protocol)
    (labels,) = predictor.labels(predictor.place(net[1]), [x])
    np.testing.assert_array_equal(labels, total.argmax(-1))
    assert predictor.compilations == 6


def test_last_partial_batch_and_padding_do_not_change_an_image(net):
    predictor = Predictor(net[0], Evaluation(batch_size=3, size_multiple=8))
    variables = predictor.place(net[1])
    a, b = image(13, 10, 1), image(13, 10, 2)
    together = predictor.labels(variables, [a, b])
    (alone,) = predictor.labels(variables, [b])
    assert [x.shape for x in together] == [(13, 10)] * 2
    np.testing.assert_array_equal(together[1], alone)
    padded = np.pad(b, ((0, 3), (0, 6), (0, 0)))
    np.testing.assert_array_equal(alone, logits_of(net, padded).argmax(-1)[:13, :10])
    assert predictor.compilations == 1


def test_compilations_over_a_folder_of_mixed_sizes(net):
    predictor = Predictor(net[0], Evaluation(size_multiple=32))
    variables = predictor.place(net[1])
    sizes = [(h, w) for h in range(33, 65, 5) for w in (70, 81, 96)]
    for h, w in sizes:
        assert predictor.labels(variables, [image(h, w)])[0].shape == (h, w)
    assert predictor.compilations == 1  # all are padded to 64 × 96


def test_eight_devices_predict_as_one(net):
    images = [image(9, 7, seed) for seed in range(8)]
    eight = Predictor(net[0], Evaluation(batch_size=8))
    one = Predictor(net[0], Evaluation(batch_size=1))
    found = eight.labels(eight.place(net[1]), images)
    for x, labels in zip(images, found, strict=True):
        np.testing.assert_array_equal(labels, one.labels(one.place(net[1]), [x])[0])


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


def test_evaluation_scores_every_image_once_at_its_own_size(net):
    sizes = [(16, 24)] * 3 + [(11, 13)]
    protocol = Evaluation(batch_size=2, size_multiple=1)

    def normalize(x):
        return x.astype(np.float32) / 255

    how = {"normalize": normalize, "num_classes": 4, "protocol": protocol}
    predictor = Predictor(net[0], protocol)
    results = evaluate(predictor, net[1], examples(sizes), **how)
    metrics = SegmentationMetrics.empty(4)
    for e in examples(sizes):
        prediction = logits_of(net, normalize(e.image)).argmax(-1)
        metrics = metrics.update(e.label, prediction, e.name)
    assert results == metrics.compute()
    with pytest.raises(InputError, match="no readable image"):
        evaluate(predictor, net[1], [], **how)


def test_sums_over_processes_keep_64_bits():
    for array in (np.array([2**40 + 1, -3]), np.array(0.1), np.zeros((2, 3), np.int64)):
        total = sum_over_processes(array)
        assert total.dtype == array.dtype
        assert total.shape == array.shape
        np.testing.assert_array_equal(total, array)
