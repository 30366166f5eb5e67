"""Foreign files by their ending."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sdnjax.errors import InputError


def read_file(path: str | Path) -> dict[str, Any]:
    """Not there yet."""
    raise InputError(f"{path}: files cannot be read yet; give load() a mapping of name → array")
