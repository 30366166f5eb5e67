"""A whole train step of a network with the SDN neck, compiled for accelerators."""

import jax
import jax.numpy as jnp

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.models import Model, Neck
from tests.compile_only.described import (
    collectives,
    compile_for,
    h100_mesh,
    needs_cuda,
    needs_tpu,
    tpu_mesh,
)

BATCH = 16


def step_for(mesh):
    model = Model("fpn_r18", neck=Neck(operator="sdc"), dtype="bfloat16")
    recipe = Experiment(model=model, data=Data(crop_size=(128, 160))).build(19)
    image = jax.ShapeDtypeStruct((BATCH, 128, 160, 3), jnp.float32)
    label = jax.ShapeDtypeStruct((BATCH, 128, 160), jnp.int32)

    batch = {"image": image, "label": label}
    return compile_for(mesh, recipe.step, recipe.abstract_state(), batch, batch_size=BATCH)


@needs_cuda
def test_on_eight_h100s():
    compiled = step_for(h100_mesh(8))
    # Every stage's operator, forward and backward.
    for kernel in ("sdc_product", "sdc_kernel_gradient", "sdc_map_gradient"):
        assert kernel in compiled.as_text()
    found = collectives(compiled)
    assert found.pop("all-reduce") > 0
    assert not any(found.values()), found


@needs_tpu
def test_on_four_v5e_chips():
    found = collectives(step_for(tpu_mesh("v5e:2x2")))
    assert found.pop("all-reduce") > 0
    assert not any(found.values()), found
