"""Compiled functions are kept on disk, so that the second start of a command is a quick one."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import jax

from sdnjax.data.cache import default_cache

_KEYS = ("compilation_cache_dir", "enable_compilation_cache")
_MOST_BYTES = 4 * 2**30  # what was used longest ago goes first
_LEAST_SECONDS = 0.2  # what compiles faster is not worth a file


def keep_compiled_functions() -> None:
    """Turns on JAX's compilation cache in `~/.cache/sdnjax/compiled`, unless the user has chosen a
    place (`JAX_COMPILATION_CACHE_DIR`) or wants none (`JAX_ENABLE_COMPILATION_CACHE=false`).

    Machine code for a CPU fits that kind of CPU alone, and homes are shared by machines of many
    kinds: each has a folder of its own. Where nothing can be written nothing is kept.
    """
    chosen, enabled = (jax.config.values[f"jax_{key}"] for key in _KEYS)
    if chosen or not enabled:
        return
    folder = default_cache() / "compiled" / _kind_of_cpu()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if not os.access(folder, os.W_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", _MOST_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)


def _kind_of_cpu() -> str:
    """A short name of the processor's features."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = [platform.processor()]
    features = next((line for line in lines if line.startswith(("flags", "Features"))), lines[0])
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:8]}"
