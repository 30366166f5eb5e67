"""A train step with the joint CRF compiled for accelerators."""

import jax
import jax.numpy as jnp
import pytest

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.models import JointCRF, Model
from tests.compile_only.described import (
    collectives,
    compile_for,
    h100_mesh,
    needs_cuda,
    needs_tpu,
    temporaries,
    tpu_mesh,
)


def step_for(mesh, refine, size):
    model = Model("deeplabv3plus_r18-d8", refine=refine, dtype="bfloat16")
    recipe = Experiment(model=model, data=Data(crop_size=size)).build(150)
    batch = {
        "image": jax.ShapeDtypeStruct((16, *size, 3), jnp.float32),
        "label": jax.ShapeDtypeStruct((16, *size), jnp.int32),
    }
    return compile_for(mesh, recipe.step, recipe.abstract_state(), batch, batch_size=16)


@pytest.mark.parametrize(
    "mesh",
    [
        pytest.param(lambda: h100_mesh(8), marks=needs_cuda, id="h100"),
        pytest.param(lambda: tpu_mesh("v5e:2x2"), marks=needs_tpu, id="v5e"),
    ],
)
def test_no_activation_crosses_devices(mesh):
    found = collectives(step_for(mesh(), JointCRF(), (128, 160)))
    assert found.pop("all-reduce") > 0
    assert not any(found.values()), found


@needs_cuda
@pytest.mark.slow
def test_the_kernel_of_all_pairs_is_never_held():
    """At crops of 512² it would have 16384² elements, 1 GiB, for each image."""
    mesh = h100_mesh(8)
    with_crf, plain = (temporaries(step_for(mesh, r, (512, 512))) for r in (JointCRF(), None))
    print(f"temporaries of two images on each of eight H100s: {plain:.0f}, {with_crf:.0f} MiB")
    assert with_crf - plain < 1024
