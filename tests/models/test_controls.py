"""The controls of SDC: what each keeps of it, and what it takes away."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.commands.pictures import extra_inputs
from sdnjax.data.data_settings import Data
from sdnjax.errors import InputError
from sdnjax.models import Model, Neck
from sdnjax.models.necks.controls import (
    OracleNeck,
    mean_charbonnier,
    out_of_place,
    same_class,
    sum_charbonnier,
)
from sdnjax.models.necks.sdn import SDN
from sdnjax.ops import resize_nearest, semantic_difference_conv, similarity_maps

# One program: op by op, every primitive would be compiled on its own.
sdc = jax.jit(
    semantic_difference_conv, static_argnames=("similarity", "boundary", "implementation")
)


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def test_the_oracle_takes_s_from_the_labels():
    neck, stage = OracleNeck(), normal(0, 2, 6, 8, 4)
    label = jnp.asarray(np.random.default_rng(0).integers(0, 3, (2, 12, 16)))
    label = label.at[:, :2].set(-1)  # beyond the picture
    variables = neck.init(jax.random.key(1), (stage,), train=False, label=label)
    assert "log_scale" not in variables["params"]["sdn1"]
    _, kept = neck.apply(variables, (stage,), train=False, label=label, mutable=["intermediates"])
    grid = label[:, ::2, ::2].at[:, :1].set(255)[..., None].astype(jnp.float32)
    kernel = variables["params"]["sdn1"]["kernel"]
    expected = semantic_difference_conv(stage, grid, kernel, similarity=same_class)
    (y,) = kept["intermediates"]["sdn1"]["response"]
    np.testing.assert_allclose(y, expected, atol=1e-6)
    other = neck.apply(
        variables, (stage,), train=False, label=jnp.zeros_like(label), mutable=["intermediates"]
    )[1]["intermediates"]["sdn1"]["response"][0]
    assert np.abs(other - y).max() > 1e-3


def test_a_coarse_oracle_knows_places_as_well_as_the_next_stage():
    """Of a stage of 5×7, labels on 3×4: every second pixel's, twice."""
    stage, label = normal(0, 1, 5, 7, 4), jax.random.randint(jax.random.key(1), (1, 10, 14), 0, 3)
    fine, coarse = OracleNeck(), OracleNeck(coarser=2)
    variables = fine.init(jax.random.key(2), (stage,), train=False, label=label)
    small = resize_nearest(label[..., None], (3, 4))
    blocks = resize_nearest(small, (5, 7))[..., 0]  # labels that hold no more than that
    (y,) = coarse.apply(variables, (stage,), train=False, label=label)
    (same,) = fine.apply(variables, (stage,), train=False, label=blocks)
    np.testing.assert_array_equal(y, same)
    noise = jax.tree.map(lambda x: x + 0.1, variables)
    (other,) = fine.apply(noise, (stage,), train=False, label=label)
    assert np.abs(other - coarse.apply(noise, (stage,), train=False, label=label)[0]).max() > 1e-3


def test_an_oracle_may_stand_at_some_stages_alone():
    stages = tuple(normal(i, 1, 8 >> i, 6 >> i, 4) for i in range(3))
    label = jnp.zeros((1, 16, 12), jnp.int32)
    neck = OracleNeck(stages=(1, 3))
    variables = neck.init(jax.random.key(0), stages, train=False, label=label)
    assert sorted(variables["params"]) == ["sdn1", "sdn3"]
    noise = jax.tree.map(lambda x: x + 0.1, variables)
    found = neck.apply(noise, stages, train=False, label=label)
    same = [bool((a == b).all()) for a, b in zip(found, stages, strict=True)]
    assert same == [False, True, False]
    with pytest.raises(InputError, match=r"stages \(4,\) of the neck: the decoder reads 3"):
        OracleNeck(stages=(4,)).init(jax.random.key(0), stages, train=False, label=label)


