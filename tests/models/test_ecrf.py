"""E-CRF's module against a loop, and as a part of networks and of experiments."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.data import Data
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment, experiment_from_dict
from sdnjax.models import ECRF, EncoderDecoder, Model
from sdnjax.models.layers import Classifier
from sdnjax.ops.message_passing import position_encoding
from sdnjax.ops.resize import resize_bilinear
from sdnjax.settings import to_dict
from tests.ops.oracles import arrays
from tests.ops.test_message_passing import means_loop, message_loop


def inputs(shape=(2, 5, 7), channels=6, image=(11, 13), segments=4, dtype=np.float64):
    f, picture = arrays((*shape, channels), (shape[0], *image, 3), dtype=dtype)
    labels = np.random.default_rng(2).integers(-1, segments, (shape[0], *image))
    return f, np.abs(picture) / 4, labels.astype(np.int32)


def restated(params, f, picture, labels, *, weights=(0.2, 0.1), pair=False, centre=True, z=False):
    """Eq. 4–8 in NumPy, float64."""
    _, h, w, _ = f.shape
    small = np.asarray(resize_bilinear(jnp.asarray(picture), (h, w)))
    colours = small @ params["colours"]["kernel"][0, 0]
    positions = position_encoding(h, w).astype(float) @ params["positions"]["kernel"][0, 0]
    e = np.concatenate([colours, np.broadcast_to(positions, colours.shape)], -1)
    score = f @ params["compatibility"]["kernel"][0, 0]
    b = score[..., 1] if pair else np.zeros(f.shape[:3])
    messages = message_loop(f, e, score[..., 0], b, centre=centre)
    rows = np.arange(h) * picture.shape[1] // h
    columns = np.arange(w) * picture.shape[2] // w
    means = means_loop(f, labels[:, rows][:, :, columns], labels.max() + 1)
    result = f + weights[0] * messages + weights[1] * means
    if not z:
        return result
    total = np.zeros(f.shape[:3])
    for i, y, x in np.ndindex(*f.shape[:3]):
        for dy, dx in np.ndindex(3, 3):
            v, u = y + 2 * dy - 2, x + 2 * dx - 2
            if 0 <= v < h and 0 <= u < w and (centre or (dy, dx) != (1, 1)):
                mu = 1 / (1 + np.exp(-score[i, v, u, 0] - b[i, y, x]))
                total[i, y, x] += mu * abs(e[i, y, x] @ e[i, v, u])
    return result / (1 + weights[1] + weights[0] * total)[..., None]


@pytest.mark.parametrize(
    ("options", "restatement"),
    [
        ({}, {}),
        ({"message_weight": 0.5, "superpixel_weight": 0.3}, {"weights": (0.5, 0.3)}),
        ({"compatibility": "pair", "centre": False}, {"pair": True, "centre": False}),
        ({"normalize": True, "compatibility": "pair"}, {"z": True, "pair": True}),
        ({"normalize": True, "centre": False}, {"z": True, "centre": False}),
    ],
)
def test_equals_the_restatement(x64, options, restatement):
    f, picture, labels = inputs()
    module = ECRF(segments=4, **options)
    extras = {"picture": jnp.array(picture), "superpixels": jnp.array(labels)}
    variables = module.init(jax.random.key(0), jnp.array(f), train=False, **extras)
    variables = jax.tree.map(lambda x: x.astype(jnp.float64), variables)
    outputs = jax.jit(lambda v, f: module.apply(v, f, train=True, **extras))(variables, f)
    params = jax.tree.map(np.asarray, variables["params"])
    expected = restated(params, f, picture, labels, **restatement)
    np.testing.assert_allclose(outputs["features"], expected, rtol=0, atol=2e-7)


def test_parameters_and_their_initial_scale():
    f, picture, labels = inputs(channels=512, dtype=np.float32)
    variables = ECRF(segments=4).init(
        jax.random.key(0), jnp.array(f), train=False, picture=picture, superpixels=labels
    )
    shapes = {k: v["kernel"].shape for k, v in variables["params"].items()}
    assert shapes == {
        "colours": (1, 1, 3, 32),
        "positions": (1, 1, 64, 32),
        "compatibility": (1, 1, 512, 1),
    }
    for kernel in jax.tree.leaves(variables):
        bound = kernel.shape[2] ** -0.5
        assert 0.9 * bound < np.abs(kernel).max() <= bound


def test_terms_of_weight_0_ask_for_nothing():
    f, picture, labels = inputs(dtype=np.float32)
    assert ECRF(message_weight=0.0).inputs == ("superpixels",)
    assert ECRF(superpixel_weight=0.0).inputs == ("picture",)
    means = ECRF(message_weight=0.0, segments=4)
    key, f = jax.random.key(0), jnp.array(f)
    outputs, variables = means.init_with_output(key, f, train=False, superpixels=labels)
    assert not variables and set(outputs) == {"features", "superpixel_means"}
    pairs = ECRF(superpixel_weight=0.0)
    outputs, _ = pairs.init_with_output(key, f, train=False, picture=picture)
    assert set(outputs) == {"features", "messages", "psi"}


def test_identity_start_changes_nothing_and_learns():
    f, picture, labels = inputs(dtype=np.float32)
    module = ECRF(segments=4, start="identity")
    extras = {"picture": jnp.array(picture), "superpixels": jnp.array(labels)}
    variables = module.init(jax.random.key(0), jnp.array(f), train=False, **extras)

    def loss(variables):
        return jnp.sum(jnp.square(module.apply(variables, f, train=True, **extras)["features"]))

    features = module.apply(variables, jnp.array(f), train=False, **extras)["features"]
    np.testing.assert_array_equal(features, f)
    gains = jax.jit(jax.grad(loss))(variables)["params"]["gains"]
    assert (np.abs(gains) > 1e-3).all()


def test_messages_of_a_constant_map_of_zeros_are_zero():
    _, picture, labels = inputs(dtype=np.float32)
    f = jnp.zeros((2, 5, 7, 6))
    module = ECRF(segments=4)
    extras = {"picture": jnp.array(picture), "superpixels": jnp.array(labels)}
    outputs, _ = module.init_with_output(jax.random.key(0), f, train=False, **extras)
    assert not outputs["features"].any()


def test_bfloat16_features_stay_bfloat16():
    f, picture, labels = inputs(dtype=np.float32)
    module = ECRF(segments=4)
    extras = {"picture": jnp.array(picture), "superpixels": jnp.array(labels)}
    narrow = jnp.asarray(f, jnp.bfloat16)
    variables = module.init(jax.random.key(0), narrow, train=False, **extras)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(variables))
    result = module.apply(variables, narrow, train=False, **extras)["features"]
    wide = module.apply(variables, narrow.astype(jnp.float32), train=False, **extras)["features"]
    assert result.dtype == jnp.bfloat16
    np.testing.assert_allclose(result.astype(jnp.float32), wide, rtol=0.02, atol=0.02)


def test_an_experiment_names_its_settings():
    experiment = Experiment(
        model=Model("deeplabv3plus_r18-d8", context=ECRF(segments=100, compatibility="pair")),
        data=Data(superpixels=100),
    )
    record = to_dict(experiment)
    assert record["model"]["context"]["type"] == "sdnjax.models.ECRF"
    assert experiment_from_dict(record) == experiment
    network = experiment.network(3)
    assert isinstance(network, EncoderDecoder) and network.inputs == ("picture", "superpixels")
    with pytest.raises(InputError, match=r"data.superpixels is 200, but model.context.segments"):
        dataclasses.replace(experiment, data=Data(superpixels=200))
    with pytest.raises(InputError, match="at least 0, not -1"):
        ECRF(message_weight=-1.0)


@pytest.mark.parametrize(
    "change",
    [
        {"message_weight": 0.4},
        {"superpixel_weight": 0.3},
        {"compatibility": "pair"},
        {"centre": False},
        {"normalize": True},
        {"start": "identity"},
        {"embedding": 16},
        {"dilation": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_setting_changes_the_features(change):
    f, picture, labels = inputs(dtype=np.float32)
    extras = {"picture": jnp.array(picture), "superpixels": jnp.array(labels)}

    @functools.partial(jax.jit, static_argnums=0)
    def features(module):
        return module.init_with_output(jax.random.key(0), jnp.array(f), train=False, **extras)[0]

    plain = ECRF(segments=4)
    before, after = (features(x)["features"] for x in (plain, plain.clone(**change)))
    assert np.abs(before - after).max() > 1e-3


def test_equal_modules_are_equal():
    assert ECRF() == ECRF() != ECRF(dilation=1)
    assert hash(ECRF()) == hash(ECRF())
    network = EncoderDecoder(ECRF(), Classifier(3))  # any module will do
    assert network == EncoderDecoder(ECRF(), Classifier(3))
