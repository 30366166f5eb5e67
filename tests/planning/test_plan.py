"""A recipe on virtual devices: memory by kind, what is sent, and what a divided state changes."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from sdnjax.data.data_settings import Data
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.losses.objective import Mean
from sdnjax.ops.per_device import over_mesh
from sdnjax.planning.compiled import _needed, compile_for
from sdnjax.planning.devices import Device, Target, described_mesh, parse_target
from sdnjax.planning.memory import fits, memory_of
from sdnjax.planning.plan import plan_of
from sdnjax.planning.report import format_plan
from sdnjax.training.sharding import fully_sharded

TARGET = parse_target("cpu:8")


class Wide(nn.Module):
    """Two convolutions and a batch norm; with `gathers`, features of all images on each device."""

    classes: int
    gathers: bool = False

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.Conv(64, (3, 3), use_bias=False)(x)
        x = nn.BatchNorm(use_running_average=not train)(x)
        if self.gathers and not self.is_initializing():
            everywhere = jax.sharding.PartitionSpec()
            x = jax.lax.with_sharding_constraint(jnp.sin(x), everywhere) + x
        return {"logits": nn.Conv(self.classes, (3, 3), use_bias=False)(nn.relu(x))}


def recipe_of(classes=32, gathers=False, **how):
    def network(k):
        return Wide(k, gathers)

    experiment = Experiment(model=network, data=Data(crop_size=(12, 16)), batch_size=16, **how)
    return experiment.build(classes)


@pytest.fixture(scope="module")
def plain():
    return plan_of(recipe_of(), TARGET, 16, steps=10)


def test_memory_by_kind(plain):
    weights = 4 * (9 * 3 * 64 + 9 * 64 * 32 + 2 * 64)
    memory = plain["memory"]
    assert memory["parameters"] == weights
    assert weights <= memory["optimizer"] <= weights + 16  # momentum and counts of steps
    assert memory["statistics"] == 4 * 2 * 64
    assert memory["batch"] == 2 * 12 * 16 * (3 + 1) * 4
    assert memory["temporaries"] > 2 * 12 * 16 * 64 * 4  # at least the features
    assert memory["results"] < 4096  # the state is donated
    assert memory["total"] == sum(v for k, v in memory.items() if k != "total")


def test_gradients_and_statistics_travel_and_nothing_else(plain):
    (kind,) = plain["collectives"]
    assert kind == "all-reduce" and plain["activations_moved"] == []
    gradients = 4 * (9 * 3 * 64 + 9 * 64 * 32 + 2 * 64)
    assert gradients < plain["collectives"][kind]["bytes"] < 1.1 * gradients
    assert (plain["fits"], plain["usable"], plain["roofline"]) == (None, None, None)


def test_an_average_and_a_divided_state():
    average = plan_of(recipe_of(ema_decay=0.9), TARGET, 16, steps=10)["memory"]
    divided = plan_of(recipe_of(state_sharding=fully_sharded), TARGET, 16, steps=10)
    kernel = 4 * 9 * 64 * 32
    assert average["statistics"] == 4 * 2 * 64 + average["parameters"]
    assert divided["memory"]["parameters"] == average["parameters"] - kernel + kernel // 8
    # Parameters are gathered; they are no activations.
    assert "all-gather" in divided["collectives"] and divided["activations_moved"] == []


def test_a_mesh_of_other_size_than_the_machine():
    """`fully_sharded` divides by the described devices."""
    mesh = described_mesh(parse_target("cpu:2"))
    step = compile_for(recipe_of(state_sharding=fully_sharded), mesh, 4)
    kernel = step.state.params["Conv_1"]["kernel"]
    assert kernel.sharding.shard_shape(kernel.shape) == (3, 3, 32, 32)
    assert memory_of(step)["batch"] == 2 * 12 * 16 * 4 * 4


def test_activations_that_travel_are_told_loudly():
    plan = plan_of(recipe_of(gathers=True), TARGET, 16, steps=10)
    assert any(one["bytes"] >= 16 * 12 * 16 * 64 * 4 for one in plan["activations_moved"])
    assert "WARNING: ACTIVATIONS TRAVEL: all-gather" in format_plan(plan, TARGET)
    json.dumps(plan)


def test_what_the_host_computes_is_left_out_and_said():
    """A client that only describes devices takes no function of this process."""

    def asks_the_host(outputs, batch):
        def of_device(scores):
            shape = jax.ShapeDtypeStruct(scores.shape[:1], jnp.float32)
            return jax.pure_callback(lambda x: x.sum((1, 2, 3)), shape, scores)

        scores = jax.lax.stop_gradient(outputs["logits"])
        weights = over_mesh(of_device, (True,), False)(scores)
        losses = jnp.mean(jnp.square(outputs["logits"]), axis=(1, 2, 3))
        return {"asked": Mean(jnp.sum(weights * losses), jnp.int32(len(losses)))}

    real = jax.pure_callback
    plan = plan_of(recipe_of(losses=(asks_the_host,)), TARGET, 16, steps=10)
    assert jax.pure_callback is real
    assert plan["to_host"] == 2 * 12 * 16 * 32 * 4 + 2 * 4
    assert "in a step, for what is computed there: left out" in format_plan(plan, TARGET)
    assert "left out" not in format_plan({**plan, "to_host": 0}, TARGET)


def test_a_device_that_is_too_small_and_one_that_is_not():
    speeds = {"peak": {"float32": 1e12}, "bandwidth": 1e12, "link": 1e9}
    limits = {"memory": 2**20, "usable": 0.5, "usable_because": "so it is"}
    small = Target("toy:8", Device("toy", "cpu", **limits, **speeds), (8,))
    plan = plan_of(recipe_of(), small, 16, steps=10)
    assert plan["fits"] is False and plan["usable"] == 2**19
    text = format_plan(plan, small)
    assert "DOES NOT FIT" in text and "50.0% of 1.00 MiB (so it is)" in text
    assert "10 steps: " in text and plan["roofline"]["collectives"] > 0
    total = plan["memory"]["total"]
    for memory, fitting in ((2 * total - 2, False), (2 * total, True)):
        assert fits(plan["memory"], dataclasses.replace(small.device, memory=memory)) is fitting


def test_a_batch_that_does_not_split():
    with pytest.raises(InputError, match="a batch of 12 does not split into 8 parts"):
        compile_for(recipe_of(), described_mesh(TARGET), 12)


def test_what_a_tpus_compiler_says_when_it_refuses():
    said = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.50G of 15.75G hbm."
    assert _needed(said) == int(20.5 * 2**30)
    assert _needed("INTERNAL: something else") is None
