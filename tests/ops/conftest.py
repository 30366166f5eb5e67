"""Every test of the operators runs without implicit promotion, and compiles in a hurry."""

import jax
import pytest


@pytest.fixture(autouse=True)
def _strict(strict_numerics):
    yield


@pytest.fixture(autouse=True)
def compilation():
    """Most of the time goes into compiling small programs: skip LLVM's optimisations.

    XLA's own passes run as ever. A module that measures programs overrides this fixture.
    """
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
