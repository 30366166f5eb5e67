"""What a table of names is made of: one row per leaf, and how arrays are laid out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from sdnjax.errors import InputError


class Arrangement(NamedTuple):
    """How one array lies here and there: two functions that undo each other bit for bit."""

    to_ours: Callable[[np.ndarray], np.ndarray]
    to_theirs: Callable[[np.ndarray], np.ndarray]


def _same(x: np.ndarray) -> np.ndarray:
    return x


def _hwio_from_oihw(x: np.ndarray) -> np.ndarray:
    return x.transpose(2, 3, 1, 0)


def _oihw_from_hwio(x: np.ndarray) -> np.ndarray:
    return x.transpose(3, 2, 0, 1)


def _transposed(x: np.ndarray) -> np.ndarray:
    return x.transpose(1, 0)


ARRANGEMENTS: dict[str, Arrangement] = {
    "same": Arrangement(_same, _same),
    # (out, in, kh, kw) and [kh, kw, in, out]; (C, 1, kh, kw) and [kh, kw, 1, C].
    "conv": Arrangement(_hwio_from_oihw, _oihw_from_hwio),
    "depthwise": Arrangement(_hwio_from_oihw, _oihw_from_hwio),
    # (out, in) and [in, out]
    "linear": Arrangement(_transposed, _transposed),
    # A 1×1 convolution of ours that is a linear layer there, and the other way round.
    "linear_as_conv": Arrangement(lambda x: x.T[None, None], lambda x: x[0, 0].T),
    "conv_as_linear": Arrangement(lambda x: x[:, :, 0, 0].T, lambda x: x.T[:, :, None, None]),
}


class Row(NamedTuple):
    """One leaf of our variables and the foreign tensor that holds it.

    Attributes:
      variable: the leaf's path in `{"params": …, "batch_stats": …}`, joined by "/":
        "params/backbone/stem1/conv/kernel".
      tensor: the foreign name: "backbone.stem.0.weight".
      arrangement: a key of `ARRANGEMENTS`, or an `Arrangement` of the table's own.
      part: `(i, n)`: the leaf is the i-th of n equal parts of the tensor along its first axis,
        as the rows of q, k and v in a packed projection.
    """

    variable: str
    tensor: str
    arrangement: str | Arrangement = "same"
    part: tuple[int, int] | None = None


def conv(variable: str, tensor: str, bias: bool = False) -> list[Row]:
    """`variable` is a module's path ("backbone/stem1/conv"), `tensor` its foreign prefix."""
    return _kernel(variable, tensor, "conv", bias)


def depthwise(variable: str, tensor: str, bias: bool = False) -> list[Row]:
    """A depthwise convolution, as `conv`."""
    return _kernel(variable, tensor, "depthwise", bias)


def linear(variable: str, tensor: str, bias: bool = True) -> list[Row]:
    """A dense layer, as `conv`."""
    return _kernel(variable, tensor, "linear", bias)


def batch_norm(variable: str, tensor: str) -> list[Row]:
    """Scale and bias, running mean and variance."""
    return [
        *layer_norm(variable, tensor),
        Row(f"batch_stats/{variable}/mean", f"{tensor}.running_mean"),
        Row(f"batch_stats/{variable}/var", f"{tensor}.running_var"),
    ]


def layer_norm(variable: str, tensor: str) -> list[Row]:
    """Scale and bias."""
    return [
        Row(f"params/{variable}/scale", f"{tensor}.weight"),
        Row(f"params/{variable}/bias", f"{tensor}.bias"),
    ]


def _kernel(variable: str, tensor: str, arrangement: str, bias: bool) -> list[Row]:
    rows = [Row(f"params/{variable}/kernel", f"{tensor}.weight", arrangement)]
    if bias:
        rows.append(Row(f"params/{variable}/bias", f"{tensor}.bias"))
    return rows


def check_rows(rows: Sequence[Row], leaves: Collection[str]) -> None:
    """Raises InputError if a row's leaf is not there, or is another row's too."""
    seen: set[str] = set()
    for row in rows:
        if row.variable not in leaves:
            raise InputError(
                f"the table names {row.variable}, which the network does not have: it is for "
                "other networks"
            )
        if row.variable in seen:
            raise InputError(f"the table names {row.variable} twice")
        seen.add(row.variable)


def table_rows(table: Any, model: Any) -> list[Row]:
    """The rows of a table for a network; the InputError that it is for others names the table."""
    try:
        return table.rows(model)
    except InputError as error:
        name = getattr(table, "__name__", "").rpartition(".")[2]
        raise InputError(f"table {name}: {error}" if name else str(error)) from None


def to_ours(row: Row, tensor: np.ndarray) -> np.ndarray:
    """The leaf of `row` from its foreign tensor. ValueError: a rank that does not fit."""
    if row.part is not None:
        i, n = row.part
        tensor = np.split(tensor, n)[i]
    return _arrangement(row).to_ours(tensor)


def to_theirs(row: Row, leaf: np.ndarray) -> np.ndarray:
    """The foreign tensor of `row`, or the part of it that the leaf is."""
    return _arrangement(row).to_theirs(leaf)


def their_shape(row: Row, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The whole foreign tensor's shape for a leaf of `shape`."""
    part = to_theirs(row, np.broadcast_to(np.float32(0), shape)).shape
    return (part[0] * row.part[1], *part[1:]) if row.part else part


def _arrangement(row: Row) -> Arrangement:
    named = row.arrangement
    return named if isinstance(named, Arrangement) else ARRANGEMENTS[named]
