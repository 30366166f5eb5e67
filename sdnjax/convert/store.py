"""Our variables as a foreign state dict, for `load_state_dict(…, strict=True)` there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict

from sdnjax.convert.context import network_rows
from sdnjax.convert.initial import leaves_of
from sdnjax.convert.rows import check_rows, to_theirs
from sdnjax.errors import InputError


def to_torch(
    model: nn.Module, variables: Mapping[str, Any], table: Any, *, drop: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Name → NumPy array in the foreign layout, the inverse of `load`, bit for bit.

        state = to_torch(model, variables, mmseg_fcn)
        theirs.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})

    Beside the tensors of the table there is a `num_batches_tracked` (0) for every batch norm
    and whatever constants the table names, so that the original loads it strictly.

    Args:
      drop: parts of the network ("neck") that the original does not have. Without it they
        are an error: the original would compute something else.

    Raises:
      InputError: leaves that the format has no name for, or tied tensors that differ.
    """
    leaves = {k: np.asarray(v) for k, v in flatten_dict(dict(variables), sep="/").items()}
    rows = network_rows(table, model)
    check_rows(rows, leaves)
    homeless = leaves.keys() - {r.variable for r in rows} - leaves_of(leaves, drop)
    if homeless:
        parts = sorted({path.split("/")[1] for path in homeless})
        raise InputError(
            f"{len(homeless)} tensor(s) of {', '.join(parts)} have no name in this format, such "
            f"as {min(homeless)}; drop the part to leave it out"
        )
    whole: dict[str, dict[int, np.ndarray]] = {}  # name → its parts by number
    counts = {row.tensor: row.part[1] if row.part else 1 for row in rows}
    for row in rows:
        i = row.part[0] if row.part else 0
        tensor = to_theirs(row, leaves[row.variable])
        if not _same_bits(whole.setdefault(row.tensor, {}).setdefault(i, tensor), tensor):
            raise InputError(f"{row.variable} and another leaf share {row.tensor} but differ")
    state = {}
    for name, by_number in whole.items():
        pieces = [by_number[i] for i in range(counts[name])]
        state[name] = np.ascontiguousarray(np.concatenate(pieces) if len(pieces) > 1 else pieces[0])
        if name.endswith(".running_var"):
            count = name.removesuffix("running_var") + "num_batches_tracked"
            state[count] = np.zeros((), np.int64)
    if hasattr(table, "constants"):
        state |= table.constants(model)
    return state


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
