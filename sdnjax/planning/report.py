"""A plan in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sdnjax.planning.devices import Target
from sdnjax.planning.memory import KINDS
from sdnjax.planning.plan import CANNOT_KNOW
from sdnjax.planning.roofline import UTILISATION


def format_plan(plan: Mapping[str, Any], target: Target) -> str:
    """The report of one plan."""
    return "\n".join(_lines(plan, target))


def format_variations(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of what was tried."""
    width = max(len(row["variation"]) for row in rows)
    lines = ["what takes less:"]
    for row in rows:
        verdict = {True: "fits", False: "does not fit", None: ""}[row["fits"]]
        lines.append(f"  {row['variation']:<{width}}  {size_of(row['total']):>10}  {verdict}")
    return "\n".join(line.rstrip() for line in lines)


def size_of(count: float) -> str:
    """Bytes for people."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count:.0f} B"


def _lines(plan: Mapping[str, Any], target: Target) -> Iterator[str]:
    height, width = plan["image_size"]
    yield (
        f"{target.text}: {plan['devices']} × {plan['device']}, batch {plan['batch_size']}, "
        f"{plan['images_per_device']} on each, {height}×{width}, {plan['classes']} classes"
    )
    yield from _memory(plan, target)
    yield from _collectives(plan)
    yield from _operations(plan)
    yield from _time(plan, target)
    yield "it cannot know:"
    yield from (f"  {line}" for line in CANNOT_KNOW)


def _memory(plan: Mapping[str, Any], target: Target) -> Iterator[str]:
    yield "memory of one device:"
    memory = plan["memory"]
    for kind, words in KINDS.items():
        if memory.get(kind):
            yield f"  {words:<34}{size_of(memory[kind]):>12}"
    yield f"  {'total':<34}{size_of(memory['total']):>12}"
    if plan["usable"] is None:
        yield "  this device's memory is not known"
        return
    device, share = target.device, memory["total"] / plan["usable"]
    yield (
        f"  {'fits' if plan['fits'] else 'DOES NOT FIT'}: {share:.0%} of {size_of(plan['usable'])},"
        f" {device.usable:.1%} of {size_of(device.memory)} ({device.usable_because})"
    )


def _collectives(plan: Mapping[str, Any]) -> Iterator[str]:
    if plan["to_host"]:
        yield (
            f"each device sends its host, and takes back, {size_of(plan['to_host'])} in a step, "
            "for what is computed there: left out"
        )
    if plan["collectives"] is None:
        yield "what devices send each other is not known: the compiler made no program"
        return
    yield "what devices send each other in a step:" + (" nothing" * (not plan["collectives"]))
    for kind, one in plan["collectives"].items():
        doubt = "" if one["exact"] else ", at least: in loops whose turns XLA does not name"
        yield f"  {kind:<20}{one['count']:>6} × {size_of(one['bytes']):>11} in all{doubt}"
    for moved in plan["activations_moved"]:
        yield (
            f"  WARNING: ACTIVATIONS TRAVEL: {moved['kind']} of {size_of(moved['bytes'])}, "
            f"{moved['times']} × in a step, of {moved['origin'] or 'unknown origin'}"
        )


def _operations(plan: Mapping[str, Any]) -> Iterator[str]:
    counted, devices = plan["operations"], plan["devices"]
    yield "operations of a step, products alone (norms, activations, resizing: none):"
    for dtype, flops in counted["flops_by_dtype"].items():
        words = dtype.replace("_exact", " at the highest precision")
        yield f"  {words:<34}{_flop(flops / devices):>12} on each device"
    yield f"  {'operands and results, at least':<34}{size_of(counted['bytes'] / devices):>12}"
    if counted["uncertain_flops"]:
        yield (
            f"  of these {_flop(counted['uncertain_flops'] / devices)} are in loops whose turns "
            "are not known before they run, counted once"
        )


def _time(plan: Mapping[str, Any], target: Target) -> Iterator[str]:
    found, device = plan["roofline"], target.device
    if found is None:
        yield "least time of a step: not known"
        return
    peaks = ", ".join(
        f"{kind.replace('_exact', ' exact')} {device.peak[kind] / 1e12:g}"
        for kind in plan["operations"]["flops_by_dtype"]
    )
    yield "least time of a step:"
    yield f"  products {_ms(found['compute'])} at peak (TFLOP/s: {peaks})"
    yield f"  memory {_ms(found['memory'])} at {device.bandwidth / 1e12:g} TB/s"
    yield f"  collectives {_ms(found['collectives'])} at {found['link'] / 1e9:g} GB/s around a ring"
    yield (
        f"  {_ms(found['lower'])} with collectives under the computation, {_ms(found['upper'])} "
        "after it"
    )
    low, high = (f"{share:.0%}" for share in UTILISATION)
    least, most = found["device_hours"]
    yield (
        f"  {plan['steps']} steps: {least:.3g} to {most:.3g} device-hours, if a run reaches {high} "
        f"to {low} of that speed, which is assumed"
    )
    yield f"  figures: {device.source}"


def _flop(count: float) -> str:
    for unit, size in (("TFLOP", 1e12), ("GFLOP", 1e9)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count / 1e6:.2f} MFLOP"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"
