"""What makes labels of probabilities, when it is not the largest."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.errors import InputError
from sdnjax.inference.predictor import Predictor
from sdnjax.inference.protocols import Evaluation, protocol, protocol_name
from sdnjax.inference.scoring import evaluate
from tests.inference.fake import NORMALIZATION, Fake, picture


@dataclasses.dataclass(frozen=True)
class Second:
    """The second most probable class, but the first where the picture is dark."""

    dark: int = 40
    on_device: bool = False

    def __call__(self, probabilities, picture):
        assert (probabilities.dtype, picture.dtype) == (np.float32, np.uint8)
        order = probabilities.argsort(axis=-1)
        labels = np.where(picture.mean(axis=-1) < self.dark, order[..., -1], order[..., -2])
        return jnp.asarray(labels) if self.on_device else labels


SEEN = {"scales": (0.5, 1.0), "flip": True, "batch_size": 2}


@pytest.mark.parametrize("on_device", [False, True])
def test_finish_takes_mean_probabilities_and_picture(on_device):
    finish = Second(100, on_device)
    predictor = Predictor(Fake(), Evaluation(**SEEN, finish=finish), NORMALIZATION)
    pictures = [picture(19, 31, seed) for seed in (0, 1)]
    means = Predictor(Fake(), Evaluation(**SEEN), NORMALIZATION).probabilities({}, pictures)
    found = predictor.labels({}, pictures)
    np.testing.assert_array_equal(predictor.probabilities({}, pictures), means)
    for mean, x, labels in zip(means, pictures, found, strict=True):
        np.testing.assert_allclose(mean.sum(-1), 1, atol=1e-5)
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(labels, Second(100)(mean, x))
        assert 0.1 < (labels == mean.argmax(-1)).mean() < 0.9


@dataclasses.dataclass
class Example:
    image: np.ndarray
    label: np.ndarray
    name: str


def test_scores_are_of_what_finish_made():
    finish = Second()
    plain = Predictor(Fake(), Evaluation(), NORMALIZATION)
    x = picture(20, 24)
    (mean,) = plain.probabilities({}, [x])
    example = Example(x, finish(mean, x).astype(np.uint8), "a.png")
    scores = []
    for how in ({"finish": finish}, {}):
        settings = Evaluation(**how)
        predictor = Predictor(Fake(), settings, NORMALIZATION)
        metrics = evaluate(predictor, {}, [example], num_classes=5, protocol=settings)
        scores.append(metrics.compute()["pixel_accuracy"])
    assert scores[0] == 1
    assert scores[1] < 0.3


def too_high(probabilities, picture):
    return np.full(picture.shape[:2], probabilities.shape[-1])


@pytest.mark.parametrize(
    ("finish", "message"),
    [
        (too_high, r"evaluation\.finish: too_high returned 5…5; classes are 0…4"),
        (lambda p, x: -np.ones(x.shape[:2], int), "lambda returned -1…-1"),
        (lambda p, x: p.argmax(-1).T, r"must return integers \(6, 8\), not int64 \(8, 6\)"),
        (lambda p, x: p, r"must return integers \(6, 8\), not float32 \(6, 8, 5\)"),
        (lambda p, x: p.max(-1), r"not float32 \(6, 8\)"),
    ],
)
def test_what_is_no_class_map_is_refused(finish, message):
    predictor = Predictor(Fake(), Evaluation(finish=finish), NORMALIZATION)
    with pytest.raises(ValueError, match=message) as caught:
        predictor.labels({}, [picture(6, 8)])
    assert not isinstance(caught.value, InputError)


def test_finish_is_part_of_the_name():
    assert protocol_name(Evaluation(finish=too_high)) == "whole_too_high"
    own = dataclasses.replace(protocol("ade20k_ms"), finish=Second(), batch_size=3)
    assert protocol_name(own) == "ade20k_ms_Second"
    assert protocol_name(Evaluation(flip=True, finish=lambda p, x: p)) == "whole_flip_lambda"


def test_settings_that_cannot_be_called():
    known = r"dense_crf\|dense_crf_voc\|threshold or a function or none"
    with pytest.raises(InputError, match=rf"Evaluation.finish must be {known}, not 'crf'"):
        Evaluation(finish="crf")
