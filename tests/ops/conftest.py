"""Every test of the operators runs without implicit promotion."""

import pytest


@pytest.fixture(autouse=True)
def _strict(strict_numerics):
    yield
