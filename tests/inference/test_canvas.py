"""Pictures in the middle of a black canvas, as DifNet's released code evaluates them."""

import dataclasses

import numpy as np
import pytest

from sdnjax.errors import InputError
from sdnjax.inference.predictor import Predictor, canvas_offset
from sdnjax.inference.protocols import Evaluation, protocol, protocol_name
from sdnjax.inference.scoring import evaluate
from tests.inference.fake import NORMALIZATION, Fake, fake_logits, picture


@dataclasses.dataclass
class Example:
    name: str
    image: np.ndarray
    label: np.ndarray


def test_the_network_sees_the_canvas_and_the_middle_comes_back():
    x = picture(37, 50)
    predictor = Predictor(Fake(), Evaluation(canvas=(60, 65)), NORMALIZATION)
    (found,) = predictor.probabilities({}, [x])
    canvas = np.zeros((60, 65, 3), np.uint8)
    # (60 − 37)/2 = 11.5 → 12 and (65 − 50)/2 = 7.5 → 8, halves to the even number.
    canvas[12:49, 8:58] = x
    logits = fake_logits(NORMALIZATION(canvas), 5).astype(np.float64)
    expected = np.exp(logits - logits.max(-1, keepdims=True))
    expected /= expected.sum(-1, keepdims=True)
    np.testing.assert_allclose(found, expected[12:49, 8:58], atol=1e-5)
    (labels,) = predictor.labels({}, [x])
    np.testing.assert_array_equal(labels, found.argmax(-1))


def test_one_compilation_serves_all_sizes():
    predictor = Predictor(Fake(), Evaluation(canvas=(64, 64)), NORMALIZATION)
    for size in ((31, 20), (64, 64), (50, 63)):
        assert predictor.labels({}, [picture(*size)])[0].shape == size
    assert predictor.compilations["network"] == 1


def test_a_picture_that_is_too_large_is_named():
    example = Example("street", picture(20, 70), np.zeros((20, 70), np.uint8))
    own = Evaluation(canvas=(64, 64))
    predictor = Predictor(Fake(), own, NORMALIZATION)
    with pytest.raises(InputError, match=r"street: 70×20 pixels .* evaluation.canvas 64,64 holds"):
        evaluate(predictor, {}, [example], num_classes=5, protocol=own)
    assert canvas_offset((332, 500), (505, 505)) == (86, 2)
    assert canvas_offset((334, 496), (505, 505)) == (86, 4)  # 85.5 and 4.5


def test_the_protocol_and_its_name():
    found = protocol("voc2012_difnet")
    assert (found.canvas, found.mode, found.scales, found.flip) == (
        (505, 505),
        "whole",
        (1.0,),
        False,
    )
    assert protocol_name(found) == "voc2012_difnet"
    assert protocol_name(Evaluation(canvas=(64, 60))) == "whole_canvas64x60"
    with pytest.raises(InputError, match="resize_to must be none beside"):
        Evaluation(canvas=(64, 64), resize_to=(64, 64))
