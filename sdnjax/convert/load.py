"""Foreign tensors into a network's variables: all of them, or one error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax import linen as nn
from flax.traverse_util import unflatten_dict

from sdnjax.convert.context import find_context, network_rows
from sdnjax.convert.files import checkpoint_file, read_file
from sdnjax.convert.initial import initial_values, leaf_shapes, leaves_of
from sdnjax.convert.rows import Row, check_rows, their_shape, to_ours
from sdnjax.convert.state_dict import as_array, find_tensors
from sdnjax.convert.words import shown, sizes
from sdnjax.errors import InputError


class DoesNotFit(InputError):
    """A checkpoint that is not this network's; `problems` has a phrase for every tensor."""

    def __init__(self, source: str, problems: Sequence[str], advice: str = ""):
        self.problems = tuple(problems)
        count = f"{len(problems)} tensor(s) do not fit: " if len(problems) > 1 else ""
        super().__init__(f"{source}: {count}{shorten(problems, 5)}{advice}")


def load(
    model: nn.Module,
    source: str | Path | Mapping[str, Any],
    table: Any,
    *,
    reinitialise: Sequence[str] = (),
    new_classes: bool = False,
    input_channels: int | None = None,
    ignore: Sequence[str] = (),
    key: str | None = None,
    prefix: str | None = None,
    name: str = "the state dict",
    seed: int = 0,
    image_size: tuple[int, int] = (64, 64),
    dtype: Any = np.float32,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Variables of `model` with the values of a foreign checkpoint.

        model = create_model("fcn_r50-d8", num_classes=150, neck="sdn")
        variables = load(model, "fcn_r50.pth", mmseg_fcn, reinitialise=["neck"])

    Strict: every leaf of the network comes from the file and every tensor of the file is
    used, unless an argument says otherwise, and the report repeats what was said.

    Args:
      model: called as `model(images, train=…)`.
      source: a file, an index of shards or a folder, known by its content (see
        `sdnjax.convert.files.read_file`), or a mapping of name → array or PyTorch tensor.
      table: the format, a module such as `sdnjax.convert.mmseg_fcn`; see `sdnjax.convert`.
      reinitialise: parts of the network ("neck", "decoder/classifier") that start at their
        initial values, whatever the file holds.
      new_classes: the classifiers start at their initial values: other classes.
      input_channels: of the images, where they or the file's are not 3. The first
        convolution is then inflated: its mean over the file's channels for each of ours,
        times theirs / ours, so that a grey image has the response that it had.
      ignore: beginnings of names of the file that are not wanted.
      key, prefix: where in the file the tensors are, and what stands before their names, in place
        of the only ones that fit; see `sdnjax.convert.state_dict.find_tensors`.
      name: of a mapping, for messages; a file has its own.
      seed: of initial values.
      image_size: with which the network is traced.
      dtype: of the variables.
      report: takes the lines meant for people.

    Returns a new tree of NumPy arrays, `{"params": …, "batch_stats": …}`.

    Raises:
      DoesNotFit: tensors are missing, left over, of the wrong shape or not finite.
      InputError: the file cannot be read.
    """
    content = source
    if isinstance(source, str | Path):
        file = checkpoint_file(source)
        name, content = str(file), read_file(file)
    rows = network_rows(table, model)
    found = find_tensors(content, {r.tensor for r in rows}, name, key=key, prefix=prefix)
    state, notes = find_context(model, found.state, name), list(found.notes)
    if hasattr(table, "adapt"):
        state, adapted = table.adapt(model, state)
        notes += adapted

    channels = input_channels or 3
    leaves, inflated = leaf_shapes(model, image_size, channels), {}
    if input_channels is not None:
        inflated = _differing(leaves, leaf_shapes(model, image_size, channels + 1))
    check_rows(rows, leaves)
    fresh = leaves_of(leaves, reinitialise)
    parts = getattr(table, "CLASSIFIERS", ("classifier/",))
    classifiers = {p for p in leaves if any(part in p for part in parts)}
    fresh |= classifiers if new_classes else set()
    wanted = [row for row in rows if row.variable not in fresh]

    values, problems, said = _take(wanted, state, leaves, inflated, np.dtype(dtype))
    unnamed = sorted(leaves.keys() - {r.variable for r in rows} - fresh)
    problems += [f"{path} has no tensor in this format" for path in unnamed]
    used, known = {r.tensor for r in wanted}, {r.tensor for r in rows}
    left = [k for k in state if k not in used]
    endings, beginnings = tuple(table.IGNORED), tuple(ignore)
    problems += [
        f"{k} is left over"
        for k in left
        if k not in known and not k.endswith(endings) and not k.startswith(beginnings)
    ]
    if problems:
        heads = [r.tensor for r in wanted if r.variable in classifiers]
        mostly = len(problems) > len(leaves) // 2
        raise DoesNotFit(
            name, problems, _advice(table, problems, unnamed, heads, state if mostly else ())
        )

    for path, x in initial_values(model, image_size, channels, seed, fresh).items():
        values[path] = x.astype(dtype)
    report(
        f"{len(leaves) - len(fresh)}/{len(leaves)} tensors loaded from {name}; "
        f"reinitialised: {summary(fresh, '/')}; ignored: {summary(left, '.')}"
    )
    for note in [*notes, *said]:
        report(note)
    return unflatten_dict(values, sep="/")


def shorten(phrases: Sequence[str], most: int) -> str:
    """The first few phrases and how many more there are."""
    rest = len(phrases) - most
    return "; ".join(phrases[:most]) + (f"; and {rest} more" if rest > 0 else "")


def summary(names: Sequence[str] | set[str], separator: str) -> str:
    """Names for a report, those with one ending counted: "53 × num_batches_tracked"."""
    endings: dict[str, list[str]] = {}
    for name in sorted(names):
        endings.setdefault(name.rpartition(separator)[2], []).append(name)
    phrases = []
    for ending, group in endings.items():
        phrases += [f"{len(group)} × {ending}"] if len(group) > 4 else group
    return shorten(phrases, 8).replace("; ", ", ") or "nothing"


def _take(
    rows: Sequence[Row],
    state: Mapping[str, Any],
    leaves: Mapping[str, tuple[int, ...]],
    inflated: Mapping[str, int],
    dtype: np.dtype,
) -> tuple[dict[str, np.ndarray], list[str], list[str]]:
    """The rows' leaves, what is wrong with others, and what was changed."""
    values, problems, said = {}, [], []
    for row in rows:
        if row.tensor not in state:
            problems.append(f"{row.tensor} is missing")
            continue
        shape = leaves[row.variable]
        try:
            theirs = as_array(state[row.tensor], shown(row.tensor))
        except InputError as error:
            problems.append(str(error))
            continue
        try:
            value = to_ours(row, theirs)
        except (ValueError, IndexError):  # a rank that the arrangement does not know, uneven parts
            value = np.empty(0)
        axis = inflated.get(row.variable)
        if axis is not None and _differ_only_in(axis, value.shape, shape):
            n, ours = value.shape[axis], shape[axis]
            mean = value.mean(axis, keepdims=True, dtype=np.float64) * (n / ours)
            value = np.repeat(mean, ours, axis)
            said.append(
                f"inflated: {row.tensor} from {n} to {ours} input channels, each the mean of "
                f"the {n} times {n}/{ours}"
            )
        if value.shape != shape:
            expected = their_shape(row, shape)
            problems.append(f"{row.tensor} is {sizes(theirs.shape)}, the network has {expected}")
        elif value.dtype.kind != "f":
            problems.append(f"{row.tensor} holds {value.dtype}, not floating-point numbers")
        elif not np.isfinite(value).all():
            problems.append(f"{row.tensor} has values that are not finite")
        elif not np.isfinite(narrow := _cast(value, dtype)).all():
            problems.append(f"{row.tensor} has values too large for {dtype}")
        else:
            values[row.variable] = narrow
    return values, list(dict.fromkeys(problems)), said


def _cast(value: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.array(value, dtype)


def _differing(
    leaves: Mapping[str, tuple[int, ...]], others: Mapping[str, tuple[int, ...]]
) -> dict[str, int]:
    """Leaves whose shape differs, with the axis in which it does."""
    return {
        path: next(i for i, (a, b) in enumerate(zip(shape, others[path], strict=True)) if a != b)
        for path, shape in leaves.items()
        if shape != others[path]
    }


def _differ_only_in(axis: int, a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return a != b and len(a) == len(b) and a[:axis] == b[:axis] and a[axis + 1 :] == b[axis + 1 :]


def _advice(
    table: Any,
    problems: Sequence[str],
    unnamed: Sequence[str],
    heads: Sequence[str],
    names: Iterable[str],
) -> str:
    """What may help; `names` are the file's, where most of them do not fit."""
    names = [shown(name) for name in names][:3]
    if names:
        format_ = getattr(table, "__name__", "").rpartition(".")[2]
        expected = f" and the table is {format_}" if format_ else ""
        return (
            f". It looks like another network or another format: its names begin "
            f"{', '.join(names)}{expected}"
        )
    advice = ""
    if unnamed:
        parts = sorted({path.split("/")[1] for path in unnamed})
        advice = f". Reinitialise {', '.join(parts)} to start there from initial values"
    if any(problem.startswith(f"{head} is (") for problem in problems for head in heads):
        advice += ". Ask for new classes to reinitialise the classifiers"
    return advice
