"""How the step calls the network's parts: batch norms frozen or in groups, blocks recomputed.

Interceptors do it: no network knows of it, and every network has it, also one of your own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from flax import linen as nn

from sdnjax.errors import InputError
from sdnjax.models.layers import BatchNorm

Call = Callable[..., Any]
# Which modules are computed again in the backward pass instead of being kept.
Remat = Callable[[nn.Module], bool]


@dataclass(frozen=True)
class Calls:
    """What differs in training from a plain call of the network.

    Attributes:
      frozen: of a batch norm's path whether it uses its running statistics and keeps them.
      batch_norm_images: images of which a batch norm takes its statistics, consecutive ones of the
        batch; None: all of them.
      parameters: what the network is called with in the place of its parameters, such as the same
        without a gradient for what is frozen, which nothing then computes.
      remat: of a module whether what it computes is thrown away and computed again in the
        backward pass. Of modules within each other the outermost counts.
    """

    frozen: Callable[[str], bool] = lambda path: False
    batch_norm_images: int | None = None
    remat: Remat | None = None
    parameters: Callable[[Any], Any] = lambda params: params

    @contextlib.contextmanager
    def intercepted(self) -> Iterator[None]:
        """Within it modules are called so."""
        again = _Remat(self.remat) if self.remat is not None else _plainly
        with nn.intercept_methods(self._normalize), nn.intercept_methods(again):
            yield

    def _normalize(
        self,
        call: Call,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        module = context.module
        if isinstance(module, BatchNorm):
            if self.frozen("/".join(module.path)):
                return call(*arguments, **{**keywords, "train": False})
            keywords = {**keywords, "images": self.batch_norm_images}
        elif isinstance(module, nn.BatchNorm) and self.frozen("/".join(module.path)):
            if module.use_running_average is False:  # it would take no other word for it
                raise InputError(
                    f"{'/'.join(module.path)} is frozen, but Flax's "
                    "BatchNorm(use_running_average=…) trains: pass use_running_average when it is "
                    "called, or use sdnjax.models.layers.BatchNorm"
                )
            if module.use_running_average is None:
                arguments, keywords = arguments[:1], {**keywords, "use_running_average": True}
        return call(*arguments, **keywords)


PLAIN = Calls()


def _plainly(call: Call, arguments: Any, keywords: Any, context: Any) -> Any:
    del context
    return call(*arguments, **keywords)


class _Remat:
    """An interceptor that wraps calls of chosen modules in `nn.remat`."""

    def __init__(self, chosen: Remat) -> None:
        self._chosen = chosen
        self._inside = False

    def __call__(
        self,
        call: Call,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        module = context.module
        if self._inside or context.method_name != "__call__" or not self._chosen(module):
            return call(*arguments, **keywords)

        def again(module: Any, *arguments: Any) -> Any:
            # The module is a copy whose variables are those of the inner trace, so it is called
            # anew, through this interceptor.
            self._inside = True
            try:
                return module(*arguments, **keywords)
            finally:
                self._inside = False

        return nn.remat(again)(module, *arguments)
