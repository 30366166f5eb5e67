"""Accelerators that are only described: what XLA compiles for, and the makers' figures.

A GPU is described by a text that XLA's compiler is given in its place; libtpu knows its own
devices. Both compile on a machine that has neither.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import math
import os
import re
from collections.abc import Mapping
from typing import Literal

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from sdnjax.errors import InputError, unknown

Platform = Literal["cuda", "tpu", "cpu"]

# The limits that GPUs since Ampere have in common.
_GPU = """
platform_name: "CUDA"
device_description_str: "{name}"
dnn_version_info {{ major: 9 minor: 8 }}
gpu_device_info {{
  cuda_compute_capability {{ major: {major} minor: 0 }}
  core_count: {cores}
  fpus_per_core: {fpus}
  clock_rate_ghz: {ghz}
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  shared_memory_per_core: {shared}
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: {shared_by_request}
  l2_cache_size: {l2}
  device_memory_size: {memory}
  memory_bandwidth: {bandwidth}
}}
"""


@dataclasses.dataclass(frozen=True)
class Device:
    """One kind of accelerator.

    Attributes:
      name: of the product.
      platform: what compiles for it.
      description: of a GPU, the text that XLA is given in its place; for TPUs "".
      memory: bytes that a program can address; 0 if it is not known.
      usable: the share of them that a step may take.
      usable_because: where the share comes from, for people.
      peak: operand type → FLOP/s of dense products: "bfloat16", "float32" as JAX multiplies it by
        default, "float32_exact" at the highest precision.
      bandwidth: bytes/s of its memory.
      link: bytes/s that it sends to others of its host (a TPU: of its slice), in one direction.
      link_between_hosts: bytes/s for each device to other hosts, in one direction.
      per_host: devices of one host, at most.
      source: of the figures.
    """

    name: str
    platform: Platform
    description: str = ""
    memory: int = 0
    usable: float = 1.0
    usable_because: str = ""
    peak: Mapping[str, float] = dataclasses.field(default_factory=dict)
    bandwidth: float = 0.0
    link: float = 0.0
    link_between_hosts: float = 0.0
    per_host: int = 8
    source: str = ""


_PREALLOCATED = "what JAX preallocates; XLA_PYTHON_CLIENT_MEM_FRACTION=0.9 raises it"


def _tpu(name: str, *, gib: float, tflops: float, gb: float, link: float) -> Device:
    """A TPU multiplies bfloat16: float32 in one pass by default and in six at the highest
    precision. Of its memory libtpu keeps about a quarter of a GiB (v5e: 15.75 of 16 are left)."""
    peaks = {"bfloat16": tflops, "float32": tflops, "float32_exact": tflops / 6}
    return Device(
        name,
        "tpu",
        memory=int(gib * 2**30),
        usable=1 - 0.25 / gib,
        usable_because="libtpu keeps a quarter of a GiB",
        peak={kind: 1e12 * value for kind, value in peaks.items()},
        bandwidth=gb * 1e9,
        link=link * 1e9,
        link_between_hosts=link * 1e9,
        per_host=0,
        source=f"Google Cloud's page on {name}",
    )


DEVICES: dict[str, Device] = {
    "h100": Device(
        "NVIDIA H100 80GB HBM3",
        "cuda",
        _GPU.format(
            name="NVIDIA H100 80GB HBM3",
            major=9,
            cores=132,
            fpus=128,
            ghz=1.98,
            shared=233472,
            shared_by_request=232448,
            l2=52428800,
            memory=84942979072,
            bandwidth=3352320000000,
        ),
        memory=84942979072,
        usable=0.75,
        usable_because=_PREALLOCATED,
        # Float32 is rounded to TF32 for the tensor cores; at the highest precision it is not.
        peak={"bfloat16": 989.4e12, "float16": 989.4e12, "float32": 494.7e12}
        | {"float32_exact": 66.9e12},
        bandwidth=3.35e12,
        link=450e9,
        link_between_hosts=50e9,
        source="NVIDIA's data sheet of the H100 SXM, without sparsity; hosts: DGX H100, one port "
        "of 400 Gbit/s for each GPU",
    ),
    "a100": Device(
        "NVIDIA A100-SXM4-80GB",
        "cuda",
        _GPU.format(
            name="NVIDIA A100-SXM4-80GB",
            major=8,
            cores=108,
            fpus=64,
            ghz=1.41,
            shared=167936,
            shared_by_request=166912,
            l2=41943040,
            memory=85100068864,
            bandwidth=2039040000000,
        ),
        memory=85100068864,
        usable=0.75,
        usable_because=_PREALLOCATED,
        peak={"bfloat16": 312e12, "float16": 312e12, "float32": 156e12, "float32_exact": 19.5e12},
        bandwidth=2.039e12,
        link=300e9,
        link_between_hosts=25e9,
        source="NVIDIA's data sheet of the A100 SXM, without sparsity; hosts: DGX A100, one port "
        "of 200 Gbit/s for each GPU",
    ),
    # Of the documented bidirectional bandwidth of all of a chip's links, one direction.
    "v5e": _tpu("TPU v5e", gib=16, tflops=197, gb=819, link=200),
    "v5p": _tpu("TPU v5p", gib=95, tflops=459, gb=2765, link=600),
    "v6e": _tpu("TPU v6e", gib=32, tflops=918, gb=1638, link=400),
    "cpu": Device("this machine's CPU, for trying the command out", "cpu"),
}


@dataclasses.dataclass(frozen=True)
class Target:
    """Devices to plan for.

    Attributes:
      text: as it was given, `h100:4x8`.
      device: their kind.
      shape: of GPUs hosts × GPUs on each, of TPUs the sides of a slice, of CPUs their number.
    """

    text: str
    device: Device
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Devices in all."""
        return math.prod(self.shape)

    @property
    def hosts(self) -> int:
        """How many machines; 1 where links do not depend on it."""
        return self.shape[0] if self.device.platform == "cuda" else 1


