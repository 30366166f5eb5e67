"""The foreign formats that have a table, by the name of their file."""

from __future__ import annotations

from types import ModuleType

from sdnjax.config import nearest
from sdnjax.convert import hf_resnet, mmseg_fcn, mmseg_fpn, torchvision_resnet
from sdnjax.errors import InputError

TABLES: dict[str, ModuleType] = {
    table.__name__.rpartition(".")[2]: table
    for table in (mmseg_fcn, mmseg_fpn, hf_resnet, torchvision_resnet)
}


def find_table(name: str | None, model_name: str) -> ModuleType:
    """The table called `name`; without a name mmseg's for a network such as "fcn_r50-d8"."""
    name = name or f"mmseg_{model_name.partition('_')[0]}"
    if name not in TABLES:
        hint = nearest(name, TABLES) or f"; there are {', '.join(TABLES)}"
        raise InputError(f"no table {name!r} of foreign names{hint}")
    return TABLES[name]
