"""Configuration files: Python whose `config()` returns one dataclass of settings."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TypeVar

from sdnjax.errors import InputError

T = TypeVar("T")


def load_config(path: str | Path, cls: type[T]) -> T:
    """Runs a configuration file's `config()` and checks what it returns."""
    path = Path(path)
    if not path.is_file():
        known = sorted(str(p) for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
        listing = f"; {path.parent} has {', '.join(known)}" if known else ""
        raise InputError(f"no configuration file {path}{listing}")
    spec = importlib.util.spec_from_file_location(f"sdnjax_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is not a Python file: a configuration is one with a config()")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(getattr(module, "config", None)):
        raise InputError(f"{path} defines no config(): it must return one {cls.__name__}")
    result = module.config()
    if not isinstance(result, cls):
        raise InputError(f"{path}: config() returned {type(result).__name__}, not {cls.__name__}")
    return result