def test_a_stage_may_guide_itself():
    made = Model("fpn_r18", neck=Neck("sdc", guidance="own", similarity="relative")).build(3).neck
    stages = tuple(normal(i, 1, 8 >> i, 6 >> i, 4) for i in range(3))
    variables = made.init(jax.random.key(0), stages, train=False)
    assert sorted(variables["params"]) == ["sdn1", "sdn2", "sdn3"]  # no Φ
    noise = jax.tree.map(lambda x: x + 0.1, variables)
    for i, y in enumerate(made.apply(noise, stages, train=False), start=1):
        own = SDN(similarity="relative").apply(
            {"params": noise["params"][f"sdn{i}"]}, stages[i - 1], stages[i - 1]
        )
        np.testing.assert_allclose(y, own, atol=1e-5)
    assert "guidance_channels" in Neck("sdc", guidance="own").unused()
    assert not Neck("sdc").unused() and "guidance" in Neck("conv").unused()


def test_a_picture_has_no_label_to_cheat_with():
    assert Model("fpn_r18", neck=OracleNeck()).build(3).inputs == ("label",)
    with pytest.raises(InputError, match="oracle that reads labels"):
        extra_inputs(("label",), np.zeros((4, 4, 3), np.uint8), Data())


def test_out_of_place_keeps_the_values_of_s_and_not_their_places():
    u, v, kernel = normal(0, 2, 6, 7, 3), normal(1, 2, 6, 7, 5), normal(2, 3, 3, 3, 4)
    moved = sdc(u, v, kernel, implementation=out_of_place)
    plain = sdc(u, v, kernel)
    assert np.abs(moved - plain).max() > 1e-2
    # Where all pixels have one S, it makes no difference which of them one has.
    still = sdc(u, v, kernel, similarity="constant", boundary="zeros", implementation=out_of_place)
    inside = sdc(u, v, kernel, similarity="constant")
    np.testing.assert_allclose(still, inside, atol=1e-5)
    gradient = jax.jit(jax.grad(lambda v: jnp.sum(sdc(u, v, kernel, implementation=out_of_place))))
    assert np.isfinite(gradient(v)).all()


def test_charbonnier_of_the_sum_and_of_the_mean():
    v = normal(3, 1, 5, 6, 4)
    ours, library = (
        similarity_maps(v, kernel_size=3, similarity=s) for s in (sum_charbonnier, "charbonnier")
    )
    np.testing.assert_allclose(ours, library, atol=1e-6)
    mean = similarity_maps(v, kernel_size=3, similarity=mean_charbonnier)
    np.testing.assert_allclose(mean, similarity_maps(v, kernel_size=3, scale=2.0), atol=1e-6)


def test_the_neck_serves_chosen_stages():
    neck = Neck("sdc", stages=(1, 3), guidance_channels=4)
    made = Model("fpn_r18", neck=neck).build(3).neck
    stages = tuple(normal(i, 1, 8 >> i, 8 >> i, 4) for i in range(4))
    variables = made.init(jax.random.key(0), stages, train=False)
    assert sorted(variables["params"]) == ["sdn1", "sdn3"]  # and no Φ, which stage 4 would need
    noise = jax.tree.map(lambda x: x + 0.1, variables)
    out = made.apply(noise, stages, train=False)
    assert [bool((a == b).all()) for a, b in zip(out, stages, strict=True)] == [
        *(False, True, False, True)
    ]
    with pytest.raises(InputError, match="the decoder reads 4, 1 to 4"):
        too_many = Model("fpn_r18", neck=dataclasses.replace(neck, stages=(5,))).build(3).neck
        too_many.init(jax.random.key(0), stages, train=False)


def test_the_fpn_can_be_slim():
    slim = Model("fpn_r18", fpn_channels=(8, 6)).build(3).decoder
    assert (slim.pyramid_channels, slim.channels) == (8, 6)
    assert Model("fcn_r18-d8").unused()["fpn_channels"]
