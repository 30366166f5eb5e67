"""Foreign tensors by name: found inside what a checkpoint holds, their prefix removed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from sdnjax.convert.inert_pickle import Opaque
from sdnjax.errors import InputError

# Where trainers put the state dict, in the order in which they are looked for.
PLACES = ("state_dict", "model", "model_state_dict", "model_state")
PREFIXES = ("module.", "model.", "module.model.", "model.module.")


def find_state_dict(content: Mapping[str, Any], source: str) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint: in one of `PLACES`, or else at its top.

    Beside a state dict, whatever a trainer saved (settings, optimizer, logs) is left alone;
    within it, whatever is no tensor is too.
    """
    if not isinstance(content, Mapping):
        raise InputError(f"{source} holds a {type(content).__name__}, not tensors by name")
    for inside in (*(content.get(place) for place in PLACES), content):
        if isinstance(inside, Mapping):
            state = {k: v for k, v in inside.items() if _like(v)}
            if state:
                return {_name(k, source): as_array(v, f"{source}: {k}") for k, v in state.items()}
    keys = ", ".join(repr(k)[:50] for k in list(content)[:5])
    raise InputError(
        f"{source} holds no tensors, neither at its top nor under {', '.join(PLACES)}; "
        f"it has {keys or 'nothing'}"
    )


def strip_prefix(
    state: Mapping[str, np.ndarray],
    wanted: Iterable[str],
    source: str,
    more: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """The state dict under the names of a table: without the prefix that hides most of them.

    Wrappers put "module." (data parallel) or "model." before every name. Names without the
    prefix stay as they are. `more` prefixes are a table's own.
    """
    wanted = set(wanted)

    def renamed(prefix: str) -> list[str]:
        return [name.removeprefix(prefix) for name in state]

    best = max(("", *PREFIXES, *more), key=lambda prefix: len(wanted.intersection(renamed(prefix))))
    names = renamed(best)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{source} holds both {twice} and {best}{twice}: leave one of them out")
    return dict(zip(names, state.values(), strict=True))


def as_array(value: Any, where: str) -> np.ndarray:
    """An in-memory tensor as a NumPy array; bfloat16 becomes float32, which holds it exactly.

    Knows PyTorch's tensors by their methods, without importing it.
    """
    if isinstance(value, Opaque):
        raise InputError(f"{where} is a tensor of a kind that is not read ({value.name})")
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":
            value = value.float()
        try:
            value = value.numpy()
        except (TypeError, RuntimeError) as error:
            raise InputError(f"{where} is no dense tensor ({error})") from None
    array = np.asarray(value)
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{where} holds {array.dtype}: only real numbers can be converted")
    return array


def _name(key: Any, source: str) -> str:
    if not isinstance(key, str) or len(key) > 300 or not key.isprintable():
        raise InputError(f"{source} has a tensor without a printable name: {repr(key)[:50]}")
    return key


def _like(value: Any) -> bool:
    """Arrays and tensors, not the scalars and lists that trainers save beside them."""
    tensor = isinstance(value, Opaque) and value.name.startswith("torch._utils._rebuild")
    return tensor or (hasattr(value, "shape") and hasattr(value, "dtype"))
