"""Foreign tensors by name: found inside what a checkpoint holds, their prefix removed.

Both are told by the names that a table wants. Where several answers fit, the caller must choose:
averaged weights beside others, a teacher beside a student.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from sdnjax.convert.array_like import LazyArray
from sdnjax.convert.inert_pickle import Opaque
from sdnjax.convert.words import quoted, shown
from sdnjax.errors import InputError

# Parts of names that wrappers of a module, or of a module inside it, put there; no table has them.
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
LONGEST = 300  # letters of a name
DEEPEST = 6  # mappings in mappings that are looked into
MOST_MAPPINGS = 100_000


class Found(NamedTuple):
    """A checkpoint's tensors under a table's names, not yet read, and what was done for it."""

    state: dict[str, Any]
    notes: list[str]


def find_tensors(
    content: Any,
    wanted: Collection[str],
    source: str,
    *,
    key: str | None = None,
    prefix: str | None = None,
) -> Found:
    """The tensors of a checkpoint that a table wants, and whatever lies beside them.

    Args:
      content: what a file holds: tensors by name, or mappings around them.
      wanted: the table's names.
      source: the file, for errors.
      key: the mapping that holds them, its keys joined by "."; "" for the whole content. None
        for the only one whose names fit.
      prefix: what stands before every name; None for the only one with which they fit.

    Raises:
      InputError: no tensors; several places or prefixes that fit; a key that is not there.
    """
    wanted = set(wanted)
    if not isinstance(content, Mapping):
        raise InputError(f"{source} holds {_kind(content)}, not tensors by name")
    places = dict(_mappings(content))
    if key is not None:
        if key not in places:
            known = ", ".join(quoted(k) for k in places) or "none"
            raise InputError(f"{source} has no tensors under {quoted(key)}; there are {known}")
        places = {key: places[key]}
    if not places:
        keys = ", ".join(quoted(k) for k in list(content)[:5])
        modules = [k for k, v in content.items() if isinstance(v, Opaque) and k != "optimizer"]
        hint = f": is {quoted(modules[0])} a whole module? Save its state_dict()" if modules else ""
        raise InputError(f"{source} holds no tensors by name; it has {keys or 'nothing'}{hint}")
    fits = {
        name: count_fitting(_unwrapped(state), wanted, prefix) for name, state in places.items()
    }
    # Averages that an optimizer keeps go by the weights' names; they are taken by --key alone.
    weights = [name for name in fits if "optim" not in name] or list(fits)
    best = max(weights, key=lambda name: (fits[name], -len(name)))
    rivals = [name for name in weights if 2 * fits[name] > fits[best]]
    if len(rivals) > 1:
        named = ", ".join(quoted(name) if name else "its top" for name in rivals[:6])
        raise InputError(
            f"{source} holds weights in several places, {named}: say which with the option --key"
        )
    if fits[best] == 0 and key is None:
        best = _usual(places)
    where = f"{source}: {quoted(best)}" if best else source
    state = {_name(k, source): v for k, v in places[best].items()}
    notes = [f"taken from {quoted(best)} in the file"] if best else []
    return _with_notes(_without_prefix(state, wanted, where, prefix), notes)


def tensor_names(content: Any) -> set[str]:
    """The names of all tensors, wherever in the checkpoint they are."""
    if not isinstance(content, Mapping):
        return set()
    return {name for _, state in _mappings(content) for name in state if isinstance(name, str)}


def find_state_dict(content: Any, source: str, key: str | None = None) -> dict[str, np.ndarray]:
    """Name → array, without a table: the mapping with the most numbers, all of them read."""
    if isinstance(content, Mapping) and key is None:
        places = dict(_mappings(content))
        if places:
            key = _usual(places)
    found = find_tensors(content, (), source, key=key, prefix="")
    return {name: as_array(x, f"{source}: {shown(name)}") for name, x in found.state.items()}


def strip_prefix(
    state: Mapping[str, Any], wanted: Iterable[str], source: str, prefix: str | None = None
) -> dict[str, Any]:
    """The state dict under the names of a table: without what stands before them."""
    return _without_prefix(dict(state), set(wanted), source, prefix).state


def as_array(value: Any, where: str) -> np.ndarray:
    """A tensor, of a file or in memory, as a NumPy array; bfloat16 becomes float32, exactly.

    Knows PyTorch's tensors by their methods, without importing it. InputError: it cannot be read.
    """
    if isinstance(value, Opaque):
        raise InputError(f"{where} is a tensor of a kind that is not read ({shown(value.name)})")
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":
            value = value.float()
        try:
            value = value.numpy()
        except (TypeError, RuntimeError) as error:
            raise InputError(f"{where} is no dense tensor ({error})") from None
    try:
        array = np.asarray(value)
    except InputError:
        raise
    except Exception as error:  # whatever a foreign file can do to a parser
        reason = f"{type(error).__name__}: {shown(str(error), 100)}"
        raise InputError(f"{where} cannot be read: it is damaged ({reason})") from None
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{where} holds {array.dtype}: only real numbers can be converted")
    return array


def _mappings(content: Mapping[Any, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tensors of each mapping that holds some itself, by its keys joined by "."."""
    stack: list[tuple[str, Mapping[Any, Any], int]] = [("", content, 0)]
    seen: set[int] = set()
    while stack and len(seen) < MOST_MAPPINGS:
        name, mapping, depth = stack.pop()
        if id(mapping) in seen:
            continue
        seen.add(id(mapping))
        tensors = {k: v for k, v in mapping.items() if _like(v)}
        if tensors:
            yield name, tensors
        inner = [(k, v) for k, v in mapping.items() if isinstance(v, Mapping)]
        if depth < DEEPEST:
            stack += [
                (f"{name}.{k}" if name else k, v, depth + 1)
                for k, v in reversed(inner)
                if isinstance(k, str) and len(k) <= LONGEST and k.isprintable()
            ]


