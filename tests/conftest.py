"""Settings that every test shares: CPU, eight virtual devices, no silent promotion."""

import importlib.util
import os
import signal

from tests.compiler import OLDER_EMITTERS

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Nothing is left behind, and nothing is found that another version compiled.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")
_given = os.environ.get("XLA_FLAGS", "")
_flags = ["xla_force_host_platform_device_count=8"]
# Tests compile much and compute little, so machine code is not optimised; its meaning is the same.
# `make test-slow` sets another level.
if "xla_backend_optimization_level" not in _given:
    _flags.append("xla_backend_optimization_level=0")
    if OLDER_EMITTERS:
        _flags.append("xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join(
    [_given, *(f"--{flag}" for flag in _flags if flag.partition("=")[0] not in _given)]
).strip()

# A shell's background job begins with Ctrl-C ignored, and so would all that it starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import jax  # noqa: E402
import pytest  # noqa: E402


def pytest_configure(config):
    """Before there are workers: mmengine imports yapf, whose first import in a home writes its
    grammar into the cache of the user, and a second process can read it half written."""
    if not hasattr(config, "workerinput") and importlib.util.find_spec("yapf"):
        importlib.import_module("yapf")


@pytest.fixture(scope="module", autouse=True)
def forget_compiled_functions():
    """What a file has compiled goes with it: whole runs would hold gigabytes of it."""
    yield
    jax.clear_caches()


@pytest.fixture
def strict_numerics():
    """No implicit dtype or rank promotion: what is multiplied is what was written."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture
def x64():
    """Float64 inside the test."""
    with jax.enable_x64(True):
        yield
