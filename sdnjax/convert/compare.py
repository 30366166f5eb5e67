"""Where two computations part: activations layer by layer, and trees of tensors by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict

from sdnjax.convert.rows import Row, to_ours
from sdnjax.errors import InputError, did_you_mean
from sdnjax.models.calls import record_calls
from sdnjax.models.inputs import abstract_inputs

AxisOrder = Literal["auto", "nchw", "nhwc"]


class Difference(NamedTuple):
    """One tensor there and here.

    `largest` is the largest absolute difference, `relative` that over the largest value
    there. Another shape, or values that are not finite, are infinitely far; `note` says so.
    `container`: the output of a module with layers inside, which the two sides may define
    otherwise (with or without a residual, an activation), though it holds the same tensors.
    """

    theirs: str
    ours: str
    largest: float
    relative: float
    note: str = ""
    container: bool = False


def compare_activations(
    model: nn.Module,
    variables: Any,
    rows: Sequence[Row],
    saved: Mapping[str, np.ndarray],
    images: np.ndarray,
    *,
    layout: AxisOrder = "auto",
    skipped: Callable[[str], None] | None = None,
) -> list[Difference]:
    """Runs the network in evaluation and compares what was saved elsewhere.

    Args:
      rows: of the table with which the network was converted.
      saved: name → array. A name is a module's path there ("backbone.layer1.0",
        "decode_head.convs.0.conv"), matched to ours by the parameters that both hold, or that
        of one of our outputs ("stage1", "logits"). Save copies, `output.detach().clone()`:
        a ReLU that works in place changes what it is given. For a network with extra inputs
        they are there too, under their own names ("superpixels", "picture").
      images: `[B, H, W, C]`, normalised.
      layout: of saved arrays with four axes; "auto" tells it by their shape.
      skipped: takes the names that are neither, such as those of a ReLU; None: they are errors.

    Returns the differences in the order in which the network computes.

    Raises:
      InputError: no name has a counterpart here, a layout that the shape does not tell, or an
        extra input that is missing.
    """
    extras = saved_inputs(model, saved, images)
    here, order = activations(model, variables, images, extras)
    others = {name: array for name, array in saved.items() if name not in extras}
    return match_activations(rows, here, order, others, layout=layout, skipped=skipped)


def match_activations(
    rows: Sequence[Row],
    here: Mapping[str, np.ndarray],
    order: Mapping[str, float],
    saved: Mapping[str, np.ndarray],
    *,
    layout: AxisOrder = "auto",
    skipped: Callable[[str], None] | None = None,
) -> list[Difference]:
    """`compare_activations` for what `activations` has computed."""
    modules = matching_modules(rows)
    found = []
    for name, array in saved.items():
        ours = modules[name] + "/" if modules.get(name, "") + "/" in here else name
        if ours not in here:
            if skipped is not None:
                skipped(name)
                continue
            raise _no_counterpart(name, modules, here)
        theirs = _as_ours(name, np.asarray(array), here[ours].shape, layout)
        found.append((order[ours], difference(name, ours.rstrip("/"), here[ours], theirs)))
    if not found:
        raise _no_counterpart(next(iter(saved), ""), modules, here)
    layers = _layers(rows)
    found = [
        (i, d._replace(container=d.theirs in modules and d.theirs not in layers)) for i, d in found
    ]
    return [d for _, d in sorted(found, key=lambda item: (item[0], item[1].container))]


def _no_counterpart(
    name: str, modules: Mapping[str, str], here: Mapping[str, np.ndarray]
) -> InputError:
    known = [*modules, *(k for k in here if not k.endswith("/"))]
    hint = did_you_mean(name, known, most=3)
    return InputError(f"{name!r} is no module of this format and no output here{hint}")


def spread(a: Mapping[str, Any], b: Mapping[str, Any], floor: float = 0.0) -> float:
    """The largest relative difference of two computations of the same arrays.

    `floor`: as in `compare_tensors`.
    """
    largest = max((float(np.abs(x).max(initial=0)) for x in b.values()), default=0.0)
    found = [
        difference(name, name, np.asarray(a[name]), np.asarray(b[name]), floor * largest).relative
        for name in a.keys() & b.keys()
    ]
    return max(found, default=0.0)


def compare_tensors(
    rows: Sequence[Row],
    ours: Mapping[str, Any],
    theirs: Mapping[str, np.ndarray],
    *,
    floor: float = 0.0,
) -> list[Difference]:
    """Parameters, gradients, or parameters after a step: trees under both sides' names.

    Args:
      ours: `{"params": …, "batch_stats": …}`, or a part of it.
      theirs: name → array in the foreign layout, as `{k: p.grad for k, p in
        module.named_parameters()}`.
      floor: a tensor with smaller values than this share of the largest one is measured by
        that; for gradients, of which some (of a bias before a batch norm) are zero but for
        rounding.

    Returns the differences of the tensors that both have, in the order of the table.

    Raises:
      InputError: they have no tensor in common.
    """
    leaves = flatten_dict(dict(ours), sep="/")
    common = [row for row in rows if row.variable in leaves and row.tensor in theirs]
    if not common:
        names = ", ".join(list(theirs)[:3])
        raise InputError(f"no tensor has a name of this format; there are {names}")
    largest = max(float(np.abs(theirs[row.tensor]).max(initial=0)) for row in common)
    differences = []
    for row in common:
        try:
            tensor = to_ours(row, np.asarray(theirs[row.tensor]))
        except (ValueError, IndexError):
            tensor = np.asarray(theirs[row.tensor])
        leaf = np.asarray(leaves[row.variable])
        differences.append(difference(row.tensor, row.variable, leaf, tensor, floor * largest))
    return differences


def difference(
    theirs: str, ours: str, here: np.ndarray, there: np.ndarray, least: float = 0.0
) -> Difference:
    """The distance of two arrays; relative to the largest value there, at least `least`."""
    if here.shape != there.shape:
        return Difference(theirs, ours, np.inf, np.inf, f"{there.shape} there, {here.shape} here")
    if not np.isfinite(here).all() or not np.isfinite(there).all():
        return Difference(theirs, ours, np.inf, np.inf, "not finite")
    kind = np.promote_types(np.result_type(here, there), np.float64)
    largest = float(np.abs(here.astype(kind) - there.astype(kind)).max(initial=0))
    scale = max(float(np.abs(there).max(initial=0)), least)
    return Difference(theirs, ours, largest, largest / scale if largest else 0.0)


def departures(differences: Sequence[Difference], tolerance: float) -> list[Difference]:
    """What departs by more than `tolerance`, in order.

    A container whose successor agrees does not count: it is defined otherwise there.
    """
    following = [*differences[1:], None]
    return [
        d
        for d, after in zip(differences, following, strict=True)
        if d.relative > tolerance
        and not (d.container and after is not None and after.relative <= tolerance)
    ]


def format_differences(
    differences: Sequence[Difference], tolerance: float, most: int | None = None
) -> str:
    """A table, and the first tensor that departs by more than `tolerance`.

    `most`: lines that are shown, those that differ most; None for all.
    """
    apart = departures(differences, tolerance)
    shown = list(differences)
    if most is not None and len(shown) > most:
        worst = sorted(shown, key=lambda d: (d not in apart, -d.relative))[:most]
        shown = [d for d in shown if d in worst]
    width = max(len(d.theirs) for d in shown)
    lines = [f"{'there':<{width}}  {'largest':>9}  {'relative':>9}  here"]
    for d in shown:
        mark = ""
        if d in apart:
            mark = f"  ← {d.note}" if d.note else "  ←"
        elif d.relative > tolerance:
            mark = "  (defined otherwise: what follows agrees)"
        lines.append(f"{d.theirs:<{width}}  {d.largest:9.2e}  {d.relative:9.2e}  {d.ours}{mark}")
    same = [d.relative for d in differences if d.relative <= tolerance]
    if apart:
        lines.append(
            f"{len(apart)} of {len(differences)} tensors depart by more than {tolerance:g}; "
            f"the first is {apart[0].theirs} ({apart[0].ours})"
        )
    else:
        lines.append(f"{len(same)} tensors agree to {tolerance:g}; largest {max(same):.2e}")
    return "\n".join(lines)


def matching_modules(rows: Sequence[Row]) -> dict[str, str]:
    """Path of a module there → path of ours that holds the same tensors.

    Where modules hold nothing but one inner module, so that several have the same tensors,
    the innermost ones match, then their parents.
    """
    ours: dict[str, set[int]] = defaultdict(set)
    theirs: dict[str, set[int]] = defaultdict(set)
    for i, row in enumerate(rows):
        for prefixes, names, separator in (
            (ours, row.variable.split("/")[1:-1], "/"),
            (theirs, row.tensor.split(".")[:-1], "."),
        ):
            for end in range(1, len(names) + 1):
                prefixes[separator.join(names[:end])].add(i)
    groups: dict[frozenset[int], tuple[list[str], list[str]]] = {}
    for side, prefixes in enumerate((theirs, ours)):
        for path, held in prefixes.items():
            groups.setdefault(frozenset(held), ([], []))[side].append(path)
    matches = {}
    for there, here in groups.values():
        here.sort(key=len, reverse=True)
        for i, path in enumerate(sorted(there, key=len, reverse=True)):
            if here:
                matches[path] = here[min(i, len(here) - 1)]
    return matches


def _layers(rows: Sequence[Row]) -> set[str]:
    """Modules there that hold tensors and no modules, and match one of ours that is such."""
    matches = matching_modules(rows)
    theirs = {row.tensor.rpartition(".")[0] for row in rows}
    ours = {row.variable.partition("/")[2].rpartition("/")[0] for row in rows}

    def inner(paths: set[str], separator: str) -> set[str]:
        return {p for p in paths if not any(q.startswith(p + separator) for q in paths)}

    there, here = inner(theirs, "."), inner(ours, "/")
    return {path for path in there if matches.get(path) in here}


def saved_inputs(
    model: nn.Module, saved: Mapping[str, np.ndarray], images: np.ndarray
) -> dict[str, np.ndarray]:
    """The network's extra inputs among saved tensors, on the grid of `images [B, H, W, C]`.

    Channels may come first, and one channel may be an axis. InputError: one is missing, or is
    not of the images' size.
    """
    found = {}
    for name, wanted in abstract_inputs(model, images.shape[:3]).items():
        if name not in saved:
            raise InputError(f"the network needs {name!r}: save it with the images")
        array = np.asarray(saved[name])
        forms = [array, array.transpose(0, 2, 3, 1)] if array.ndim == 4 else [array]
        forms += [x[..., 0] for x in forms if x.ndim == 4 and x.shape[3] == 1]
        fitting = next((x for x in forms if x.shape == wanted.shape), None)
        if fitting is None:
            raise InputError(f"{name} is {array.shape}, for these images it must be {wanted.shape}")
        floating = np.issubdtype(wanted.dtype, np.floating)
        found[name] = fitting.astype(images.dtype if floating else wanted.dtype)
        if not floating and not np.array_equal(found[name], fitting):
            raise InputError(f"{name} holds values that are no {wanted.dtype} numbers")
    return found


def activations(
    model: nn.Module, variables: Any, images: np.ndarray, extras: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Outputs of all modules ("path/") and of the network ("name") in evaluation, and their order.

    Images `[B, H, W, C]`; matrix products are of the highest precision.
    """
    order: dict[str, float] = {}

    @jax.jit
    def run(variables: Any, images: jax.Array, extras: Any) -> dict[str, jax.Array]:
        result, calls = record_calls(lambda: model.apply(variables, images, train=False, **extras))
        found = {f"{call.path}/": call.output for call in calls if hasattr(call.output, "shape")}
        order.update({path: i for i, path in enumerate(found)})
        made, last = {id(x): order[path] for path, x in found.items()}, len(found)
        for name, x in result.items() if isinstance(result, Mapping) else ():
            if hasattr(x, "shape"):
                order[name] = made.get(id(x), last) + 0.5
                found[name] = x
        return found

    with jax.default_matmul_precision("highest"):
        found = run(variables, images, dict(extras))
    return {name: np.asarray(x) for name, x in found.items()}, order


def _as_ours(name: str, array: np.ndarray, shape: tuple[int, ...], layout: AxisOrder) -> np.ndarray:
    """A saved array with channels last, tokens on their grid."""
    if array.ndim == 3 and len(shape) == 4 and array.shape[1] == shape[1] * shape[2]:
        return array.reshape(array.shape[0], *shape[1:3], -1)
    if array.ndim != 4:
        return array
    moved = array.transpose(0, 2, 3, 1)
    if len(shape) == 3:
        moved, array = (x.reshape(x.shape[0], -1, x.shape[-1]) for x in (moved, array))
    if layout == "auto" and moved.shape == array.shape == shape:
        raise InputError(f"{name}: {array.shape} does not tell its layout: say nchw or nhwc")
    if layout == "nhwc" or (layout == "auto" and array.shape == shape):
        return array
    return moved
