"""Operations against hand counts, and against XLA's own where XLA counts."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from jax import lax
from jax.experimental import pallas as pl
from jax.sharding import PartitionSpec

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.models import Model
from sdnjax.models.cost import live, products
from sdnjax.ops.conv import conv
from sdnjax.ops.sdc.cost import KERNELS
from sdnjax.planning.operations import operations
from sdnjax.training.sharding import data_mesh

SIZE = (2, 12, 16, 8)


def counted(function, *arguments):
    return operations(live(jax.make_jaxpr(function)(*arguments)))


def convolution(x, kernel, **how):
    numbers = {"padding": "SAME", "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    return lax.conv_general_dilated(x, kernel, **{"window_strides": (1, 1), **numbers, **how})


# What is asked for, groups, stride → multiply-adds of one output.
LAYERS = {
    "plain": ({}, 1, 1),
    "dilated": ({"rhs_dilation": (2, 2)}, 1, 1),
    "strided": ({"window_strides": (2, 2)}, 1, 2),
    "grouped": ({"feature_group_count": 4}, 4, 1),
    "depthwise, strided": ({"feature_group_count": 8, "window_strides": (2, 2)}, 8, 2),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_convolution_and_its_two_gradients(layer):
    """Each gradient multiplies what the layer itself does."""
    how, groups, stride = LAYERS[layer]
    x, kernel = jnp.ones(SIZE), jnp.ones((3, 3, 8 // groups, 16))
    n, h, w, c = SIZE
    forward = 2 * n * (h // stride) * (w // stride) * 16 * 9 * c // groups

    def total(x, kernel):
        return jnp.sum(convolution(x, kernel, **how) ** 2)

    assert counted(total, x, kernel)["flops"] == forward
    assert counted(jax.grad(total, argnums=0), x, kernel)["flops"] == 2 * forward
    assert counted(jax.grad(total, argnums=(0, 1)), x, kernel)["flops"] == 3 * forward


def test_the_forms_of_accelerators_are_counted():
    """Not those that CPUs have of the same product, a matrix product for each tap."""
    x, kernel = jnp.ones(SIZE), jnp.ones((3, 3, 8, 16))

    def total(kernel):
        return jnp.sum(conv(x, kernel) ** 2)

    found = products(live(jax.make_jaxpr(jax.grad(total))(kernel)))
    assert {product.kind for product in found} == {"conv_general_dilated"}


def test_attention():
    """Queries by keys, weights by values."""
    q = jnp.ones((2, 10, 4, 8))

    def attend(q):
        return jax.nn.dot_product_attention(q, q, q)

    found = counted(attend, q)
    assert found["flops"] == 2 * (2 * 2 * 4 * 10 * 10 * 8)
    again = counted(jax.checkpoint(attend), q)
    assert again["flops"] == found["flops"]


def test_loops_count_as_often_as_they_run_and_say_if_nobody_knows():
    x = jnp.ones((5, 5))
    scanned = counted(lambda x: lax.scan(lambda c, _: (c @ c, None), x, length=7)[0], x)
    assert (scanned["flops"], scanned["uncertain_flops"]) == (7 * 250, 0)
    assert scanned["bytes"] == 7 * 3 * 100
    unknown = counted(lambda x: lax.while_loop(lambda c: c[0, 0] < 9, lambda c: c @ c, x), x)
    assert (unknown["flops"], unknown["uncertain_flops"]) == (250, 250)


def test_types_and_precision_are_told_apart():
    x, y = jnp.ones((4, 4)), jnp.ones((4, 4), jnp.bfloat16)

    def both(x, y):
        return x @ x + jnp.matmul(x, x, precision="highest"), y @ y

    by_dtype = counted(both, x, y)["flops_by_dtype"]
    assert by_dtype == {"float32": 128, "float32_exact": 128, "bfloat16": 128}


def test_what_nothing_needs_does_not_count():
    x = jnp.ones((4, 4))
    assert counted(lambda x: (x @ x, x)[1], x)["flops"] == 0


def test_devices_count_together():
    mesh = data_mesh(8)
    rows = PartitionSpec("data")
    product = jax.shard_map(
        lambda x: x @ jnp.ones((3, 5)), mesh=mesh, in_specs=rows, out_specs=rows
    )
    assert counted(product, jnp.ones((16, 3)))["flops"] == 2 * 16 * 3 * 5


def test_kernels_say_what_they_do_or_show_it_for_every_block():
    def body(x, y):
        y[...] = x[...] @ x[...]

    def run(x, **how):
        block = pl.BlockSpec((None, 4, 4), lambda i: (i, 0, 0))
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        blocks = {"grid": (6,), "in_specs": [block], "out_specs": block}
        return pl.pallas_call(body, shape, interpret=True, **blocks, **how)(x)

    x = jnp.ones((6, 4, 4))
    shown = counted(run, x)
    assert (shown["flops"], shown["uncertain_flops"]) == (6 * 128, 6 * 128)
    cost = pl.CostEstimate(flops=1000, bytes_accessed=0, transcendentals=0)
    said = counted(lambda x: run(x, cost_estimate=cost), x)
    assert (said["flops"], said["uncertain_flops"]) == (1000, 0)


def test_the_kernels_of_sdc():
    """R rows, T taps, C and N channels: each multiplies R·T·C·N."""
    rows, taps, c, n, parts = 100, 8, 16, 24, 3
    u, dy, factors = (rows, c), (rows, n), (taps, 2, rows)
    product = KERNELS["sdc_product"]([u, factors, (taps, c, n)], [(rows, n)])
    to_map = KERNELS["sdc_map_gradient"]([u, factors, dy, (taps, n, c)], [(1, taps, rows)])
    to_kernel = KERNELS["sdc_kernel_gradient"]([u, factors, dy], [(parts, taps, c, n)])
    assert product == to_map == to_kernel == rows * taps * c * n


def step_of(**how):
    """The step of a small network without loops, on shapes alone."""
    experiment = Experiment(
        model=Model("fcn_r18-d8"), data=Data(crop_size=(64, 64)), batch_size=4, **how
    )
    recipe = experiment.build(5)
    batch = {
        "image": jax.ShapeDtypeStruct((4, 64, 64, 3), jnp.float32),
        "label": jax.ShapeDtypeStruct((4, 64, 64), jnp.int32),
    }
    return recipe, recipe.abstract_state(), batch


def test_a_batch_in_parts_costs_the_same():
    totals = []
    for parts in (1, 4):
        recipe, state, batch = step_of(accumulate=parts)
        totals.append(counted(recipe.step, state, batch)["flops"])
    assert totals[0] == totals[1] > 0


class Small(nn.Module):
    """No loop and no border: XLA leaves out taps beyond the edge, and we do not."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(64, (3, 3), strides=2, padding="VALID")(x))
        x = nn.relu(nn.Conv(96, (1, 1), feature_group_count=2)(x))
        x = x.reshape(x.shape[0], -1, 96)
        return jnp.einsum("bnc,bmc->bnm", x, x) @ nn.Dense(32)(x)


def test_xla_counts_about_the_same_of_a_network_without_loops():
    """And also norms, activations and sums, some per cent here."""
    x = jnp.ones((2, 33, 33, 32))
    variables = Small().init(jax.random.key(0), x)

    def loss(variables):
        return jnp.sum(Small().apply(variables, x) ** 2)

    for function in (loss, jax.grad(loss)):
        ours = counted(function, variables)["flops"]
        theirs = jax.jit(function).lower(variables).cost_analysis()["flops"]
        assert ours < theirs < 1.05 * ours
