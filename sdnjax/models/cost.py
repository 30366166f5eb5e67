"""The products of a traced computation: what is multiplied, how often, in which module.

XLA's own analysis reports nothing for GPUs and counts the body of a loop once; a trace says how
often each loop runs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from jax import lax
from jax.extend.core import jaxprs_in_params
from jax.interpreters import partial_eval

from sdnjax.ops.sdc.cost import KERNELS

# Scope of `sdnjax.ops.resize_bilinear`: interpolation, which nobody counts as multiply-adds.
RESIZE = "resize"


@dataclass(frozen=True)
class Product:
    """A convolution, a matrix product or a kernel made of them.

    Attributes:
      scope: the names of the modules around it, outermost first, and whatever `jax.named_scope`
        added.
      kind: the primitive, or a kernel's name.
      dtype: of what is multiplied; float32 at the highest precision is "float32_exact".
      multiply_adds: of one run.
      bytes: of its operands and its result, in one run.
      times: how often it runs.
      exact: False if it is in a loop whose number of turns no one knows before it has run, which
        counts as one, or a kernel that says nothing of its cost.
    """

    scope: tuple[str, ...]
    kind: str
    dtype: str
    multiply_adds: int
    bytes: int
    times: int
    exact: bool = True


def products(jaxpr: Any) -> list[Product]:
    """Everything that multiplies, as often as it runs.

    A scan counts as often as it runs, of a conditional the branch that costs most, of a choice by
    device that of accelerators; what is inside `shard_map` as often as there are devices, so that
    counts are those of all of them; a `while` loop once. A Pallas kernel counts what `KERNELS` or
    its `cost_estimate` says, or else its body for every block of its grid. Taps beyond an image's
    edge count like all others. What nobody uses counts as well; see `live`.
    """
    return list(_products(jaxpr, _Place((), 1, True)))


def multiply_adds(jaxpr: Any) -> Counter[tuple[str, ...]]:
    """Scope → multiply-adds of the products in it, as often as they run."""
    total: Counter[tuple[str, ...]] = Counter()
    for product in products(jaxpr):
        total[product.scope] += product.times * product.multiply_adds
    return total


def live(closed: Any) -> Any:
    """The jaxpr of a closed one without what its results do not need, as XLA leaves it out."""
    return partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))[0]


@dataclass(frozen=True)
class _Place:
    scope: tuple[str, ...]
    times: int
    exact: bool

    def inside(self, times: int = 1, exact: bool = True) -> _Place:
        return _Place(self.scope, self.times * times, self.exact and exact)


def _products(jaxpr: Any, outer: _Place) -> Iterator[Product]:
    for eqn in jaxpr.eqns:
        scope = outer.scope + tuple(s for s in str(eqn.source_info.name_stack).split("/") if s)
        place = _Place(scope, outer.times, outer.exact)
        name, params = eqn.primitive.name, eqn.params
        if name in _COUNTS:
            yield _product(eqn, place, name, _COUNTS[name](eqn))
        elif params.get("name") in KERNELS:
            shapes = [v.aval.shape for v in eqn.invars]
            cost = KERNELS[params["name"]](shapes, [v.aval.shape for v in eqn.outvars])
            yield _product(eqn, place, params["name"], cost)
        elif (estimate := params.get("cost_estimate")) is not None:
            yield _product(eqn, place, str(params.get("name", name)), estimate.flops // 2)
        elif name == "cond":
            branches = [list(_products(branch.jaxpr, place)) for branch in _branches(params)]
            yield from max(branches, key=lambda b: sum(p.times * p.multiply_adds for p in b))
        else:
            inside = place.inside(_runs(name, params), name not in ("while", *_OPAQUE))
            for inner in jaxprs_in_params(params):
                yield from _products(inner, inside)


def _branches(params: Any) -> list[Any]:
    """Of a choice by device, the forms that are for accelerators: CPUs have some of their own."""
    platforms = params.get("branches_platforms") or [None] * len(params["branches"])
    found = [b for b, p in zip(params["branches"], platforms, strict=True) if p != ("cpu",)]
    return found or params["branches"]


# Kernels whose bodies show less than they do, or more.
_OPAQUE = ("pallas_call", "mpmd_map", "core_map")


def _runs(name: str, params: Any) -> int:
    """How often what is inside an equation runs."""
    if name == "scan":
        return params["length"]
    if name == "shard_map":
        # Versions of JAX call it either.
        axes = params.get("newly_manual_axes", params.get("manual_axes", ()))
        return math.prod(params["mesh"].shape[axis] for axis in axes)
    if name == "pallas_call":
        grid = params["grid_mapping"].grid
        return math.prod(n for n in grid if isinstance(n, int))
    return 1


def _product(eqn: Any, place: _Place, kind: str, count: int) -> Product:
    nbytes = sum(
        math.prod(v.aval.shape) * v.aval.dtype.itemsize for v in (*eqn.invars, *eqn.outvars)
    )
    dtype = str(eqn.invars[0].aval.dtype)
    precision = eqn.params.get("precision")
    highest = precision in (lax.Precision.HIGHEST, (lax.Precision.HIGHEST,) * 2)
    dtype += "_exact" if dtype == "float32" and highest else ""
    return Product(place.scope, kind, dtype, count, nbytes, place.times, place.exact)


def _matrix_product(eqn: Any) -> int:
    (contracting, _), _ = eqn.params["dimension_numbers"]
    shape = eqn.invars[0].aval.shape
    outputs = math.prod(eqn.outvars[0].aval.shape)
    return outputs * math.prod(shape[i] for i in contracting)


def _convolution(eqn: Any) -> int:
    """One multiply-add per output, tap and input channel of its group."""
    kernel, numbers = eqn.invars[1].aval.shape, eqn.params["dimension_numbers"]
    _, in_features, *taps = (kernel[i] for i in numbers.rhs_spec)
    outputs = math.prod(eqn.outvars[0].aval.shape)
    # Of a dilated input (a transposed convolution) all but each n-th sample are zeros.
    zeros = math.prod(eqn.params["lhs_dilation"])
    return outputs * in_features * math.prod(taps) // zeros


_COUNTS: dict[str, Callable[[Any], int]] = {
    "conv_general_dilated": _convolution,
    "dot_general": _matrix_product,
}
