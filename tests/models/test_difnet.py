"""DifNet beside its comparison with PyTorch (tests/parity): names, options, outputs, devices."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AxisType

from sdnjax.data.data_settings import Data
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.inference.predictor import Predictor
from sdnjax.inference.protocols import Evaluation
from sdnjax.models import DifNet, DifNetOptions, Model, create_model
from sdnjax.models.difnet import Importance, difnet_resnet
from sdnjax.models.summary import summarize
from sdnjax.ops.normalization import Normalization
from sdnjax.options import OneLineParser, add_overrides, apply_overrides
from sdnjax.training.sharding import to_global
from tests.models.variables import random_variables

PARAMETERS = {
    "difnet_r18-d8": 22_807_948,
    "difnet_r34-d8": 43_024_268,
    "difnet_r50-d8": 48_816_524,
    "difnet_r101-d8": 86_800_780,
    "sim-deeplab_r18-d8": 11_563_668,
    "sim-deeplab_r34-d8": 21_671_828,
    "sim-deeplab_r50-d8": 25_056_404,
    "sim-deeplab_r101-d8": 44_048_532,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_sizes_of_the_released_networks(name):
    model = create_model(name, num_classes=21)
    image = jax.ShapeDtypeStruct((1, 65, 65, 3), jnp.float32)
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
    found = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(shapes["params"]))
    assert found == PARAMETERS[name]


@pytest.mark.parametrize(
    ("size", "grid"), [(65, 9), (321, 41), (505, 64), (512, 65), (64, 9), (33, 5)]
)
def test_grids(size, grid):
    image = jax.ShapeDtypeStruct((1, size, 65, 3), jnp.float32)
    for depth in (18, 50):
        stages = jax.eval_shape(
            lambda x, d=depth: difnet_resnet(d).init_with_output(jax.random.key(0), x, train=False)[
                0
            ],
            image,
        )
        assert [x.shape[1] for x in stages[1:]] == [grid] * 3


@pytest.fixture(scope="module")
def small():
    """Network, float32 variables that are not the initial ones, images of an odd size, outputs."""
    model = create_model("difnet_r18-d8", num_classes=4)
    images = np.random.default_rng(0).normal(size=(2, 41, 65, 3)).astype(np.float32)
    variables = jax.tree.map(np.float32, random_variables(model, images, 3))
    outputs = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images)
    return model, variables, images, outputs


def test_outputs_and_what_they_are(small):
    _, variables, _, outputs = small
    stages = [f"{kind}{i}" for kind in ("stage", "similarity") for i in range(1, 5)]
    walks = [f"walk{i}" for i in range(1, 6)]
    plain = ["scores", "importance", "seed", "mu", "beta", "logits"]
    assert set(outputs) == {*stages, *walks, *plain}
    assert outputs["logits"].shape == (2, 41, 65, 4)
    assert outputs["importance"].shape == (2, 6, 9, 1)
    assert 0 <= outputs["importance"].min() < outputs["importance"].max() <= 1
    np.testing.assert_allclose(
        outputs["seed"], outputs["importance"] * outputs["scores"], rtol=1e-6
    )
    for t in range(5):
        alpha = float(variables["params"][f"walk{t + 1}"]["alpha"])
        assert float(outputs["mu"][t]) == pytest.approx(1 / (1 + np.exp(alpha)), rel=1e-5)
    assert all(np.ptp(outputs[a] - outputs[b]) > 0 for a, b in itertools.pairwise(walks))


@pytest.mark.slow
def test_rows_of_the_transition_matrices(small):
    """Of one image; with them the first walk can be worked out again."""
    model, variables, images, outputs = small
    h, w = 6, 9
    # The first pixel of every node of the score grid.
    points = [(-(-i * 41 // h), -(-j * 65 // w)) for i in range(h) for j in range(w)]
    rows = np.asarray(model.transition_rows(variables, images[1:], points), np.float64)
    assert rows.shape == (h * w, 5, h, w)
    np.testing.assert_allclose(rows.sum(axis=(2, 3)), 1, atol=1e-5)
    seed = np.asarray(outputs["seed"][1], np.float64).reshape(h * w, 4)
    y = seed
    for t in range(5):
        mu, beta = (float(outputs[name][t]) for name in ("mu", "beta"))
        p = rows[:, t].reshape(h * w, h * w)
        y = beta * (mu * p @ y + (1 - mu) * seed) + (1 - beta) * y
        walk = np.asarray(outputs[f"walk{t + 1}"][1]).reshape(h * w, 4)
        np.testing.assert_allclose(walk, y, atol=2e-4 * np.abs(y).max())
    with pytest.raises(InputError, match=r"one image \[1, H, W, 3\], not \(2, 41"):
        model.transition_rows(variables, images, points)
    with pytest.raises(InputError, match=r"pixels of 41×65, not \[\[41, 0\]\]"):
        model.transition_rows(variables, images[:1], [(41, 0)])
    with pytest.raises(InputError, match=r"integers \[n, 2\]"):
        model.transition_rows(variables, images[:1], [1, 2])


def test_importance_is_what_it_says_and_passes_gradients_to_both_uses(x64):
    """s = M(x)·x: a step along x changes s by the product rule."""
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 3))
    model = Importance()
    variables = model.init(jax.random.key(0), x, train=False)
    variables = jax.tree.map(lambda v: jnp.asarray(v, jnp.float64), variables)

    def seed(x):
        return jnp.sum(jnp.sin(model.apply(variables, x, train=False) * x))

    gradient = jax.grad(seed)(jnp.asarray(x))
    direction = np.random.default_rng(1).normal(size=x.shape)
    e = 1e-6
    expected = (seed(x + e * direction) - seed(x - e * direction)) / (2 * e)
    assert float(jnp.sum(gradient * direction)) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.slow
def test_the_bias_before_batch_norm_has_no_gradient_in_training(x64):
    model = create_model("difnet_r18-d8", num_classes=3, dtype=jnp.float64)
    images = np.random.default_rng(0).normal(size=(2, 33, 41, 3))
    variables = random_variables(model, images, 3)

    def loss(params):
        outputs, _ = model.apply(
            {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
        )
        return jnp.sum(jnp.sin(outputs["logits"]))

    gradient = jax.jit(jax.grad(loss))(variables["params"])
    for t in range(1, 6):
        psi = gradient[f"psi{t}"]
        assert np.abs(psi["conv"]["bias"]).max() < 1e-8 * np.abs(psi["conv"]["kernel"]).max()
        assert np.abs(psi["bn"]["scale"]).max() > 0


def test_bfloat16_is_for_the_two_resnets_alone(small):
    _, variables, images, outputs = small
    model = create_model("difnet_r18-d8", num_classes=4, dtype=jnp.bfloat16)
    narrow = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images)
    assert narrow["similarity4"].dtype == narrow["stage4"].dtype == jnp.bfloat16
    for name in ("scores", "seed", "walk1", "walk5", "logits", "mu"):
        assert narrow[name].dtype == jnp.float32, name
    scale = np.abs(outputs["scores"]).max()
    assert 0 < np.abs(narrow["scores"] - outputs["scores"]).max() < 0.1 * scale


def given(*words):
    parser = OneLineParser()
    add_overrides(parser, Experiment())
    return apply_overrides(Experiment(), parser.parse_args(words)).model


def test_options_reach_the_network():
    words = ("--model.difnet.walks=0,2,4", "--model.difnet.dilations=12")
    more = ("--model.difnet.init_std=0.01", "--model.difnet.preprocessing=released")
    network = given("--model.name=difnet_r18-d8", *words, *more).build(3)
    assert isinstance(network, DifNet)
    assert network.walks == (0, 2, 4) and network.classifier.dilations == (12,)
    assert network.classifier.init_std == 0.01
    assert network.backbone.bgr and network.similarity.bgr
    baseline = given("--model.name=sim-deeplab_r18-d8", *words[1:], *more).build(3)
    assert baseline.backbone == network.backbone and baseline.classifier == network.classifier
    hybrid = create_model("difnet_r18-r50-d8", num_classes=3)
    assert hybrid.backbone.stage_blocks == (3, 2, 2, 2)
    assert (hybrid.similarity.depth, hybrid.similarity.stage_blocks) == (50, (3, 4, 6, 3))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model.difnet.walks=0"], "--model.difnet.walks has no effect: fcn_r18-d8 is another"),
        (
            ["--model.name=sim-deeplab_r18-d8", "--model.difnet.walks=0"],
            "--model.difnet.walks has no effect: sim-deeplab_r18-d8 has none",
        ),
        (
            ["--model.name=difnet_r18-d8", "--model.neck.operator=sdc"],
            "--model.neck.operator has no effect: difnet_r18-d8 has no place",
        ),
        (["--model.name=difnet_r18-d8", "--model.stem=v1"], "has another stem"),
        (["--model.name=difnet_r18-d8", "--model.difnet.walks=2,0"], "0,1,2,3,4 in this order"),
        (["--model.name=difnet_r18-d8", "--model.difnet.walks=5"], "must be at least 0 and at"),
        (["--model.name=difnet_r18-d8", "--model.difnet.init_std=0"], "must be above 0"),
        (
            ["--data.recipe=difnet", "--data.scale_range=1,2"],
            "--data.scale_range has no effect: data.recipe is difnet",
        ),
    ],
)
def test_what_has_no_effect_or_no_meaning(words, message):
    with pytest.raises(InputError, match=message):
        given(*words)


def test_parts_that_do_not_fit():
    for part in ("neck", "context", "refine", "edge"):
        with pytest.raises(InputError, match=f"{part} does not fit DifNet"):
            create_model("difnet_r18-d8", num_classes=3, **{part: nn.Dense(3)})
    with pytest.raises(InputError, match="difnet: fcn_r18-d8 is another network"):
        create_model("fcn_r18-d8", num_classes=3, difnet=DifNetOptions(walks=(0,)))
    assert create_model("sim-deeplab_r18-d8", num_classes=3, neck="sdn").neck is not None


def test_the_summary_counts_the_walks():
    layers = {x.path: x for x in summarize(create_model("difnet_r18-d8", num_classes=21), (65, 65))}
    n = 81
    assert layers["walk1"].multiply_adds == n * n * 64 + n * n * 21
    assert layers["psi1"].multiply_adds == 65 * 65 * 3 * 64
    assert layers["psi5"].parameters == 512 * 64 + 3 * 64
    assert layers[""].parameters == PARAMETERS["difnet_r18-d8"]
    large = {x.path: x for x in summarize(create_model("difnet_r18-d8", num_classes=2), (505, 505))}
    # In blocks of 256 rows, as often as there are.
    assert large["walk5"].multiply_adds == 4096**2 * (64 + 2)


@pytest.mark.slow
def test_one_device_and_eight():
    """Batch norm sees the global batch, and the walks' blocks are split by images."""
    model = Model(name="difnet_r18-d8")
    recipe = Experiment(model=model, data=Data(crop_size=(33, 41)), seed=3).build(3)
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.normal(size=(8, 33, 41, 3)).astype(np.float32),
        "label": rng.integers(0, 3, (8, 33, 41)).astype(np.int32),
    }

    def steps(devices):
        mesh = jax.make_mesh(
            (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
        )
        state, step = recipe.new_state(mesh), recipe.compiled_step(mesh)
        found = []
        for _ in range(2):
            state, metrics = step(state, to_global(batch, mesh))
            found.append(float(metrics["loss"]))
        return found, jax.tree.map(np.asarray, state.batch_stats)

    one, eight = steps(1), steps(8)
    np.testing.assert_allclose(one[0], eight[0], rtol=2e-4)
    for a, b in zip(jax.tree.leaves(one[1]), jax.tree.leaves(eight[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3)


@pytest.mark.slow
def test_evaluation_reads_the_last_walk_and_not_the_scores(small):
    """Whole pictures are resized from the network's own grid, of which the walks are the last."""
    model, variables, *_ = small
    picture = np.random.default_rng(5).integers(0, 256, (41, 65, 3), dtype=np.uint8)
    normalization = Normalization((120.0,) * 3, (60.0,) * 3)
    predictor = Predictor(model, Evaluation(), normalization)
    (found,) = predictor.probabilities(predictor.place(variables), [picture])
    outputs = jax.jit(lambda v, x: model.apply(v, x, train=False))(
        variables, normalization(picture)[None]
    )
    np.testing.assert_allclose(found, jax.nn.softmax(outputs["logits"][0], axis=-1), atol=1e-4)
