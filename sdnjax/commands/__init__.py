"""What the scripts of the root do."""

import importlib.util
import sys

# A script started with another Python than that of its environment says so in one line.
if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(f"error: sdnjax needs Python 3.11 or later, not {sys.version.split()[0]}")
for _package in ("numpy", "jax", "flax", "optax", "orbax", "PIL", "tqdm"):
    if importlib.util.find_spec(_package) is None:
        sys.exit(
            f"error: {_package} is not installed for {sys.executable}: use the environment that "
            "`make demo` or `make test` has made (source .venv/bin/activate), or install the "
            "library into this one (pip install -e .)"
        )
