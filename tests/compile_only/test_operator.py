"""SDC compiled for accelerators: memory, registers, instructions, collectives."""

import os
import re
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from sdnjax.ops import semantic_difference_conv, which_implementation
from tests.compile_only.described import (
    collectives,
    compile_for,
    h100_mesh,
    needs_cuda,
    needs_tpu,
    temporaries,
    tpu_mesh,
)

SHAPES = [(16, 128, 128, 256), (16, 64, 64, 512), (16, 32, 32, 1024), (4, 64, 64, 2048)]


def operands(shape, dtype=jnp.bfloat16):
    features = jax.ShapeDtypeStruct(shape, dtype)
    return features, features, jax.ShapeDtypeStruct((3, 3, shape[-1], shape[-1]), dtype)


def convolution(u, v, kernel):
    del v
    return lax.conv_general_dilated(
        u, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def with_gradient(function):
    def both(*arguments):
        y, pullback = jax.vjp(function, *arguments)
        return y, pullback(y)

    return both


@needs_cuda
@pytest.mark.parametrize("shape", SHAPES)
def test_memory_on_h100(shape):
    mesh, arguments = h100_mesh(1), operands(shape)

    def mib(function):
        return temporaries(compile_for(mesh, function, *arguments, batch_size=shape[0]))

    with jax.set_mesh(mesh):
        assert which_implementation(arguments[0], arguments[2]) == "pallas_gpu"
    map_mib = arguments[0].size * 2 / 2**20
    assert mib(semantic_difference_conv) <= 64 + mib(convolution)
    gradient = mib(with_gradient(semantic_difference_conv))
    assert gradient <= 2 * map_mib + mib(with_gradient(convolution))


@needs_cuda
def test_eight_h100s_exchange_the_kernel_gradient_and_nothing_else():
    shape = (16, 33, 47, 64)
    compiled = compile_for(
        h100_mesh(8), with_gradient(semantic_difference_conv), *operands(shape), batch_size=16
    )
    assert "sdc_product" in compiled.as_text()
    found = collectives(compiled)
    assert found.pop("all-reduce") == 1
    assert not any(found.values()), found


KERNELS = """
import jax
from tests.compile_only import test_operator as t
shape = {shape}
t.compile_for(t.h100_mesh(1), t.with_gradient(t.semantic_difference_conv), *t.operands(shape),
              batch_size=shape[0])
"""


@needs_cuda
@pytest.mark.parametrize("shape", [(2, 32, 32, 256), (1, 97, 161, 48), (1, 15, 17, 200)])
def test_kernels_use_the_tensor_cores_and_spill_nothing(shape, request):
    """Two products, one gradient of the kernel, one of the maps."""
    done = subprocess.run(
        [sys.executable, "-c", KERNELS.format(shape=shape)],
        env=os.environ | {"MOSAIC_GPU_DUMP_PTX": "1", "MOSAIC_GPU_DUMP_PTXAS": "1"},
        cwd=request.config.rootpath,
        capture_output=True,
        text=True,
        check=True,
    )
    out = done.stdout + done.stderr
    for name in ("sdc_product", "sdc_kernel_gradient", "sdc_map_gradient"):
        assert f"Compiling entry function '{name}" in out
    resources = [line.strip() for line in out.splitlines() if "spill stores" in line]
    assert len(resources) >= 3
    assert set(resources) == {"0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads"}
    assert out.count("wgmma.mma_async.sync.aligned") >= 3 * 4
    assert "wgmma.mma_async instructions are serialized" not in out


@needs_tpu
@pytest.mark.parametrize("shape", SHAPES)
def test_memory_on_tpu_v5e(shape):
    """XLA's form: no patches there either."""
    mesh, arguments = tpu_mesh("v5e:2x2"), operands(shape)
    function = partial(semantic_difference_conv, implementation="xla")
    forward = compile_for(mesh, function, *arguments, batch_size=shape[0])
    gradient = compile_for(mesh, with_gradient(function), *arguments, batch_size=shape[0])
    map_mib = arguments[0].size * 2 / 2**20 / 4  # on each of four chips
    kernel_mib = arguments[2].size * 4 / 2**20  # its gradient is summed in float32
    assert temporaries(forward) <= map_mib
    assert temporaries(gradient) <= 2 * map_mib + kernel_mib
    found = collectives(gradient)
    assert found.pop("all-reduce") == 1
    assert not any(found.values()), found


KERNELS_ON_TPU = (
    "sdc_product",
    "sdc_kernel_gradient",
    "sdc_map_gradient",
    "squared_distances",
    "weighted_difference",
)


def check_kernels_on_tpu(topology, shape, dtype, columns=None, **options):
    """All kernels compile, and so fit next to the core; only the kernel's gradient is exchanged."""
    mesh, (features, guidance, kernel) = tpu_mesh(topology), operands(shape, dtype)
    size = options.pop("kernel_size", 3)
    kernel = jax.ShapeDtypeStruct((size, size, shape[3], columns or shape[3]), dtype)
    dilation = options.get("dilation", 1)
    with jax.set_mesh(mesh):
        choice = which_implementation(features, kernel, dilation=dilation)
    assert choice.startswith("pallas_tpu (")
    compiled = compile_for(
        mesh,
        with_gradient(partial(semantic_difference_conv, **options)),
        features,
        guidance,
        kernel,
        batch_size=shape[0],
    )
    hlo = compiled.as_text()
    calls = re.findall(r"%(\w+)[.\w]* = [^\n]* custom-call\([^\n]*\"tpu_custom_call\"", hlo)
    # The product serves the forward pass and the gradient of the features.
    assert sorted(calls) == sorted((*KERNELS_ON_TPU, "sdc_product"))
    found = collectives(compiled)
    assert found.pop("all-reduce") == 1
    assert not any(found.values()), found


@needs_tpu
@pytest.mark.parametrize("shape", [SHAPES[1], (8, 33, 47, 48)])
def test_kernels_on_tpu_v5e(shape):
    check_kernels_on_tpu("v5e:2x2", shape, jnp.bfloat16)


@needs_tpu
@pytest.mark.slow
@pytest.mark.parametrize("topology", ["v5p:2x2x1", "v6e:2x2"])
def test_kernels_on_later_tpus(topology):
    check_kernels_on_tpu(topology, SHAPES[1], jnp.bfloat16)


@needs_tpu
@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "dtype", "options"),
    [
        (SHAPES[3], jnp.bfloat16, {}),
        ((16, 16, 16, 2048), jnp.bfloat16, {}),
        ((8, 17, 19, 320), jnp.float32, {}),
        ((4, 64, 64, 2048), jnp.float32, {"columns": 512, "precision": "highest"}),
        ((4, 9, 300, 192), jnp.float32, {"boundary": "zeros", "columns": 96}),
        ((4, 65, 65, 128), jnp.bfloat16, {"kernel_size": 5, "dilation": 2}),
        ((4, 64, 64, 64), jnp.bfloat16, {"dilation": 4}),
    ],
)
def test_kernels_for_other_arguments_on_tpu_v5e(shape, dtype, options):
    check_kernels_on_tpu("v5e:2x2", shape, dtype, **options)
