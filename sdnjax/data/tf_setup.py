"""Imports TensorFlow for the input pipeline: quiet, and without touching accelerators.

Import this before `tensorflow` or `tensorflow_datasets`. What the environment already says
is respected.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Nothing here gains from oneDNN, and without it results do not depend on the machine.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import contextlib
import functools

from sdnjax.errors import InputError

try:
    import tensorflow as tf
except ModuleNotFoundError:
    raise InputError(
        "reading data sets needs TensorFlow: pip install 'sdnjax[train]' (predicting and "
        "converting do without)"
    ) from None

# The accelerators belong to JAX; TensorFlow would reserve their memory. RuntimeError means
# that somebody initialised TensorFlow's devices before, which cannot be undone.
for _kind in ("GPU", "TPU"):
    with contextlib.suppress(RuntimeError, ValueError):
        tf.config.set_visible_devices([], _kind)

# The input pipeline's workers are parallel already; a second pool would only compete with them.
with contextlib.suppress(RuntimeError):
    tf.config.threading.set_intra_op_parallelism_threads(1)

# Nothing here needs AutoGraph, which fails on Python 3.13 with a warning for each function.
as_written = tf.autograph.experimental.do_not_convert


@functools.cache
def start_xla() -> None:
    """Compiles something small; call it before anything that TensorFlow is to compile.

    TensorFlow's XLA reads XLA_FLAGS at its first compilation and ends the process if it does
    not know one of them. They are meant for JAX's XLA, so they are out of sight meanwhile.
    """
    flags = os.environ.pop("XLA_FLAGS", None)
    try:
        tf.function(lambda x: x + 1, jit_compile=True, autograph=False)(tf.constant(1.0))
    finally:
        if flags is not None:
            os.environ["XLA_FLAGS"] = flags
