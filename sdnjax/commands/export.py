"""A trained network as a file that needs JAX alone: StableHLO, written and read by `jax.export`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import export
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

import sdnjax
from sdnjax.commands.trained import Trained
from sdnjax.errors import InputError
from sdnjax.files import write_atomically
from sdnjax.inference.exporting import segment_function
from sdnjax.inference.protocols import protocol_name

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
Size = tuple[int, int] | Literal["any"]
Batch = int | Literal["any"]

# Backbones halve a picture five times.
_LEAST = 32
# What tracing raises where Python must know a number that is a symbol.
_NEEDS_NUMBERS = (
    *(NotImplementedError, TypeError, jax.errors.InconclusiveDimensionOperation),
    *(jax.errors.ConcretizationTypeError, jax.errors.TracerBoolConversionError),
)


def export_network(
    network: Trained,
    out: str | Path,
    *,
    size: Size = "any",
    batch: Batch = 1,
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
    probabilities: bool = False,
    report: Callable[[str], None] = print,
) -> export.Exported:
    """Writes `out`, and beside it `out` + ".json", which says in words what is in it.

    The function in it takes pictures `[B, H, W, C]`, uint8 (float32 where there is a
    `data.value_range`), and returns `{"labels": [B, H, W]}`, uint8; its weights are in it.

    Args:
      network: predicts by its own protocol, which is part of what is written.
      size: height and width, or any of at least 32 pixels.
      batch: number of pictures, or any.
      platforms: that it runs on. Only what all of them have is used: no kernels of our own.
      probabilities: whether `probabilities [B, H, W, K]` is a second output.

    Raises: InputError for a protocol or a network that cannot be exported so, and for a file that
      is there.
    """
    out = Path(out)
    words = out.with_name(out.name + ".json")
    for file in (out, words):
        if file.exists():
            raise InputError(f"{file} is there: name another file")
    for platform in platforms:
        if platform not in PLATFORMS:
            raise InputError(f"unknown platform {platform!r}; there are {', '.join(PLATFORMS)}")
    exported = trace(
        network, size=size, batch=batch, platforms=platforms, probabilities=probabilities
    )
    data = exported.serialize()
    outputs = jax.tree.unflatten(exported.out_tree, list(map(str, exported.out_avals)))
    description = {
        "network": network.experiment.network_title,
        "protocol": protocol_name(network.experiment.evaluation),
        "input": str(exported.in_avals[0]),
        "outputs": outputs,
        "value_range": network.experiment.data.value_range,
        "platforms": list(platforms),
        "classes": list(network.classes),
        "palette": [list(colour) for colour in network.palette],
        "step": network.step,
        "versions": {"sdnjax": sdnjax.__version__, "jax": jax.__version__},
        "calling_convention": exported.calling_convention_version,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, bytes(data))
    write_atomically(words, json.dumps(description, indent=1) + "\n")
    report(
        f"{out}: {len(data) / 2**20:.1f} MiB for {', '.join(platforms)}; {exported.in_avals[0]} → "
        + ", ".join(f"{name} {what}" for name, what in outputs.items())
    )
    return exported


def trace(
    network: Trained,
    *,
    size: Size,
    batch: Batch,
    platforms: Sequence[str],
    probabilities: bool,
) -> export.Exported:
    """The exported function, in memory; see `export_network`."""
    experiment = network.experiment
    data = experiment.data
    segment = segment_function(
        network.network,
        jax.device_get(network.variables),
        experiment.evaluation,
        data.normalization,
        mirrored=network.mirrored,
        value_range=data.value_range,
        probabilities=probabilities,
    )
    pictures = jax.ShapeDtypeStruct(
        _shape(size, batch, data.channels), jnp.uint8 if data.value_range is None else jnp.float32
    )
    with jax.sharding.use_abstract_mesh(_anywhere(platforms)):
        try:
            return export.export(jax.jit(segment), platforms=tuple(platforms))(pictures)
        except _NEEDS_NUMBERS as error:
            reason = str(error).splitlines()[0].split(". ")[0][:160]
            if size == "any" or batch == "any":
                raise InputError(
                    f"{experiment.network_name} needs sizes that are known in advance ({reason}): "
                    "name them, --size HEIGHT,WIDTH --batch NUMBER"
                ) from error
            if isinstance(error, NotImplementedError):
                raise InputError(f"{experiment.network_name}: {reason}") from error
            raise


def _shape(size: Size, batch: Batch, channels: int) -> tuple[Any, ...]:
    if size != "any" and batch != "any":
        return batch, *size, channels
    height, width = ("h", "w") if size == "any" else size
    bounds = [f"h >= {_LEAST}", f"w >= {_LEAST}"] if size == "any" else []
    words = f"{'b' if batch == 'any' else batch}, {height}, {width}, {channels}"
    return tuple(export.symbolic_shape(words, constraints=bounds))


def _anywhere(platforms: Sequence[str]) -> AbstractMesh:
    """What is traced under it is for devices of the platforms, whatever there is here.

    Where there is more than one, `sdnjax.ops` take the forms that XLA has everywhere.
    """
    name = "cpu" if tuple(platforms) == ("cpu",) else "any"
    device = AbstractDevice(device_kind=name, num_cores=None, platform=name)
    return AbstractMesh((1,), ("data",), axis_types=(AxisType.Auto,), abstract_device=device)
