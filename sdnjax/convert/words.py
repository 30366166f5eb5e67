"""Text out of foreign files, fit to be shown: on one line, without escapes, never long."""

from __future__ import annotations

from typing import Any


def shown(value: Any, most: int = 60) -> str:
    """Text, or a number's digits, with everything unprintable escaped and its middle left out.

    A file may hold megabytes in the place of a name, or instructions for a terminal.
    """
    if not isinstance(value, str):
        if isinstance(value, int) and value.bit_length() > 64:  # Python prints no huge ones
            return f"a number of {value.bit_length()} bits"
        value = repr(value) if isinstance(value, int | float | bytes | None) else _kind(value)
    if len(value) > 4 * most:
        value = value[: 2 * most] + "…" + value[-2 * most :]
    if not value.isprintable():
        value = "".join(
            c if c.isprintable() else c.encode("unicode_escape").decode() for c in value
        )
    if len(value) > most:
        value = value[: most - most // 3 - 1] + "…" + value[len(value) - most // 3 :]
    return value


def quoted(value: Any, most: int = 60) -> str:
    """`shown`, in quotation marks if it is text."""
    return f"'{shown(value, most)}'" if isinstance(value, str) else shown(value, most)


def sizes(shape: Any) -> str:
    """A shape as "(2, 3)"; of a long one, its beginning and how many axes it has."""
    shape = list(shape)
    if len(shape) > 8:
        return f"({', '.join(shown(n, 20) for n in shape[:4])}, … {len(shape)} axes)"
    inside = ", ".join(shown(n, 20) for n in shape)
    return f"({inside},)" if len(shape) == 1 else f"({inside})"


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"