def _usual(places: Mapping[str, Mapping[str, Any]]) -> str:
    """The place with the most numbers."""

    def size(name: str) -> int:
        return sum(math.prod(getattr(x, "shape", ())) for x in places[name].values())

    weights = [name for name in places if "optim" not in name] or list(places)
    return max(weights, key=lambda name: (size(name), -len(name)))


def count_fitting(names: Iterable[Any], wanted: set[str], prefix: str | None = None) -> int:
    """How many of the wanted names are there with the best prefix."""
    names = [n for n in names if isinstance(n, str) and len(n) <= LONGEST]
    if prefix is not None:
        return len(wanted.intersection(n.removeprefix(prefix) for n in names))
    removed, added = _prefixes(names, wanted), _prefixes(wanted, set(names))
    return max([0, *removed.values(), *added.values()])


def _prefixes(names: Iterable[str], targets: set[str]) -> Counter[str]:
    """Prefix → how many names are a target's behind it; prefixes end with "." or "/"."""
    found: Counter[str] = Counter()
    for name in names:
        if name in targets:
            found[""] += 1
        for i, letter in enumerate(name[:-1]):
            if letter in "./" and name[i + 1 :] in targets:
                found[name[: i + 1]] += 1
    return found


def _without_prefix(
    state: dict[str, Any], wanted: set[str], source: str, prefix: str | None
) -> Found:
    notes = []
    plain = _unwrapped(state)
    if plain.keys() != state.keys():
        parts = [w for w in WRAPPERS if any(w in name.split(".") for name in state)]
        notes.append(f"left out of names: {', '.join(parts)}")
    if len(plain) < len(state):
        raise InputError(f"{source} holds tensors both with and without {WRAPPERS[0]} in the name")
    state = plain
    adding = False
    if prefix is None:
        removed, added = _prefixes(state, wanted), _prefixes(wanted, set(state))
        counts = removed
        adding = max(added.values(), default=0) > max(removed.values(), default=0)
        if adding:
            counts = added
        prefix = max(counts, key=lambda p: (counts[p], -len(p)), default="")
        rivals = [p for p, n in removed.items() if 2 * n > counts[prefix]]
        if not adding:
            _check_twice(state, prefix, source)
        if len(rivals) > 1:
            named = " and ".join(quoted(p) if p else "no prefix" for p in rivals[:6])
            raise InputError(
                f"{source} holds the same names under {named}: say which with the option --prefix"
            )
    elif prefix and not any(name.startswith(prefix) for name in state):
        some = ", ".join(quoted(name) for name in list(state)[:3])
        raise InputError(f"{source}: no name begins with {quoted(prefix)}; there are {some}")
    if adding:
        whole = {prefix + n if prefix + n in wanted else n: x for n, x in state.items()}
        notes.append(f"prefix {quoted(prefix)} put before {counts[prefix]} names")
        return Found(whole, notes)
    if prefix:
        _check_twice(state, prefix, source)
        count = sum(name.startswith(prefix) for name in state)
        notes.append(f"prefix {quoted(prefix)} removed from {count} names")
    return Found({name.removeprefix(prefix): x for name, x in state.items()}, notes)


def _check_twice(state: Mapping[str, Any], prefix: str, source: str) -> None:
    """InputError if a name is there both with the prefix and without."""
    for name in state:
        if prefix and name.startswith(prefix) and name.removeprefix(prefix) in state:
            twice = name.removeprefix(prefix)
            raise InputError(f"{source} holds both {twice} and {name}: leave one of them out")


def _unwrapped(state: Mapping[str, Any]) -> dict[str, Any]:
    """Names without the parts that wrappers put into them."""
    return {
        ".".join(part for part in name.split(".") if part not in WRAPPERS)
        if isinstance(name, str) and any(w in name for w in WRAPPERS)
        else name: x
        for name, x in state.items()
    }


def _with_notes(found: Found, notes: list[str]) -> Found:
    return Found(found.state, [*notes, *found.notes])


def _name(key: Any, source: str) -> str:
    if not isinstance(key, str) or len(key) > LONGEST or not key.isprintable():
        raise InputError(f"{source} has a tensor without a printable name: {quoted(key)}")
    return key


def _like(value: Any) -> bool:
    """Arrays and tensors, not the scalars and lists that trainers save beside them."""
    if isinstance(value, LazyArray):
        return True
    tensor = isinstance(value, Opaque) and value.name.startswith("torch._utils._rebuild")
    return tensor or (hasattr(value, "shape") and hasattr(value, "dtype"))


def _kind(value: Any) -> str:
    if isinstance(value, Opaque):
        return f"a whole {shown(value.name)}"
    return f"a {type(value).__name__}"
