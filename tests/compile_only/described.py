"""Accelerators that are only described: XLA compiles for them on a machine that has none.

Nothing runs and nothing is timed. `make test-compile` sets up what is needed, an environment with
the CUDA plugin's compiler and libtpu.
"""

import jax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from sdnjax.planning.collectives import KINDS
from sdnjax.planning.collectives import collectives as instructions
from sdnjax.planning.devices import (
    compiler_options,
    described_mesh,
    has_cuda_compiler,
    has_tpu_compiler,
    parse_target,
)

needs_cuda = pytest.mark.skipif(not has_cuda_compiler(), reason="needs the CUDA plugin")
needs_tpu = pytest.mark.skipif(not has_tpu_compiler(), reason="needs libtpu")


def h100_mesh(count):
    """`count` H100s of one machine on the axis "data"."""
    return described_mesh(parse_target(f"h100:{count}"))


def tpu_mesh(slice_):
    """A TPU slice such as "v5e:2x2" on the axis "data"."""
    return described_mesh(parse_target(slice_))


def compile_for(mesh, function, *arguments, batch_size: int):
    """Compiles for a mesh; arrays whose first axis is the batch are split over it.

    Arguments are trees of arrays or `ShapeDtypeStruct`s.
    """

    def placed(x):
        is_batch = len(x.shape) > 0 and x.shape[0] == batch_size
        sharding = NamedSharding(mesh, PartitionSpec("data") if is_batch else PartitionSpec())
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    with jax.set_mesh(mesh):
        lowered = jax.jit(function).lower(*jax.tree.map(placed, arguments))
        return lowered.compile(compiler_options=compiler_options(mesh))


def temporaries(compiled) -> float:
    """MiB per device beside arguments and results."""
    return compiled.memory_analysis().temp_size_in_bytes / 2**20


def collectives(compiled) -> dict[str, int]:
    """How many instructions of each kind there are."""
    found = [one.kind for one in instructions(compiled.as_text())]
    return {kind: found.count(kind) for kind in KINDS}
