"""Multiply-adds of a traced computation, by the module that asks for them."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from jax.extend.core import jaxprs_in_params

# Scope of `sdnjax.ops.resize_bilinear`: interpolation, which nobody counts as multiply-adds.
RESIZE = "resize"


def multiply_adds(jaxpr: Any) -> Counter[tuple[str, ...]]:
    """Scope → multiply-adds of the convolutions and matrix products in it.

    The scope is that of the traced operation: the names of the modules around it, outermost
    first, and whatever `jax.named_scope` added. A scan counts as often as it runs, of a
    conditional the branch that costs most; a `while` loop counts once.
    """
    total: Counter[tuple[str, ...]] = Counter()
    _count(jaxpr, (), 1, total)
    return total


def _count(jaxpr: Any, outer: tuple[str, ...], times: int, total: Counter[tuple[str, ...]]) -> None:
    for eqn in jaxpr.eqns:
        scope = outer + tuple(s for s in str(eqn.source_info.name_stack).split("/") if s)
        name = eqn.primitive.name
        if name == "conv_general_dilated":
            total[scope] += times * _convolution(eqn)
        elif name == "dot_general":
            (contracting, _), _ = eqn.params["dimension_numbers"]
            shape = eqn.invars[0].aval.shape
            products = math.prod(eqn.outvars[0].aval.shape)
            total[scope] += times * products * math.prod(shape[i] for i in contracting)
        elif name == "cond":
            branches: list[Counter[tuple[str, ...]]] = []
            for branch in eqn.params["branches"]:
                branches.append(Counter())
                _count(branch.jaxpr, scope, times, branches[-1])
            total.update(max(branches, key=lambda b: sum(b.values())))
        else:
            inner_times = times * eqn.params["length"] if name == "scan" else times
            for inner in jaxprs_in_params(eqn.params):
                _count(inner, scope, inner_times, total)


def _convolution(eqn: Any) -> int:
    """One multiply-add per output, tap and input channel of its group."""
    kernel, numbers = eqn.invars[1].aval.shape, eqn.params["dimension_numbers"]
    _, in_features, *taps = (kernel[i] for i in numbers.rhs_spec)
    outputs = math.prod(eqn.outvars[0].aval.shape)
    # Of a dilated input (a transposed convolution) all but each n-th sample are zeros.
    zeros = math.prod(eqn.params["lhs_dilation"])
    return outputs * in_features * math.prod(taps) // zeros
