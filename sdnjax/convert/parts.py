"""The part of a network that a table describes, checked to be of the kind that it knows."""

from __future__ import annotations

from typing import TypeVar

from flax import linen as nn

from sdnjax.errors import InputError

M = TypeVar("M", bound=nn.Module)


def part(model: nn.Module, name: str, kind: type[M]) -> M:
    """`model.backbone`, say, as the module that it must be for a format's names to fit.

    Raises: InputError if it is another one: a table for other networks was asked for.
    """
    found = getattr(model, name, None)
    if not isinstance(found, kind):
        raise InputError(
            f"it is for networks whose {name} is {kind.__name__}, "
            f"here it is {type(found).__name__}: name another table"
        )
    return found
