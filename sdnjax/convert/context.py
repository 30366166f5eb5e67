"""What stands between decoder and classifier, under the names of its authors' modules.

No format of a whole network has them: they are added to the rows of whichever table names the
rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdnjax.convert.rows import Row, conv, table_rows
from sdnjax.errors import InputError
from sdnjax.models.context.ecrf import ECRF
from sdnjax.models.context.non_local import NonLocal


def network_rows(table: Any, model: Any) -> list[Row]:
    """The rows of a table for a network, and those of its context."""
    return [*table_rows(table, model), *context_rows(model)]


def context_rows(model: Any) -> list[Row]:
    """Rows of the network's context; none for one that has no names elsewhere.

    E-CRF's are those of the released `MessagePass`. Its three convolutions are all there is: the
    paper's pair compatibility and the learnt gains were not released. The non-local block's are
    mmcv's, under the name that mmseg's heads give it.
    """
    context = getattr(model, "context", None)
    if isinstance(context, NonLocal):
        pooled = ".0" if context.subsample else ""
        names = {"theta": "theta", "phi": f"phi{pooled}", "g": f"g{pooled}", "out": "conv_out"}
        return [
            row
            for ours, theirs in names.items()
            for row in conv(f"context/{ours}", f"nl_block.{theirs}.conv", bias=True)
        ]
    if not isinstance(context, ECRF) or context.message_weight == 0:
        return []
    rows = [
        *conv("context/colours", "ecrf.img_conv"),
        *conv("context/positions", "ecrf.pos_conv"),
    ]
    if context.compatibility == "neighbour":
        rows += conv("context/compatibility", "ecrf.comp_conv")
    return rows


def find_context(model: Any, state: Mapping[str, Any], source: str) -> dict[str, Any]:
    """`state` with the context's tensors under their own names.

    The module may be an attribute of any name, of the head or of the network:
    `decode_head.message.ecrf.img_conv.weight`.

    Raises: InputError if there are two such modules.
    """
    renamed = dict(state)
    for row in context_rows(model):
        if row.tensor in state:
            continue
        found = [name for name in state if name.endswith("." + row.tensor)]
        if len(found) > 1:
            raise InputError(f"{source} has {' and '.join(sorted(found)[:2])}: which is meant?")
        if found:
            renamed[row.tensor] = renamed.pop(found[0])
    return renamed
