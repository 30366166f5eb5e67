"""sdnjax: boundary-aware semantic segmentation in JAX.

    network = sdnjax.load("runs/camvid_fcn_r18_sdn")
    result = network("street.jpg")

Names are looked up when first used: importing this package imports nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdnjax import (
        convert,
        data,
        inference,
        losses,
        metrics,
        models,
        ops,
        training,
        visualize,
    )
    from sdnjax.commands.result import Result
    from sdnjax.commands.trained import Trained, load
    from sdnjax.errors import InputError, RunError
    from sdnjax.experiment import Experiment

__version__ = "0.1.0"
__all__ = [
    "Experiment",
    "InputError",
    "Result",
    "RunError",
    "Trained",
    "__version__",
    "convert",
    "data",
    "inference",
    "load",
    "losses",
    "metrics",
    "models",
    "ops",
    "training",
    "visualize",
]
_HOME = {
    "Experiment": "experiment",
    "InputError": "errors",
    "Result": "commands.result",
    "RunError": "errors",
    "Trained": "commands.trained",
    "load": "commands.trained",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
