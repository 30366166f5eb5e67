"""The plan of a recipe on a target, as one value that JSON can hold."""

from __future__ import annotations

from typing import Any

import jax

from sdnjax.planning.collectives import collectives, of_activations, totals
from sdnjax.planning.compiled import compile_for
from sdnjax.planning.devices import Target, described_mesh
from sdnjax.planning.memory import fits, memory_of, usable
from sdnjax.planning.operations import operations
from sdnjax.planning.roofline import roofline
from sdnjax.recipe import Recipe

CANNOT_KNOW = (
    "what reading and augmenting pictures takes",
    "which share of the peaks the real step reaches",
    "what fragments of memory are lost, and other programs on the device",
    "what XLA chooses when it can try kernels on the device (more or less temporaries)",
)


def plan_of(recipe: Recipe, target: Target, batch_size: int, steps: int) -> dict[str, Any]:
    """Memory, collectives, operations and the roofline of a recipe's step on a target.

    Without a compiled program, which a TPU's compiler refuses if it does not fit, what travels is
    not known, `collectives` is None, and so is the roofline.

    Raises: InputError for a compiler that is not installed.
    """
    mesh = described_mesh(target)
    step = compile_for(recipe, mesh, batch_size)
    memory = memory_of(step)
    counted = operations(step.jaxpr)
    sent, moved = None, []
    if step.executable is not None:
        found = collectives(step.executable.as_text(), mesh.size)
        sizes = {leaf.size for leaf in jax.tree.leaves(step.state)}
        sent, moved = totals(found), of_activations(found, sizes)
    return {
        "target": target.text,
        "device": target.device.name,
        "devices": target.count,
        "batch_size": batch_size,
        "images_per_device": batch_size // target.count,
        "image_size": list(recipe.image_size),
        "classes": recipe.num_classes,
        "memory": memory,
        "usable": usable(target.device),
        "fits": False if step.executable is None else fits(memory, target.device),
        "collectives": sent,
        "activations_moved": [
            {"kind": c.kind, "times": c.times, "bytes": c.bytes, "origin": c.origin} for c in moved
        ],
        "to_host": step.to_host,
        "operations": counted,
        "roofline": None if sent is None else roofline(target, counted, sent, steps),
        "steps": steps,
        "seconds_to_compile": round(step.seconds, 1),
        "jax": jax.__version__,
    }
