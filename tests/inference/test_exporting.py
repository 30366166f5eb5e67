"""A protocol as one function: equal to the predictor, for one size and for any."""

import dataclasses

import jax
import numpy as np
import pytest
from jax import export

from sdnjax.errors import InputError
from sdnjax.inference.dense_crf import DenseCRF
from sdnjax.inference.exporting import segment_function
from sdnjax.inference.predictor import Predictor
from sdnjax.inference.protocols import Evaluation
from sdnjax.inference.threshold import Threshold
from tests.inference.fake import NORMALIZATION, Fake, picture
from tests.training.tiny import Tiny

SLIDE = Evaluation(mode="slide", window=(20, 24), stride=(13, 15))
PROTOCOLS = {
    "whole": Evaluation(),
    "padded": Evaluation(size_multiple=16),
    "scales": Evaluation(scales=(0.5, 1.0, 1.6), flip=True),
    "resized": Evaluation(resize_to=(60, 40), flip=True),
    "canvas": Evaluation(canvas=(41, 50)),
    "slide": SLIDE,
    "slide, mirrored": dataclasses.replace(SLIDE, scales=(0.7, 1.3), flip=True),
    "slide, smaller than the window": dataclasses.replace(SLIDE, scales=(0.5,)),
    "slide, padded": dataclasses.replace(SLIDE, scales=(0.5,), small="pad"),
    "slide, enlarged": dataclasses.replace(SLIDE, scales=(0.5, 1.0), small="enlarge"),
}
MIRRORED = (1, 0, 2, 4, 3)


CASES = [(name, False) for name in PROTOCOLS] + [("resized", True), ("slide, mirrored", True)]


@pytest.mark.parametrize(("name", "align_corners"), CASES)
def test_every_protocol_is_that_of_the_predictor(name, align_corners):
    protocol, network = PROTOCOLS[name], Fake(align_corners=align_corners)
    image = picture(33, 47)
    predictor = Predictor(network, protocol, NORMALIZATION, MIRRORED)
    ((labels, expected),) = predictor.both({}, [image])
    segment = segment_function(
        network, {}, protocol, NORMALIZATION, mirrored=MIRRORED, probabilities=True
    )
    found = jax.jit(segment)(image[None])
    np.testing.assert_allclose(found["probabilities"][0], expected, atol=3e-6)
    margin = np.sort(expected, axis=-1)
    clear = margin[..., -1] - margin[..., -2] > 1e-5
    np.testing.assert_array_equal(np.asarray(found["labels"][0])[clear], labels[clear])
    assert clear.mean() > 0.98 and found["labels"].dtype == np.uint8


def test_a_threshold_and_a_range_of_values():
    image = picture(33, 47)
    protocol = Evaluation(finish=Threshold(share=0.2))
    ((expected, _),) = Predictor(Fake(2), protocol, NORMALIZATION).both({}, [image])
    segment = segment_function(Fake(2), {}, protocol, NORMALIZATION, value_range=(0, 4095))
    found = jax.jit(segment)((image * np.float32(4095 / 255))[None])
    assert list(found) == ["labels"]
    np.testing.assert_array_equal(found["labels"][0], expected)
    three = segment_function(Fake(3), {}, protocol, NORMALIZATION)
    with pytest.raises(InputError, match="Threshold is for 2 classes"):
        three(image[None])


def test_what_needs_the_host_is_refused():
    class Segments(Fake):
        inputs = ("superpixels",)

    with pytest.raises(InputError, match="reads superpixels, which are made on the host"):
        segment_function(Segments(), {}, Evaluation(), NORMALIZATION)
    with pytest.raises(InputError, match=r"evaluation\.finish DenseCRF works on the host"):
        segment_function(Fake(), {}, Evaluation(finish=DenseCRF()), NORMALIZATION)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("scales", "evaluation.scales: the size of a picture decides"),
        ("resized", "evaluation.resize_to: "),
        ("canvas", "evaluation.canvas: "),
        ("slide", "evaluation.mode slide: "),
    ],
)
def test_with_symbols_for_sizes_what_needs_numbers_is_refused(name, message):
    variables = jax.eval_shape(
        lambda: Tiny().init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32), train=False)
    )
    variables = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), variables)
    segment = segment_function(Tiny(), variables, PROTOCOLS[name], NORMALIZATION)
    pictures = jax.ShapeDtypeStruct(export.symbolic_shape("1, h, w, 3"), np.uint8)
    with pytest.raises(InputError, match=message):
        jax.eval_shape(segment, pictures)
