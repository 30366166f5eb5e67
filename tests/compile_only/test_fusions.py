"""Sums over channels are kernels of their own on GPUs, never part of a concatenation.

Drawn into one, a sum is added up by one thread for each pixel, and neighbouring threads read far
apart: on a GPU the similarities took longer than the products that they weight.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from sdnjax.losses.active_boundary import divergences
from sdnjax.ops import semantic_difference_conv
from sdnjax.ops.neighbours import neighbour_products, tap_offsets, weighted_difference
from sdnjax.ops.similarity import similarity_maps
from tests.compile_only.described import compile_for, h100_mesh, needs_cuda

OFFSETS = tap_offsets(3)
MAP = jax.ShapeDtypeStruct((2, 64, 64, 128), jnp.bfloat16)
WIDE = jax.ShapeDtypeStruct((2, 64, 64, 128), jnp.float32)
TAPS = jax.ShapeDtypeStruct((2, 64, 64, 9), jnp.float32)
KERNEL = jax.ShapeDtypeStruct((3, 3, 128, 128), jnp.float32)

FUNCTIONS = {
    "similarities": (partial(similarity_maps, kernel_size=3), MAP),
    "cosine": (partial(similarity_maps, kernel_size=3, similarity="cosine"), MAP),
    "difference": (lambda u, s: weighted_difference(u, s, OFFSETS), MAP, TAPS),
    "products": (lambda v: neighbour_products(v, OFFSETS), MAP),
    "divergences": (divergences, WIDE),
    "sdc": (semantic_difference_conv, MAP, MAP, KERNEL),
    "sdc in float32": (semantic_difference_conv, WIDE, WIDE, KERNEL),
}


@needs_cuda
@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_sum_within_a_concatenation(name):
    function, *arguments = FUNCTIONS[name]

    def with_gradient(*arguments):
        y, pullback = jax.vjp(function, *arguments)
        return y, pullback(y)

    text = compile_for(h100_mesh(1), with_gradient, *arguments, batch_size=0).as_text()
    computations = re.findall(r"^(?:ENTRY )?%[\w.-]+ \(.*?^}", text, re.MULTILINE | re.DOTALL)
    # A sum over the last axis that is concatenated later; what is summed may be a concatenation.
    sums = [one for one in computations if re.search(r" reduce\(.*dimensions=\{3\}", one)]
    assert sums
    drawn_in = [one for one in sums if " concatenate(" in one[one.index(" reduce(") :]]
    assert not drawn_in, "\n".join(drawn_in)