def parse_target(text: str) -> Target:
    """`h100:8`, `h100:4x8` (4 hosts of 8 GPUs), `v5e:8x8` (a slice), `cpu:2`.

    Raises: InputError for what is none of them.
    """
    name, colon, size = text.lower().partition(":")
    if name not in DEVICES:
        raise unknown("--target: no description of the device", name, DEVICES)
    device = DEVICES[name]
    wanted = {"cuda": "8 or 4x8, hosts x GPUs", "tpu": "2x2 or 4x4x4, a slice", "cpu": "2"}
    if not colon or not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", size):
        raise InputError(f"--target must be {name}:SHAPE with {wanted[device.platform]}")
    shape = tuple(int(side) for side in size.split("x"))
    if device.platform == "cuda":
        shape = (1, *shape) if len(shape) == 1 else shape
        if len(shape) > 2 or shape[1] > device.per_host:
            raise InputError(
                f"--target {text}: hosts have up to {device.per_host} GPUs: "
                f"{name}:8x8 is eight hosts of eight"
            )
    elif device.platform == "tpu":
        sides = 3 if name == "v5p" else 2
        if len(shape) != sides:
            raise InputError(
                f"--target {text}: a slice of {name} has {sides} sides, such as "
                f"{name}:{'x'.join(['2', '2', '1'][:sides])}"
            )
    elif len(shape) != 1:
        raise InputError(f"--target {text}: of CPUs give a number, such as cpu:2")
    return Target(text.lower(), device, shape)


def has_cuda_compiler() -> bool:
    """Whether XLA can compile for NVIDIA GPUs here, with or without one."""
    return bool(
        importlib.util.find_spec("jax_plugins")
        and importlib.util.find_spec("jax_plugins.xla_cuda13")
    )


def has_tpu_compiler() -> bool:
    """Whether XLA can compile for TPUs here, with or without one."""
    return importlib.util.find_spec("libtpu") is not None


def described_mesh(target: Target) -> Mesh:
    """The target's devices on the axis `data`; arrays cannot be put there.

    Raises: InputError where the compiler for them is not installed.
    """
    if target.device.platform == "cpu":
        return _mesh(_cpus(target.count))
    if target.device.platform == "tpu":
        return _mesh(_tpus(target.text))
    return _mesh(_gpus(target))


def compiler_options(mesh: Mesh) -> dict[str, bool | int]:
    """What XLA has to be told where the devices are not there to be tried."""
    if mesh.devices.flat[0].platform == "gpu":
        return {
            "xla_gpu_enable_triton_gemm": False,  # it finds no tiles for some products
            # Machine code that nothing runs is not optimised. Fusions, buffers and collectives are
            # settled before there is any.
            "xla_backend_optimization_level": 0,
        }
    return {}


def _mesh(devices: list[jax.Device]) -> Mesh:
    return Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))


def _gpus(target: Target) -> list[jax.Device]:
    if not has_cuda_compiler():
        raise InputError(
            f"--target {target.text}: XLA's compiler for GPUs is not here: "
            "`make plan-environment` sets up .venv-compile, which has it"
        )
    # There is no GPU whose versions could be checked.
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
    topology = "x".join(map(str, (1, *target.shape)))  # slices × hosts × GPUs
    return topologies.get_topology_desc(
        f"{target.text}_{topology}",
        platform="cuda",
        target_config=target.device.description,
        topology=topology,
    ).devices


@functools.cache
def _tpus(text: str) -> list[jax.Device]:
    if not has_tpu_compiler():
        raise InputError(
            f"--target {text}: libtpu is not here: `pip install libtpu`, or "
            "`make plan-environment`, which sets up .venv-compile"
        )
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    # libtpu lets one process use a chip; compiling uses none.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    return topologies.get_topology_desc(text, platform="tpu").devices


def _cpus(count: int) -> list[jax.Device]:
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise InputError(
            f"--target cpu:{count}: this machine shows {len(devices)}; set "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={count}"
        )
    return devices[:count]
