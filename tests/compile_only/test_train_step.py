"""A whole train step of a network with the SDN neck, compiled for accelerators."""

import jax
import jax.numpy as jnp
import optax
import pytest

from sdnjax.models import create_model
from sdnjax.training.state import TrainState
from sdnjax.training.step import make_train_step
from tests.compile_only.described import (
    collectives,
    compile_for,
    h100_mesh,
    has_cuda_compiler,
    has_tpu_compiler,
    tpu_mesh,
)

BATCH = 16


def step_for(mesh):
    model = create_model("fpn_r18", num_classes=19, neck="sdn", dtype=jnp.bfloat16)
    optimizer = optax.sgd(0.01, momentum=0.9)
    image = jax.ShapeDtypeStruct((BATCH, 128, 160, 3), jnp.float32)
    label = jax.ShapeDtypeStruct((BATCH, 128, 160), jnp.int32)

    def start(image):
        variables = model.init(jax.random.key(0), image, train=False)
        params = variables["params"]
        return TrainState(
            step=jnp.int32(0),
            params=params,
            batch_stats=variables["batch_stats"],
            opt_state=optimizer.init(params),
        )

    state = jax.eval_shape(start, image)
    step = make_train_step(model, optimizer, seed=0)
    return compile_for(mesh, step, state, {"image": image, "label": label}, batch_size=BATCH)


@pytest.mark.skipif(not has_cuda_compiler(), reason="needs the CUDA plugin")
def test_on_eight_h100s():
    compiled = step_for(h100_mesh(8))
    # Every stage's operator, forward and backward.
    for kernel in ("sdc_product", "sdc_kernel_gradient", "sdc_map_gradient"):
        assert kernel in compiled.as_text()
    found = collectives(compiled)
    assert found.pop("all-reduce") > 0
    assert not any(found.values()), found


@pytest.mark.skipif(not has_tpu_compiler(), reason="needs libtpu")
def test_on_four_v5e_chips():
    found = collectives(step_for(tpu_mesh("v5e:2x2")))
    assert found.pop("all-reduce") > 0
    assert not any(found.values()), found
