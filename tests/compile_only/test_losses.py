"""A loss holds no more arrays of K channels than it needs: compiled for one H100, not run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.losses import (
    ActiveBoundary,
    BoundaryWeighted,
    CrossEntropy,
    Dice,
    Focal,
    Lovasz,
    Ohem,
    Tversky,
)
from tests.compile_only.described import compile_for, h100_mesh, needs_cuda, temporaries

SHAPE = (2, 256, 256, 150)
# Arrays of B×H×W×K beside scores and gradient, at most.
MAPS = {
    CrossEntropy(): 0.1,
    CrossEntropy(class_weights=(1.0,) * 150, label_smoothing=0.1): 0.1,
    Ohem(): 0.1,
    Ohem(over="batch"): 0.1,
    Focal(): 0.1,
    Focal(activation="softmax"): 0.1,
    BoundaryWeighted(): 0.1,
    Tversky(): 0.1,
    Dice(activation="sigmoid"): 0.1,
    Dice(): 1.1,  # the probabilities
    Lovasz(): 2.2,  # class by class: what is ranked, and its slopes
    ActiveBoundary(): 1.2,  # the neighbours' probabilities
}


@needs_cuda
@pytest.mark.parametrize("loss", MAPS, ids=lambda loss: type(loss).__name__)
def test_memory_of_value_and_gradient(loss):
    def value(scores, labels):
        (mean,) = loss({"logits": scores}, {"label": labels}).values()
        return mean.value()

    scores = jax.ShapeDtypeStruct(SHAPE, jnp.float32)
    labels = jax.ShapeDtypeStruct(SHAPE[:3], jnp.int32)
    compiled = compile_for(h100_mesh(1), jax.value_and_grad(value), scores, labels, batch_size=2)
    assert temporaries(compiled) < MAPS[loss] * np.prod(SHAPE) * 4 / 2**20
