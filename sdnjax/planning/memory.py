"""What a compiled step takes of one device's memory, by what it is for."""

from __future__ import annotations

import math
from typing import Any

import jax

from sdnjax.planning.compiled import CompiledStep
from sdnjax.planning.devices import Device

# Kinds in the order of the report: key → for people.
KINDS = {
    "parameters": "parameters",
    "optimizer": "optimizer's state",
    "statistics": "batch norm's statistics, average",
    "batch": "batch",
    "constants": "constants of the losses",
    "padding": "padding of these",
    "temporaries": "temporaries",
    "results": "results that replace nothing",
    "program": "program",
}


def memory_of(step: CompiledStep) -> dict[str, int]:
    """Kind → bytes on one device, and their `total`.

    `temporaries` are what XLA's schedule of the step needs at most at one time: activations kept
    for the backward pass, gradients, buffers of collectives. `padding` is what arguments take
    more than their numbers do. If the compiler refused the step, temporaries are what is left of
    the need that it named.
    """
    state = step.state
    found = {
        "parameters": _bytes(state.params),
        "optimizer": _bytes(state.opt_state) + _bytes(state.step),
        "statistics": _bytes(state.batch_stats) + _bytes(state.average),
        "batch": _bytes(step.batch),
        "constants": _bytes(step.constants),
    }
    named = sum(found.values())
    if step.executable is None:
        assert step.needed is not None
        return {**found, "temporaries": step.needed - named, "total": step.needed}
    said = step.executable.memory_analysis()
    found["padding"] = max(0, said.argument_size_in_bytes - named)
    found["temporaries"] = said.temp_size_in_bytes
    # The new state lies where the old one did.
    found["results"] = said.output_size_in_bytes - said.alias_size_in_bytes
    found["program"] = said.generated_code_size_in_bytes
    return {**found, "total": sum(found.values())}


def usable(device: Device) -> int | None:
    """Bytes of a device that a step may take; None if its memory is not known."""
    return int(device.memory * device.usable) if device.memory else None


def fits(memory: dict[str, int], device: Device) -> bool | None:
    """Whether a step fits; None if the device's memory is not known."""
    limit = usable(device)
    return None if limit is None else memory["total"] <= limit


def _bytes(tree: Any) -> int:
    """On one device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )
