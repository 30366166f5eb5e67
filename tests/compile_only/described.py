"""Accelerators that are only described: XLA compiles for them on a machine that has none.

Nothing runs and nothing is timed. `make test-compile` sets up what is needed, an environment with
the CUDA plugin's compiler and libtpu.
"""

import contextlib
import importlib.util
import os

import jax
import numpy as np
import pytest
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

# What XLA asks a GPU for, as an H100 SXM answers.
H100 = """
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 minor: 8 }
gpu_device_info {
  cuda_compute_capability { major: 9 minor: 0 }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  shared_memory_per_core: 233472
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  l2_cache_size: 52428800
  device_memory_size: 84942979072
  memory_bandwidth: 3352320000000
}
"""


def has_cuda_compiler() -> bool:
    return bool(
        importlib.util.find_spec("jax_plugins")
        and importlib.util.find_spec("jax_plugins.xla_cuda13")
    )


def has_tpu_compiler() -> bool:
    return importlib.util.find_spec("libtpu") is not None


needs_cuda = pytest.mark.skipif(not has_cuda_compiler(), reason="needs the CUDA plugin")
needs_tpu = pytest.mark.skipif(not has_tpu_compiler(), reason="needs libtpu")


def h100_mesh(count: int) -> Mesh:
    """`count` H100s of one machine on the axis "data"."""
    from jax_plugins import xla_cuda13

    with contextlib.suppress(Exception):  # where it is registered already
        xla_cuda13.initialize()
    topology = f"1x1x{count}"
    described = topologies.get_topology_desc(
        f"h100_{topology}", platform="cuda", target_config=H100, topology=topology
    )
    return _mesh(described)


def tpu_mesh(topology: str) -> Mesh:
    """A TPU slice such as "v5e:2x2" on the axis "data"."""
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    return _mesh(topologies.get_topology_desc(topology, platform="tpu"))


def _mesh(described) -> Mesh:
    return Mesh(np.array(described.devices), ("data",), axis_types=(AxisType.Auto,))


def compile_for(mesh, function, *arguments, batch_size: int):
    """Compiles for a mesh; arrays whose first axis is the batch are split over it.

    Arguments are trees of arrays or `ShapeDtypeStruct`s.
    """

    def placed(x):
        is_batch = len(x.shape) > 0 and x.shape[0] == batch_size
        sharding = NamedSharding(mesh, PartitionSpec("data") if is_batch else PartitionSpec())
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    options = {}
    if mesh.devices.flat[0].platform == "gpu":
        # Without a GPU to try them on, XLA finds no tiles for some products.
        options["xla_gpu_enable_triton_gemm"] = False
    with jax.set_mesh(mesh):
        lowered = jax.jit(function).lower(*jax.tree.map(placed, arguments))
        return lowered.compile(compiler_options=options)


def temporaries(compiled) -> float:
    """MiB per device beside arguments and results."""
    return compiled.memory_analysis().temp_size_in_bytes / 2**20


def collectives(compiled) -> dict[str, int]:
    """How often each kind occurs."""
    hlo = compiled.as_text()
    kinds = ("all-gather", "all-to-all", "collective-permute", "reduce-scatter", "all-reduce")
    return {kind: hlo.count(f" {kind}(") + hlo.count(f" {kind}-start(") for kind in kinds}
