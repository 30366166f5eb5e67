"""Loops whose parts are sums over images talk to other devices after the loop, and once.

In the loop it costs a message in every turn, and processes on CPUs may exchange the loop's and
others in different orders. (SDC's own: `tests/ops/test_sdc_memory_and_sharding.py`.)
"""

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from sdnjax.losses import maskformer_loss
from sdnjax.models.refine.joint_crf import JointCRF
from sdnjax.planning.collectives import collectives

B, K, Q, L = 8, 3, 4, 2


def sums_of_gradient(function, *arguments):
    """(times, origin) of each sum over eight devices; arguments are (shape, split or whole)."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))

    def placed(argument):
        shape, dtype, spec = argument
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))

    with jax.set_mesh(mesh):
        step = jax.jit(jax.grad(function))
        hlo = step.lower(*map(placed, arguments)).compile().as_text()
    return [(one.times, one.origin) for one in collectives(hlo, 8) if one.kind == "all-reduce"]


def test_maskformer():
    def loss(masks, classes, labels):
        return maskformer_loss(classes, masks, labels)[0]

    found = sums_of_gradient(
        loss,
        ((L, B, Q, 4, 5), jnp.float32, P(None, "data")),
        ((L, B, Q, K + 1), jnp.float32, P(None, "data")),
        ((B, 9, 12), jnp.int32, P("data")),
    )
    assert all(times == 1 for times, _ in found), found


def test_joint_crf():
    crf = JointCRF(iterations=3)

    def loss(matrices, scores, picture):
        names = ("position", "bilateral", "compatibility")
        params = dict(zip(names, matrices, strict=True))
        return jnp.sum(crf.apply({"params": params}, scores, train=True, picture=picture) ** 2)

    found = sums_of_gradient(
        loss,
        ((3, K, K), jnp.float32, P()),
        ((B, 7, 4, K), jnp.float32, P("data")),
        ((B, 14, 11, 3), jnp.float32, P("data")),
    )
    assert found and all(times == 1 for times, _ in found), found
