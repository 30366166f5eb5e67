"""Loops whose parts are sums over images talk to other devices after the loop, and once.

In the loop it costs a message in every turn, and processes on CPUs may exchange the loop's and
others in different orders. (SDC's own: `tests/ops/test_sdc_memory_and_sharding.py`.)
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from sdnjax.losses import maskformer, maskformer_loss
from sdnjax.models.refine.joint_crf import JointCRF
from sdnjax.planning.collectives import collectives

B, K, Q, L = 16, 3, 4, 2


def messages_of_gradient(function, *arguments):
    """What eight devices send each other; arguments are (shape, split or whole)."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))

    def placed(argument):
        shape, dtype, spec = argument
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))

    with jax.set_mesh(mesh):
        step = jax.jit(jax.grad(function))
        hlo = step.lower(*map(placed, arguments)).compile().as_text()
    return collectives(hlo, 8)


def check_sums_alone(found):
    """Nothing but sums, and none of them in a loop."""
    assert found
    assert all((one.kind, one.times) == ("all-reduce", 1) for one in found), found


def test_maskformer():
    def loss(masks, classes, labels):
        return maskformer_loss(classes, masks, labels)[0]

    found = messages_of_gradient(
        loss,
        ((L, B, Q, 4, 5), jnp.float32, P(None, "data")),
        ((L, B, Q, K + 1), jnp.float32, P(None, "data")),
        ((B, 9, 12), jnp.int32, P("data")),
    )
    check_sums_alone(found)


def test_each_device_matches_its_own_images(monkeypatch):
    solved = []
    solve = maskformer.linear_sum_assignment
    monkeypatch.setattr(
        maskformer, "linear_sum_assignment", lambda cost: solved.append(cost) or solve(cost)
    )
    rng = np.random.default_rng(0)
    cost, present = rng.normal(size=(L, B, Q, K)).astype(np.float32), rng.random((B, K)) > 0.3
    alone = maskformer.assign(cost, present)
    assert len(solved) == L * B
    solved.clear()
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    split = [NamedSharding(mesh, spec) for spec in (P(None, "data"), P("data"))]
    with jax.set_mesh(mesh):
        query = jax.jit(maskformer.assign)(*jax.device_put((cost, present), tuple(split)))
    assert query.sharding.spec[1] == "data"
    np.testing.assert_array_equal(query, alone)
    assert len(solved) == L * B


def test_joint_crf():
    crf = JointCRF(iterations=3)

    def loss(matrices, scores, picture):
        names = ("position", "bilateral", "compatibility")
        params = dict(zip(names, matrices, strict=True))
        return jnp.sum(crf.apply({"params": params}, scores, train=True, picture=picture) ** 2)

    found = messages_of_gradient(
        loss,
        ((3, K, K), jnp.float32, P()),
        ((B, 7, 4, K), jnp.float32, P("data")),
        ((B, 14, 11, 3), jnp.float32, P("data")),
    )
    check_sums_alone(found)
