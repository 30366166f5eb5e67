"""Every module call inside a network, in order, for inspection."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from flax import linen as nn

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """One call of a module.

    Attributes:
      path: "backbone/layer1_0/conv1"; "" is the network itself.
      module: bound while it was called; its attributes stay readable.
      inputs: positional arguments.
      output: what it returned.
      start: position in the order of beginnings; a list of calls is in the order of ends.
    """

    path: str
    module: nn.Module
    inputs: tuple[Any, ...]
    output: Any
    start: int


def record_calls(function: Callable[[], T]) -> tuple[T, list[Call]]:
    """Runs `function` and records the `__call__`s of all modules in it.

    Under `jit` the arrays are tracers: use them inside, or return them.
    """
    calls: list[Call] = []
    starts = itertools.count()

    def intercept(method: Any, args: tuple[Any, ...], kwargs: Any, context: Any) -> Any:
        if context.method_name != "__call__":
            return method(*args, **kwargs)
        start = next(starts)
        output = method(*args, **kwargs)
        calls.append(Call("/".join(context.module.path), context.module, args, output, start))
        return output

    with nn.intercept_methods(intercept):
        result = function()
    return result, calls
