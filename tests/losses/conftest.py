"""Most of the time of these tests goes into compiling small programs."""

import jax
import pytest


@pytest.fixture(autouse=True)
def compilation():
    """XLA's own passes alone: LLVM's optimisations cost more than they save."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
