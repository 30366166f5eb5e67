"""Two classes from one logit: every loss sees the softmax of (0, z), which is the sigmoid of z."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sdnjax.data import Data
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import Evaluation
from sdnjax.inference.threshold import Threshold
from sdnjax.losses import CrossEntropy, Dice, Focal, Tversky
from sdnjax.models import Model, create_model
from sdnjax.models.layers import Classifier


def drawn():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (2, 5, 7))
    labels[rng.random(labels.shape) < 0.2] = 255
    return rng.normal(0, 2, (2, 5, 7)), labels


def value(loss, z, labels):
    scores = jnp.stack([jnp.zeros_like(z), z], axis=-1)
    (mean,) = loss({"logits": scores}, {"label": jnp.asarray(labels)}).values()
    return mean.value()


def of_sigmoid(z, labels, weights=(1.0, 1.0)):
    """PyTorch's BCE with logits, weighed by class as mmsegmentation does it."""
    valid = labels != 255
    losses = optax.losses.sigmoid_binary_cross_entropy(z, jnp.where(valid, labels, 0))
    w = jnp.where(valid, jnp.asarray(weights)[jnp.where(valid, labels, 0)], 0)
    return jnp.sum(losses * w) / jnp.sum(w)


def test_cross_entropy_is_that_of_the_sigmoid(x64):
    z, labels = drawn()
    for weights in (None, (0.25, 2.0)):
        found = jax.value_and_grad(lambda z: value(CrossEntropy(class_weights=weights), z, labels))  # noqa: B023
        wanted = jax.value_and_grad(lambda z: of_sigmoid(z, labels, weights or (1.0, 1.0)))  # noqa: B023
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), found(z), wanted(z))


def test_focal_and_regions_of_the_foreground(x64):
    """Lin et al.'s binary focal loss with α = ¼; Dice and Tversky of the second class alone."""
    z, labels = drawn()
    valid = labels != 255
    t = np.where(valid, labels, 0)
    wanted = optax.losses.sigmoid_focal_loss(z, t, alpha=0.25, gamma=2.0)[valid].mean()
    focal = Focal(activation="softmax", class_weights=(0.75, 0.25))
    np.testing.assert_allclose(value(focal, z, labels), wanted, rtol=1e-12)
    p = 1 / (1 + np.exp(-z))
    each = [
        1 - (2 * p[i][y == 1].sum() + 1e-3) / (p[i][y != 255].sum() + (y == 1).sum() + 1e-3)
        for i, y in enumerate(labels)
    ]
    found = value(Dice(squared=False, of_classes=(1,)), z, labels)
    np.testing.assert_allclose(found, np.mean(each), rtol=1e-12)
    both = value(Tversky(), z, labels)
    alone = [value(Tversky(of_classes=(k,)), z, labels) for k in (0, 1)]
    np.testing.assert_allclose(both, np.mean(alone), rtol=1e-12)
    for wrong in ((), (2,)):
        with pytest.raises(InputError, match="there are classes 0…1"):
            value(Dice(of_classes=wrong), z, labels)


def test_the_classifier_has_one_channel():
    x = jax.random.normal(jax.random.key(0), (1, 3, 4, 5))
    layer = Classifier(2, 0.0, binary=True)
    variables = layer.init(jax.random.key(1), x, train=False)
    assert variables["params"]["seg"]["kernel"].shape == (1, 1, 5, 1)
    scores = layer.apply(variables, x, train=False)
    assert scores.shape == (1, 3, 4, 2)
    z = np.einsum("bhwc,c->bhw", x, variables["params"]["seg"]["kernel"][0, 0, :, 0])
    np.testing.assert_allclose(scores, np.stack([0 * z, z], -1), atol=1e-6)


def test_what_cannot_have_one_logit_says_so():
    with pytest.raises(InputError, match="2 classes apart, there are 3"):
        create_model("fcn_r18-d8", num_classes=3, binary=True)
    for name in ("deeplabv2_r50-d8", "segmenter_vit-t_mask", "maskformer_r50-d32"):
        with pytest.raises(InputError, match="has a score for each class"):
            create_model(name, num_classes=2, binary=True)
    assert create_model("segmenter_vit-t_linear", num_classes=2, binary=True).classifier.binary
    with pytest.raises(InputError, match=r"losses\.1\.activation is sigmoid"):
        Experiment(
            model=Model(binary=True),
            data=Data(),
            losses=(CrossEntropy(), Dice(activation="sigmoid")),
        )


def test_a_threshold_decides_labels():
    p = np.array([[[0.8, 0.2], [0.65, 0.35], [0.1, 0.9]]], np.float32)
    picture = np.zeros((1, 3, 3), np.uint8)
    assert Threshold()(p, picture).tolist() == [[0, 1, 1]]
    assert Threshold(0.5)(p, picture).tolist() == [[0, 0, 1]]
    assert Evaluation(finish="threshold").finish == Threshold()
    with pytest.raises(InputError, match="Threshold is for 2 classes, not 3"):
        Threshold()(np.zeros((1, 1, 3)), picture)
