"""The foreign formats that have a table, by the name of their file."""

from __future__ import annotations

from types import ModuleType

from sdnjax.config import nearest
from sdnjax.convert import hf_resnet, mmseg_fcn, mmseg_fpn, torchvision_resnet
from sdnjax.errors import InputError

# In the order in which they are tried for a network: mmseg's first.
TABLES: dict[str, ModuleType] = {
    table.__name__.rpartition(".")[2]: table
    for table in (mmseg_fcn, mmseg_fpn, hf_resnet, torchvision_resnet)
}


def find_table(name: str | None, model_name: str) -> ModuleType:
    """The table called `name`; without a name the first whose family the network's begins with.

    "mmseg_fcn" serves "fcn_r50-d8".
    """
    if name is None:
        families = {table: table.partition("_")[2] for table in TABLES}
        name = next((t for t, family in families.items() if model_name.startswith(family)), "")
        if not name:
            raise InputError(
                f"{model_name} has no table of its own; name one of {', '.join(TABLES)}"
            )
    if name not in TABLES:
        hint = nearest(name, TABLES) or f"; there are {', '.join(TABLES)}"
        raise InputError(f"no table {name!r} of foreign names{hint}")
    return TABLES[name]
