"""DenseCRF on pictures: against whole matrices, in an evaluation, and in its record."""

import dataclasses
import json

import numpy as np
import pytest

from sdnjax.errors import InputError
from sdnjax.experiment import Experiment, experiment_from_dict
from sdnjax.inference.dense_crf import DenseCRF
from sdnjax.inference.predictor import Predictor
from sdnjax.inference.protocols import Evaluation, protocol, protocol_name
from sdnjax.ops.crf import bilateral_features, position_features
from sdnjax.options import OneLineParser, add_overrides, apply_overrides
from sdnjax.settings import to_dict
from tests.inference.fake import NORMALIZATION, Fake, picture
from tests.ops.crf.restated import kernel, lattice_matrix, normalised, softmax


def scene(h, w, k=5, seed=0):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(k, 0.7), (h, w)).astype(np.float32)
    probabilities[0, 0] = np.eye(k)[0]  # zeros are kept from being infinite energies
    return probabilities, rng.integers(0, 256, (h, w, 3), dtype=np.uint8)


@pytest.mark.parametrize("implementation", ["lattice", "exact"])
@pytest.mark.parametrize("size", [(6, 9), (11, 4)])
def test_marginals_and_labels(implementation, size):
    h, w = size
    p, image = scene(h, w)
    crf = DenseCRF(3, 1.2, 2.0, 7.0, 50.0, 1.5, implementation)
    matrix = lattice_matrix if implementation == "lattice" else kernel
    kernels = [
        normalised(matrix(features), "symmetric")
        for features in (position_features(h, w, 1.2), bilateral_features(image, 7.0, 50.0))
    ]
    scores = np.log(np.clip(p.reshape(h * w, -1).astype(np.float64), 1e-5, 1))
    q = softmax(scores)
    for _ in range(3):
        q = softmax(scores + 2.0 * kernels[0] @ q + 1.5 * kernels[1] @ q)
    found = crf.marginals(p, image)
    np.testing.assert_allclose(found, q.reshape(p.shape), atol=1e-5)
    labels = crf(p, image)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, found.argmax(axis=-1))
    assert (labels != p.argmax(axis=-1)).any()


def test_published_parameters():
    published = {
        "iterations": 10,
        "position_sigma": 1,
        "position_weight": 3,
        "bilateral_sigma_xy": 67,
        "bilateral_sigma_rgb": 3,
        "bilateral_weight": 4,
        "implementation": "lattice",
    }
    assert dataclasses.asdict(DenseCRF.voc()) == published
    example = dataclasses.astuple(DenseCRF())
    assert example == (5, 3, 3, 80, 13, 10, "lattice")


def test_constant_picture_and_one_class():
    p, _ = scene(7, 5)
    found = DenseCRF().marginals(p, np.full((7, 5, 3), 9, np.uint8))
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)
    assert not DenseCRF()(np.ones((7, 5, 1), np.float32), np.zeros((7, 5, 3), np.uint8)).any()


def test_grey_pictures():
    """Any number of channels is that many features; a grey picture has one."""
    p, image = scene(7, 5)
    grey = image[..., :1]
    coloured = DenseCRF(implementation="exact", bilateral_sigma_rgb=20 * 3**0.5)
    plain = DenseCRF(implementation="exact", bilateral_sigma_rgb=20.0)
    np.testing.assert_allclose(
        plain.marginals(p, grey), coloured.marginals(p, np.repeat(grey, 3, -1)), atol=1e-5
    )


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((4, 5, 3), (5, 4, 3)), r"picture \(5, 4, 3\) does not fit \(4, 5, 3\)"),
        (((4, 5, 3), (4, 5)), r"takes \[H, W, K\] and \[H, W, C\], not \(4, 5, 3\) and \(4, 5\)"),
    ],
)
def test_what_does_not_fit(shapes, message):
    with pytest.raises(InputError, match=message):
        DenseCRF()(np.ones(shapes[0], np.float32), np.zeros(shapes[1], np.uint8))


@pytest.mark.parametrize(
    "how", [{"iterations": -1}, {"position_sigma": 0.0}, {"implementation": "fast"}]
)
def test_settings_have_bounds(how):
    with pytest.raises(InputError, match=next(iter(how))):
        DenseCRF(**how)


def test_in_a_predictor():
    crf = DenseCRF(2)
    seen = {"scales": (0.5, 1.0), "flip": True, "batch_size": 2}
    pictures = [picture(19, 31, seed) for seed in (0, 1)]
    predictor = Predictor(Fake(), Evaluation(**seen, finish=crf), NORMALIZATION)
    means = predictor.probabilities({}, pictures)
    for mean, x, labels in zip(means, pictures, predictor.labels({}, pictures), strict=True):
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(labels, crf(mean, x))


def test_a_work_directory_has_it_again():
    evaluation = dataclasses.replace(protocol("cityscapes"), finish=DenseCRF.voc())
    experiment = Experiment(evaluation=evaluation)
    record = json.loads(json.dumps(to_dict(experiment)))
    for base in (None, Experiment()):
        assert experiment_from_dict(record, base=base) == experiment
    assert protocol_name(evaluation) == "cityscapes_DenseCRF"


def test_on_the_command_line():
    def applied(config, *words):
        parser = OneLineParser()
        add_overrides(parser, config)
        return apply_overrides(config, parser.parse_args(words)).evaluation.finish

    assert applied(Experiment(), "--evaluation.finish", "dense_crf") == DenseCRF()
    assert applied(Experiment(), "--evaluation.finish", "dense_crf_voc") == DenseCRF.voc()
    own = Experiment(evaluation=Evaluation(finish=DenseCRF()))
    changed = applied(own, "--evaluation.finish.iterations", "7")
    assert changed == DenseCRF(iterations=7)
