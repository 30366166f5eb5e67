"""InverseForm against a restatement tile by tile, and what its gradient does."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.config_file import load_config
from sdnjax.convert.files import write_file
from sdnjax.convert.tensors import read_tensors
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment, experiment_from_dict
from sdnjax.losses import InverseForm, constants_of, inverse_form_losses, total_loss
from sdnjax.losses.inverse_form import NAMES, regress
from sdnjax.models import EdgeHead, Model
from sdnjax.options import OneLineParser, add_overrides, apply_overrides
from sdnjax.settings import to_dict
from tests.losses.test_edges import example
from tests.ops.oracles import slope
from tests.ops.test_edges import restated as edges_of

LOSS = InverseForm(size=(8, 12), tiles=(2, 3))
SHAPES = ((7, 32), (7,), (5, 7), (5,), (4, 5), (4,))


def tensors(shapes=SHAPES, seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(0, shape[-1] ** -0.5, shape)
        for name, shape in zip(NAMES, shapes, strict=True)
    }


def layers(dtype=np.float64):
    found = [x.astype(dtype) for x in tensors().values()]
    return [(found[i], found[i + 1]) for i in (0, 2, 4)]


def resized(image, size):
    """Bilinear, half-pixel centres, clamped."""

    def matrix(old, new):
        at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(old)))

    return matrix(image.shape[0], size[0]) @ image @ matrix(image.shape[1], size[1]).T


def restated(edge, labels, probability=lambda x: 1 / (1 + np.exp(-x))):
    lengths = []
    for x, m in zip(edge[..., 0], edges_of(labels, 2), strict=True):
        predicted, target = resized(probability(x), (8, 12)), resized(m.astype(float), (8, 12))
        for i, j in np.ndindex(2, 3):
            tile = np.s_[4 * i : 4 * i + 4, 4 * j : 4 * j + 4]
            y = np.concatenate([predicted[tile].ravel(), target[tile].ravel()])
            for k, (weight, bias) in enumerate(layers()):
                y = weight @ (np.maximum(y, 0) if k else y) + bias
            lengths.append(np.sqrt((y**2).sum() + 1e-12))
    return np.mean(lengths)


def value(edge, labels, constants):
    (mean,) = LOSS({"edge": edge}, {"label": labels}, constants).values()
    return mean.value()


def test_value_and_gradient(x64):
    _, edge, labels = example()
    found, gradient = jax.jit(jax.value_and_grad(value))(edge, labels, layers())
    assert found == pytest.approx(restated(edge, labels), rel=1e-12)
    np.testing.assert_allclose(gradient, slope(lambda x: restated(x, labels), edge), atol=1e-9)
    # The released code's softmax over one channel is 1 everywhere.
    assert not slope(lambda x: restated(x, labels, np.ones_like), edge).any()
    assert np.abs(gradient).max() > 1e-4

    def released(edge):
        maps = jnp.exp(jax.nn.log_softmax(edge, axis=-1))[..., 0]
        return jnp.sum(jnp.square(regress(layers(), LOSS.cut(maps), LOSS.cut(maps))))

    assert not np.asarray(jax.grad(released)(edge)).any()


def test_void_one_pixel_and_halves():
    _, edge, labels = example(4)
    edge, constants = jnp.asarray(edge, jnp.float32), layers(np.float32)
    labels[0] = 255
    both = jax.jit(jax.value_and_grad(value))
    one, gradient = both(edge[:1, :1, :1], labels[:1, :1, :1], constants)
    assert np.isfinite(one) and np.isfinite(gradient).all()
    found, gradient = both(edge[:1], labels[:1], constants)
    assert np.isfinite(found) and np.isfinite(gradient).all()
    zeros = jax.tree.map(np.zeros_like, constants)  # an estimate of exactly 0
    found, gradient = both(edge[:1], labels[:1], zeros)
    assert found == pytest.approx(1e-6) and not np.asarray(gradient).any()

    @jax.jit
    def terms(edge, labels):
        return LOSS({"edge": edge}, {"label": labels}, constants)["inverse_form"]

    def of(part):
        return terms(edge[part], labels[part])

    merged = of(slice(0, 1)).merge(of(slice(1, 4))).value()
    assert float(merged) == pytest.approx(float(of(slice(None)).value()), rel=1e-6)


@pytest.mark.parametrize(
    "change",
    [{"size": (16, 12), "tiles": (4, 3)}, {"size": (12, 12), "tiles": (3, 3)}, {"radius": 1}],
)
def test_settings_change_the_loss(change):
    (_, edge, labels), constants = example(), layers(np.float32)
    of = [
        float(jax.jit(loss)({"edge": edge}, {"label": labels}, constants)["inverse_form"].value())
        for loss in (LOSS, InverseForm(**{"size": (8, 12), "tiles": (2, 3)} | change))
    ]
    assert abs(of[0] - of[1]) > 1e-4


@pytest.mark.parametrize("form", ["safetensors", "pth"])
def test_reads_files_of_ours_and_released_ones(tmp_path, form):
    """The released file has the six tensors alone; wrappers put words before their names."""
    path = tmp_path / f"regressor.{form}"
    prefix = "module." if form == "pth" else ""
    state = {prefix + name: x.astype(np.float32) for name, x in tensors().items()}
    write_file(path, state)
    loss = InverseForm(regressor=str(path), size=(8, 12), tiles=(2, 3))
    (found,) = constants_of((loss,), read_tensors)
    jax.tree.map(np.testing.assert_array_equal, found, layers(np.float32))


def refusals():
    ours = {name: x.astype(np.float32) for name, x in tensors().items()}
    nan = {**ours, "fc.2.bias": np.full(5, np.nan, np.float32)}
    return [
        ({"fc.0.weight": ours["fc.0.weight"]}, "is no regressor of InverseForm: fc.0.bias is"),
        ({**ours, "fc.0.weight": np.zeros((7, 50), np.float32)}, "reads 50 numbers; two tiles of"),
        ({**ours, "tile": np.array([2, 8])}, "was trained on tiles of 2×8 pixels; InverseForm"),
        ({**ours, "fc.4.bias": np.zeros(6, np.float32)}, r"fc.4 is \(4, 5\) and \(6,\), not"),
        (nan, "fc.2 has values that are not finite"),
    ]


@pytest.mark.parametrize(("state", "message"), refusals())
def test_files_that_do_not_fit(tmp_path, state, message):
    path = tmp_path / "regressor.safetensors"
    write_file(path, state)
    with pytest.raises(InputError, match=message):
        InverseForm(regressor=str(path), size=(8, 12), tiles=(2, 3)).constants(read_tensors)


def test_a_missing_file_says_so_before_a_run(tmp_path):
    with pytest.raises(InputError, match=r"needs a regressor, a file: python -m sdnjax.commands"):
        InverseForm().constants(read_tensors)
    missing = str(tmp_path / "none.safetensors")
    model = Model("fcn_r18-d8", edge=EdgeHead())
    experiment = Experiment(model=model, losses=inverse_form_losses(missing))
    with pytest.raises(InputError, match=r"there is no regressor .*none.safetensors: python -m"):
        experiment.build(3).check()
    with pytest.raises(InputError, match="size of 10×12 does not divide into 3×6"):
        InverseForm(size=(10, 12))
    with pytest.raises(ValueError, match="called with its constants"):
        total_loss(
            (InverseForm(),), {"edge": jnp.zeros((1, 2, 2, 1))}, {"label": np.zeros((1, 2, 2))}
        )


def test_the_joint_loss():
    weights = {type(x).__name__: x.weight for x in inverse_form_losses()}
    assert weights == {
        "ImageCrossEntropy": 1.0,
        "EdgeCrossEntropy": 0.3,
        "EdgeAttention": 0.1,
        "InverseForm": 0.3,
    }
    also = inverse_form_losses(auxiliary=True)[4:]
    assert [(type(x).__name__, x.weight, x.on) for x in also] == [
        ("ImageCrossEntropy", 0.4, "auxiliary"),
        ("EdgeAttention", 0.04, "auxiliary"),
    ]
    released = inverse_form_losses(released=True, auxiliary=True)
    assert {x.over for x in released if hasattr(x, "over")} == {"batch"}
    assert {x.images for x in released if hasattr(x, "images")} == {"sum"}


def test_a_record_and_the_command_line(request):
    experiment = load_config(
        request.config.rootpath / "configs" / "shapes_fcn_r18_inverse_form.py", Experiment
    )
    record = json.loads(json.dumps(to_dict(experiment)))
    assert experiment_from_dict(record) == experiment
    parser = OneLineParser()
    add_overrides(parser, experiment)
    words = ["--losses.3.regressor=mine.pth", "--losses.3.tiles=1,1", "--model.edge.hidden=0"]
    changed = apply_overrides(experiment, parser.parse_args(words))
    assert (changed.losses[3].regressor, changed.losses[3].tiles) == ("mine.pth", (1, 1))
    assert changed.model.edge == EdgeHead()
