"""DifNet's train step compiled for accelerators: the paper's batch fits, and walks need no talk."""

import jax
import jax.numpy as jnp
import pytest

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.models import Model
from tests.compile_only.described import (
    collectives,
    compile_for,
    h100_mesh,
    needs_cuda,
    needs_tpu,
    temporaries,
    tpu_mesh,
)

BATCH = 16


def step_for(mesh, name, side, dtype="float32"):
    model = Model(name, dtype=dtype)
    recipe = Experiment(model=model, data=Data(crop_size=(side, side))).build(21)
    image = jax.ShapeDtypeStruct((BATCH, side, side, 3), jnp.float32)
    batch = {"image": image, "label": jax.ShapeDtypeStruct((BATCH, side, side), jnp.int32)}
    return compile_for(mesh, recipe.step, recipe.abstract_state(), batch, batch_size=BATCH)


def check_collectives(compiled):
    """Gradients and batch-norm statistics are summed; no rows of P or features travel."""
    found = collectives(compiled)
    assert found.pop("all-reduce") > 0
    assert not any(found.values()), found


@needs_cuda
def test_on_eight_h100s():
    check_collectives(step_for(h100_mesh(8), "difnet_r18-d8", 257))


@needs_tpu
def test_on_four_v5e_chips():
    check_collectives(step_for(tpu_mesh("v5e:2x2"), "difnet_r18-d8", 257))


@needs_cuda
@pytest.mark.slow
def test_the_papers_batch_fits_an_h100():
    """DifNet-101 at 16 crops of 321², float32."""
    mib = temporaries(step_for(h100_mesh(1), "difnet_r101-d8", 321))
    print(f"DifNet-101, 16 × 321²: {mib:.0f} MiB of temporaries")
    assert mib < 70 * 1024


@needs_tpu
@pytest.mark.slow
def test_the_papers_batch_fits_four_v5e_chips():
    """In bfloat16 four images for each of four chips of 16 GiB."""
    mib = temporaries(step_for(tpu_mesh("v5e:2x2"), "difnet_r101-d8", 321, "bfloat16"))
    print(f"DifNet-101, 16 × 321² on four chips: {mib:.0f} MiB of temporaries on each")
    assert mib < 14 * 1024
