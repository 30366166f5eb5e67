"""What a network sees besides the image, in every window, at every scale, mirrored or not."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from sdnjax.errors import InputError
from sdnjax.inference.predictor import Predictor
from sdnjax.inference.protocols import Evaluation
from sdnjax.inference.scoring import evaluate
from sdnjax.ops.normalization import Normalization
from tests.inference.fake import picture
from tests.inference.statement import probabilities

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 55.0, 50.0)
NORMALIZATION = Normalization(MEAN, STD)


class Seeing(nn.Module):
    """Logits of superpixels and picture, here and beyond the image."""

    inputs: tuple = ("superpixels", "picture")

    @nn.compact
    def __call__(self, x, *, train, superpixels, picture):
        assert superpixels.dtype == jnp.int32
        assert picture.dtype == jnp.float32
        assert superpixels.shape == picture.shape[:3] == x.shape[:3]
        return {"logits": logits(superpixels, picture, jnp)}


def logits(superpixels, picture, xp):
    """`[…, h, w, 4]`. The window's share of padding and its mean colour count for every pixel."""
    beyond = (superpixels < 0).astype(picture.dtype).mean(axis=(-2, -1), keepdims=True)
    mean = picture.mean(axis=(-3, -2, -1))[..., None, None]
    place = xp.arange(superpixels.shape[-1], dtype=picture.dtype) / superpixels.shape[-1]
    return xp.stack(
        [
            xp.sin(superpixels.astype(picture.dtype) * 0.37) + 3 * beyond,
            3 * picture[..., 0] - 2 * picture[..., 1],
            2 * picture[..., 2] + xp.cos(superpixels.astype(picture.dtype)) * mean,
            place + 0 * superpixels,
        ],
        axis=-1,
    )


def seen_by_statement(x, superpixels):
    return logits(superpixels, (x * STD + MEAN) / 255, np)


def superpixels(h, w, seed):
    """Numbers of small segments."""
    coarse = np.random.default_rng(seed).permutation((h // 3 + 1) * (w // 5 + 1))
    return coarse.reshape(h // 3 + 1, -1).repeat(3, 0).repeat(5, 1)[:h, :w]


SLIDE = {"window": (20, 25), "stride": (13, 11)}
CASES = {
    "whole": {},
    "whole, scales": {"scales": (0.5, 1.0, 1.75), "flip": True},
    "whole, one scale": {"scales": (0.6,), "flip": True},
    "slide": SLIDE,
    "slide, scales": {**SLIDE, "resize_to": (100, 70), "scales": (0.5, 2.0), "flip": True},
    "smaller than a window": {"window": (80, 90), "stride": (80, 90), "flip": True},
    "padded": {"window": (80, 90), "stride": (80, 90), "flip": True, "small": "pad"},
    "enlarged": {"window": (80, 90), "stride": (80, 90), "flip": True, "small": "enlarge"},
    "whole, padded": {"scales": (0.6, 1.0), "flip": True, "size_multiple": 32},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size", [(67, 58), (31, 75)])
def test_extra_inputs_are_those_of_the_statement(case, size):
    how = CASES[case]
    mode = "slide" if "window" in how else "whole"
    predictor = Predictor(Seeing(), Evaluation(mode=mode, batch_size=2, **how), NORMALIZATION)
    pictures = [picture(*size, seed) for seed in (1, 2)]
    segments = [superpixels(*size, seed) for seed in (3, 4)]
    extras = [{"superpixels": s, "depth": None} for s in segments]  # nobody asks for a depth
    found = predictor.probabilities({}, pictures, extras)
    for x, s, ours in zip(pictures, segments, found, strict=True):
        expected = probabilities(seen_by_statement, NORMALIZATION(x), labels=s, **how)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=3e-5)
    assert predictor.compilations["network"] == len(how.get("scales", (1,))) or mode == "slide"
    (alone,) = predictor.labels({}, pictures[1:], extras[1:])
    np.testing.assert_array_equal(alone, found[1].argmax(-1))


def test_superpixels_keep_their_numbers_in_large_pictures():
    class Odd(nn.Module):
        inputs: tuple = ("superpixels",)

        @nn.compact
        def __call__(self, x, *, train, superpixels):
            odd = (superpixels % 2 == 1).astype(jnp.float32)
            return {"logits": jnp.stack([1 - odd, odd], axis=-1)}

    numbers = np.arange(48, dtype=np.int64).reshape(6, 8) + 2**24
    predictor = Predictor(Odd(), Evaluation(flip=True), NORMALIZATION)
    (labels,) = predictor.labels({}, [picture(6, 8)], [{"superpixels": numbers}])
    np.testing.assert_array_equal(labels, numbers % 2)


@pytest.mark.parametrize(
    ("extras", "message"),
    [
        ((), "Seeing needs superpixels beside every picture"),
        ([{"depth": 1}], "Seeing needs superpixels"),
        ([{"superpixels": None}], "Seeing needs superpixels"),
        ([{}] * 2, "2 extras for 1 pictures"),
        ([{"superpixels": np.zeros((6, 9), int)}], r"superpixels must be integers \(6, 8\)"),
        ([{"superpixels": np.zeros((6, 8))}], "superpixels must be integers .* not float64"),
    ],
)
def test_extra_inputs_that_are_missing_or_do_not_fit(extras, message):
    predictor = Predictor(Seeing(), Evaluation(), NORMALIZATION)
    with pytest.raises(InputError, match=message):
        predictor.labels({}, [picture(6, 8)], extras)


def test_a_network_that_asks_for_what_nobody_has():
    with pytest.raises(InputError, match=r"did you mean superpixels\?"):
        Predictor(Seeing(inputs=("superpixel",)), Evaluation(), NORMALIZATION)


@dataclasses.dataclass
class Example:
    image: np.ndarray
    label: np.ndarray
    name: str
    superpixels: np.ndarray | None = None


def test_evaluation_hands_the_examples_superpixels_to_the_network():
    protocol = Evaluation(size_multiple=1)
    predictor = Predictor(Seeing(), protocol, NORMALIZATION)
    segments = superpixels(20, 30, 0)
    x = picture(20, 30)
    expected = seen_by_statement(NORMALIZATION(x).astype(float), segments).argmax(-1)
    example = Example(x, expected.astype(np.uint8), "a.png", segments)
    how = {"num_classes": 4, "protocol": protocol}
    metrics = evaluate(predictor, {}, [example], **how)
    assert metrics.compute()["pixel_accuracy"] > 0.99
    with pytest.raises(InputError, match=r"a\.png has no superpixels"):
        evaluate(predictor, {}, [dataclasses.replace(example, superpixels=None)], **how)
