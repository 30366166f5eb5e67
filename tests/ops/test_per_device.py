"""`per_device`: what runs the kernels on several devices and under `vmap`."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from sdnjax.ops.per_device import per_device
from tests.ops.oracles import arrays

# Functions of whole batches that no partitioner could see through if they were kernels.
IMAGEWISE = "b h w i, b h w k, t i o -> b h w o"
SUMMED = "b h w i, b h w o -> t i o"


def imagewise(x, maps, kernel):
    weighted = jnp.cumsum(x, axis=1) * jnp.sum(maps, axis=3, keepdims=True)
    return jnp.einsum("bhwi,tio->bhwo", weighted, kernel)


def summed(x, dy):
    return jnp.einsum("bhwi,bhwo->io", jnp.cumsum(x, axis=1), dy)[None]


@pytest.fixture
def problem():
    x, maps, kernel, dy = map(
        jnp.asarray,
        arrays((8, 3, 5, 4), (8, 3, 5, 9), (2, 4, 6), (8, 3, 5, 6), dtype=np.float32),
    )
    return {"image": (imagewise, IMAGEWISE, (x, maps, kernel)), "sum": (summed, SUMMED, (x, dy))}


@pytest.mark.parametrize("kind", ["image", "sum"])
@pytest.mark.parametrize("axes", [("data",), ("host", "data")])
@pytest.mark.parametrize("by_mesh", [False, True])
def test_every_device_works_on_its_own_images(problem, kind, axes, by_mesh):
    function, rule, arguments = problem[kind]
    shape = (8,) if len(axes) == 1 else (2, 4)
    mesh = jax.make_mesh(shape, axes, axis_types=(AxisType.Auto,) * len(axes))
    batch, everywhere = NamedSharding(mesh, P(axes)), NamedSharding(mesh, P())
    placed = [jax.device_put(a, batch if a.shape[0] == 8 else everywhere) for a in arguments]

    run = per_device(function, rule, summed=kind == "sum", by_mesh=by_mesh)
    with jax.set_mesh(mesh) if by_mesh else contextlib.nullcontext():
        compiled = jax.jit(run).lower(*placed).compile()
    result, hlo = compiled(*placed), compiled.as_text()
    np.testing.assert_allclose(result, function(*arguments), rtol=1e-5, atol=1e-5)
    for collective in ("all-gather", "all-to-all", "collective-permute"):
        assert collective not in hlo
    assert hlo.count(" all-reduce(") == (1 if kind == "sum" else 0)
    assert result.sharding.is_equivalent_to(batch if kind == "image" else everywhere, result.ndim)


@pytest.mark.parametrize("kind", ["image", "sum"])
def test_operands_on_every_device_need_no_exchange(problem, kind):
    function, rule, arguments = problem[kind]
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    placed = [jax.device_put(a, NamedSharding(mesh, P())) for a in arguments]
    compiled = jax.jit(per_device(function, rule, summed=kind == "sum")).lower(*placed).compile()
    np.testing.assert_allclose(compiled(*placed), function(*arguments), rtol=1e-5, atol=1e-5)
    assert "all-reduce" not in compiled.as_text()


@pytest.mark.parametrize("kind", ["image", "sum"])
def test_a_mesh_that_does_not_divide_the_batch(problem, kind):
    """Two of four: every axis that does is used; without a mesh there is nothing to split."""
    function, rule, arguments = problem[kind]
    arguments = [a[:6] if a.shape[0] == 8 else a for a in arguments]
    run = per_device(function, rule, summed=kind == "sum", by_mesh=True)
    want = function(*arguments)
    np.testing.assert_allclose(jax.jit(run)(*arguments), want, rtol=1e-5, atol=1e-5)
    mesh = jax.make_mesh((2, 4), ("host", "data"), axis_types=(AxisType.Auto,) * 2)
    with jax.set_mesh(mesh):
        result = jax.jit(run)(*arguments)
    np.testing.assert_allclose(result, want, rtol=1e-5, atol=1e-5)
    if kind == "image":
        expected = NamedSharding(mesh, P("host"))
        assert result.sharding.is_equivalent_to(expected, result.ndim)


def test_vmap_joins_images_and_repeats_sums(problem):
    for kind, mapped in [
        ("image", (True, True, False)),
        ("image", (True, False, False)),
        ("image", (False, False, True)),
        ("image", (True, True, True)),
        ("sum", (True, True)),
        ("sum", (False, True)),
    ]:
        function, rule, arguments = problem[kind]
        axes = tuple(0 if m else None for m in mapped)
        stacked = [
            jnp.stack([a, 2 * a, a - 1]) if m else a for a, m in zip(arguments, mapped, strict=True)
        ]
        got = jax.vmap(per_device(function, rule, summed=kind == "sum"), in_axes=axes)(*stacked)
        want = jax.vmap(function, in_axes=axes)(*stacked)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
