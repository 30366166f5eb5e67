"""What devices send each other in one step: read from the program that XLA has compiled."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Any

KINDS = (
    "all-reduce",
    "reduce-scatter",
    "all-gather",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
    "ragged-all-to-all",
)
# What moves numbers to where they were not, and does no sum of them.
MOVING = frozenset(KINDS) - {"all-reduce", "reduce-scatter"}

_COLLECTIVE = re.compile(rf"= (.*?) ({'|'.join(KINDS)})(-start)?\(")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-~]+) .*\{$")
_CALLED = re.compile(
    r"(body|condition|to_apply|calls|true_computation|false_computation|branch_computations)"
    r"=(\{[^}]*\}|%?[\w.\-~]+)"
)
_TURNS = re.compile(r'known_trip_count"?:\s*\{"?n"?:\s*"?(\d+)')
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+[a-z0-9]*)\[([\d,]*)\]")
_NAME = re.compile(r'op_name="([^"]*)"')


@dataclasses.dataclass(frozen=True)
class Collective:
    """One instruction.

    Attributes:
      kind: "all-reduce", ….
      sizes: the numbers in each array that it makes whole: the sum, the gathered array, what is
        scattered.
      bytes: of these.
      times: how often it runs in a step.
      exact: False if it is in a loop whose turns XLA does not name, which count as one.
      origin: the traced operation that it comes from.
    """

    kind: str
    sizes: tuple[int, ...]
    bytes: int
    times: int
    exact: bool
    origin: str


def collectives(hlo: str, devices: int = 1) -> list[Collective]:
    """The collectives of a program, `executable.as_text()`, each as often as it runs.

    `devices` take part in each; it makes of a scattered piece the whole.
    """
    lines = dict(_computations(hlo))
    entry = next(name for name, (is_entry, _) in lines.items() if is_entry)
    runs: dict[str, list[tuple[int, bool]]] = defaultdict(list)
    _walk(entry, 1, True, lines, runs)
    found = []
    for name, places in runs.items():
        for line in lines[name][1]:
            match = _COLLECTIVE.search(line)
            if match is None:
                continue
            arrays = _arrays(match[1], match[2], bool(match[3]), devices)
            origin = _NAME.search(line)
            found.append(
                Collective(
                    match[2],
                    tuple(size for size, _ in arrays),
                    sum(size * width for size, width in arrays),
                    sum(times for times, _ in places),
                    all(exact for _, exact in places),
                    origin[1] if origin else "",
                )
            )
    return found


def of_activations(found: Collection[Collective], state_sizes: Collection[int]) -> list[Collective]:
    """Those that move what is no leaf of the state: activations travel.

    Leaves are known by their numbers, since XLA is free to turn and flatten them.
    """
    known = set(state_sizes)
    return [c for c in found if c.kind in MOVING and any(size not in known for size in c.sizes)]


def totals(found: Collection[Collective]) -> dict[str, dict[str, Any]]:
    """Kind → how many run in a step, their bytes, and whether both are certain."""
    result: dict[str, dict[str, Any]] = {}
    for kind in KINDS:
        own = [c for c in found if c.kind == kind]
        if own:
            result[kind] = {
                "count": sum(c.times for c in own),
                "bytes": sum(c.times * c.bytes for c in own),
                "exact": all(c.exact for c in own),
            }
    return result


def _computations(hlo: str) -> Iterator[tuple[str, tuple[bool, list[str]]]]:
    """Name → whether it is the entry, and the lines of its body."""
    name, is_entry, body = "", False, []  # type: str, bool, list[str]
    for line in hlo.splitlines():
        if not line.startswith(" ") and (start := _COMPUTATION.match(line)):
            name, is_entry, body = start[2], bool(start[1]), []
        elif line.startswith("}") and name:
            yield name, (is_entry, body)
            name = ""
        elif name:
            body.append(line)


def _walk(name: str, times: int, exact: bool, lines: Any, runs: Any) -> None:
    runs[name].append((times, exact))
    for line in lines[name][1]:
        if not any(word in line for word in ("body=", "calls=", "to_apply=", "computation")):
            continue
        turns, known = 1, True
        if " while(" in line:
            named = _TURNS.search(line)
            turns, known = (int(named[1]), True) if named else (1, False)
        for _, called in _CALLED.findall(line):
            for inner in re.findall(r"[\w.\-~]+", called):
                if inner in lines:
                    _walk(inner, times * turns, exact and known, lines, runs)


def _arrays(shape: str, kind: str, start: bool, devices: int) -> list[tuple[int, int]]:
    """Numbers and bytes of each of the arrays that an instruction makes whole."""
    arrays = [
        (math.prod(int(n) for n in sides.split(",") if n), _width(kind_of))
        for kind_of, sides in _ARRAY.findall(shape)
    ]
    if start and kind in ("all-gather", "collective-permute", "all-to-all"):
        # The result names what it was given before what it makes, and a word of bookkeeping.
        arrays = [a for a in arrays if a[0] > 1] or arrays
        arrays = arrays[len(arrays) // 2 :]
    if kind == "reduce-scatter":
        arrays = [(size * devices, width) for size, width in arrays]
    return arrays


def _width(kind: str) -> int:
    """Bytes of one number: f32, bf16, f8e4m3fn, s32, pred."""
    bits = re.search(r"\d+", kind)
    return max(1, int(bits[0]) // 8) if bits else 1
