"""E-CRF's operators and a train step with it, compiled for accelerators."""

import jax
import jax.numpy as jnp
import pytest

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.models import ECRF, Model, NonLocal
from sdnjax.ops.message_passing import pairwise_message, superpixel_means
from tests.compile_only.described import (
    collectives,
    compile_for,
    h100_mesh,
    needs_cuda,
    needs_tpu,
    temporaries,
    tpu_mesh,
)

SHAPE = (2, 128, 128, 512)  # 64 MiB in float32


def message(f, e, a):
    return pairwise_message(f, e, a)[0]


def means(f, labels):
    return superpixel_means(f, labels, 200)


def with_gradient(function, count):
    def both(*arguments):
        rest = arguments[count:]
        y, pullback = jax.vjp(lambda *x: function(*x, *rest), *arguments[:count])
        return y, pullback(y)

    return both


def maps(mesh, function, *arguments):
    """Temporaries in feature maps."""
    compiled = compile_for(mesh, function, *arguments, batch_size=SHAPE[0])
    return temporaries(compiled) / 64


@needs_cuda
def test_no_window_is_held_on_h100():
    mesh = h100_mesh(1)
    f = jax.ShapeDtypeStruct(SHAPE, jnp.float32)
    e = jax.ShapeDtypeStruct((*SHAPE[:3], 64), jnp.float32)
    a = jax.ShapeDtypeStruct(SHAPE[:3], jnp.float32)
    labels = jax.ShapeDtypeStruct(SHAPE[:3], jnp.int32)
    with jax.set_mesh(mesh):
        assert maps(mesh, message, f, e, a) < 0.5
        assert maps(mesh, with_gradient(message, 3), f, e, a) < 2
        assert maps(mesh, means, f, labels) < 0.5
        assert maps(mesh, with_gradient(means, 1), f, labels) < 2


def step_for(mesh, context, segments):
    model = Model("deeplabv3plus_r18-d8", context=context, dtype="bfloat16")
    data = Data(crop_size=(128, 160), superpixels=segments)
    recipe = Experiment(model=model, data=data).build(19)
    batch = {
        "image": jax.ShapeDtypeStruct((16, 128, 160, 3), jnp.float32),
        "label": jax.ShapeDtypeStruct((16, 128, 160), jnp.int32),
    }
    if segments:
        batch["superpixels"] = batch["label"]
    return compile_for(mesh, recipe.step, recipe.abstract_state(), batch, batch_size=16)


@pytest.mark.parametrize("context", [ECRF(), NonLocal()], ids=["ecrf", "nonlocal"])
@pytest.mark.parametrize(
    "mesh",
    [
        pytest.param(lambda: h100_mesh(8), marks=needs_cuda, id="h100"),
        pytest.param(lambda: tpu_mesh("v5e:2x2"), marks=needs_tpu, id="v5e"),
    ],
)
def test_no_activation_crosses_devices(mesh, context):
    segments = 200 if isinstance(context, ECRF) else None
    found = collectives(step_for(mesh(), context, segments))
    assert found.pop("all-reduce") > 0
    assert not any(found.values()), found
