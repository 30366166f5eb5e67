"""JointCRF: against whole matrices in float64, inside a network, and in training."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from sdnjax.errors import InputError
from sdnjax.experiment import Experiment, experiment_from_dict
from sdnjax.losses import CrossEntropy
from sdnjax.models import EncoderDecoder, Model
from sdnjax.models.layers import Classifier, ConvBNReLU
from sdnjax.models.refine.joint_crf import JointCRF
from sdnjax.ops import resize_bilinear
from sdnjax.ops.crf import bilateral_features, exact_filter, position_features
from sdnjax.options import OneLineParser, add_overrides, apply_overrides
from sdnjax.settings import own_objects, to_dict
from sdnjax.training.sharding import to_global
from tests.ops.crf.restated import kernel, normalised, softmax
from tests.training.test_step import mesh_of
from tests.training.tiny import batch_of, recipe_of


def scene(b=2, size=(14, 11), grid=(7, 4), k=3):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(b, *grid, k)).astype(np.float32)
    return jnp.asarray(scores), jnp.asarray(rng.random((b, *size, 3)), jnp.float32)


def test_starts_as_released():
    scores, picture = scene()
    params = JointCRF().init(jax.random.key(0), scores, train=True, picture=picture)["params"]
    scales = {"position": 3, "bilateral": 5, "compatibility": 1}
    assert params.keys() == scales.keys()
    for name, scale in scales.items():
        np.testing.assert_array_equal(params[name], scale * np.eye(3))


def test_equals_whole_matrices_in_each_picture():
    """On the grid of the scores, whose strides differ here: 2 vertically, 2.75 horizontally."""
    scores, picture = scene()
    crf = JointCRF(iterations=4, sigma_xy=12.0, sigma_rgb=40.0, sigma_position=5.0)
    rng = np.random.default_rng(1)
    names = ("position", "bilateral", "compatibility")
    params = {name: rng.normal(size=(3, 3)).astype(np.float32) for name in names}
    found = crf.apply({"params": params}, scores, train=False, picture=picture)
    small = np.asarray(resize_bilinear(picture, (7, 4)), np.float64) * 255
    k_s = normalised(kernel(position_features(7, 4, (5 / 2, 5 / 2.75))), "after")
    for i in range(2):
        features = bilateral_features(small[i], (12 / 2, 12 / 2.75), 40.0)
        k_b = normalised(kernel(features), "after")
        u = e = np.asarray(scores[i], np.float64).reshape(28, 3)
        for _ in range(4):
            q = softmax(e)
            m = k_s @ q @ params["position"].T + k_b @ q @ params["bilateral"].T
            e = u + m @ params["compatibility"].T
        np.testing.assert_allclose(found[i].reshape(28, 3), e, atol=2e-5 * np.abs(e).max())


def test_without_weights_scores_are_unchanged():
    scores, picture = scene()
    params = dict.fromkeys(("position", "bilateral"), jnp.zeros((3, 3)))
    params["compatibility"] = jnp.eye(3)
    found = JointCRF().apply({"params": params}, scores, train=True, picture=picture)
    np.testing.assert_array_equal(found, scores)


def test_the_filter_of_colours_is_a_value():
    scores, picture = scene()
    variables = JointCRF().init(jax.random.key(0), scores, train=True, picture=picture)
    seen = []

    def own(features):
        seen.append(features.shape)
        return exact_filter(features, block=5)

    found, plain = (
        crf.apply(variables, scores, train=True, picture=picture)
        for crf in (JointCRF(bilateral=own), JointCRF())
    )
    assert seen == [(28, 5)]
    np.testing.assert_allclose(found, plain, rtol=1e-5)


def test_no_gradient_to_the_picture_but_to_all_else():
    scores, picture = scene()
    crf = JointCRF(sigma_rgb=60.0)
    variables = crf.init(jax.random.key(0), scores, train=True, picture=picture)

    def loss(variables, scores, picture):
        found = crf.apply(variables, scores, train=True, picture=picture)
        return jnp.sum(jnp.square(found))

    of_all = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(variables, scores, picture)
    assert not np.asarray(of_all[2]).any()
    for leaf in jax.tree.leaves(of_all[:2]):
        assert np.asarray(leaf).any()


class Backbone(nn.Module):
    """Images → one stage at stride 2."""

    @nn.compact
    def __call__(self, images, *, train):
        return (ConvBNReLU(8, 3, stride=2)(images, train=train),)


def trained(devices, steps):
    """Losses of a small network on bands of colour, and its matrices, before and after."""
    network = EncoderDecoder(
        backbone=Backbone(),
        classifier=Classifier(3, 0.0),
        refine=JointCRF(iterations=2, sigma_xy=8.0, sigma_rgb=60.0),
        decoder_stages=(0,),
    )
    assert network.inputs == ("picture",)
    recipe = recipe_of(network, optax.adam(0.05), losses=(CrossEntropy(),))
    mesh = mesh_of(devices)
    state, step = recipe.new_state(mesh), recipe.compiled_step(mesh)
    begin = jax.tree.map(np.asarray, state.params["refine"])
    batch = batch_of(0)
    batch["label"] = np.broadcast_to(np.arange(10, dtype=np.int32) // 4, (8, 12, 10)).copy()
    batch["image"] = (0.3 * batch["image"] + np.eye(3)[batch["label"]]).astype(np.float32)
    losses = []
    for _ in range(steps):
        state, metrics = step(state, to_global(batch, mesh))
        losses.append(float(metrics["loss"]))
    return losses, begin, jax.tree.map(np.asarray, state.params["refine"])


@pytest.mark.slow
def test_trains_in_a_network():
    losses, begin, end = trained(1, 30)
    assert losses[-1] < 0.6 * losses[0]
    for name, matrix in end.items():
        assert np.abs(matrix - begin[name]).max() > 1e-2, name


@pytest.mark.slow
def test_one_and_eight_devices_agree():
    one, eight = trained(1, 3), trained(8, 3)
    np.testing.assert_allclose(one[0], eight[0], rtol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), one[2], eight[2])


def test_a_record_has_it_again():
    """It needs no code of one's own: settings of a work directory and of the command line."""
    experiment = Experiment(model=Model("fcn_r18-d8", refine=JointCRF(iterations=3)))
    record = json.loads(json.dumps(to_dict(experiment)))
    assert not own_objects(record)
    assert experiment_from_dict(record) == experiment
    parser = OneLineParser()
    add_overrides(parser, experiment)
    words = parser.parse_args(["--model.refine.iterations", "7"])
    assert apply_overrides(experiment, words).model.refine == JointCRF(iterations=7)
    # A filter of the library has a name, one of one's own is code.
    theirs = Experiment(model=Model("fcn_r18-d8", refine=JointCRF(bilateral=exact_filter)))
    assert experiment_from_dict(json.loads(json.dumps(to_dict(theirs)))) == theirs

    def own(features):
        return exact_filter(features, block=8)

    mine = Experiment(model=Model("fcn_r18-d8", refine=JointCRF(bilateral=own)))
    assert own_objects(to_dict(mine))


def test_refused():
    scores, picture = scene()
    with pytest.raises(InputError, match=r"picture \(1, 14, 11, 3\) does not fit scores"):
        JointCRF().init(jax.random.key(0), scores, train=True, picture=picture[:1])
    with pytest.raises(InputError, match="exact or a function, not 'lattice'"):
        JointCRF(bilateral="lattice").init(jax.random.key(0), scores, train=True, picture=picture)
