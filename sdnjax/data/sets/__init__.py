"""The data sets that the library knows, one module with one record for each.

To add one, write its `DataSet` in a module here and name it in `DATA_SETS`.
"""

from __future__ import annotations

from sdnjax.data.sets.ade20k import ADE20K
from sdnjax.data.sets.camvid import CAMVID
from sdnjax.data.sets.cityscapes import CITYSCAPES
from sdnjax.data.sets.data_set import DataSet
from sdnjax.data.sets.folder import FOLDER
from sdnjax.data.sets.label_space import LabelSpace
from sdnjax.data.sets.pascal_context import PASCAL_CONTEXT_59, PASCAL_CONTEXT_60
from sdnjax.data.sets.segfix import segfix_targets
from sdnjax.data.sets.shapes import SHAPES
from sdnjax.data.sets.voc2012_aug import VOC2012_AUG
from sdnjax.errors import InputError, unknown

__all__ = ["DATA_SETS", "SEGFIX_SETS", "DataSet", "label_space", "named"]

DATA_SETS: dict[str, DataSet] = {
    "shapes": SHAPES,
    "camvid": CAMVID,
    "cityscapes": CITYSCAPES,
    "ade20k": ADE20K,
    "pascal_context_59": PASCAL_CONTEXT_59,
    "pascal_context_60": PASCAL_CONTEXT_60,
    "voc2012_aug": VOC2012_AUG,
    "folder": FOLDER,
}

# Each of them as SegFix learns it: cityscapes_segfix, ….
SEGFIX_SETS = {(own := segfix_targets(data_set)).name: own for data_set in DATA_SETS.values()}


def named(name: str) -> DataSet:
    """The record of a data set; InputError with the nearest name if there is none."""
    known = DATA_SETS | SEGFIX_SETS
    if name not in known:
        raise unknown("unknown data set", name, known)
    return known[name]


def label_space(name: str) -> LabelSpace:
    """The classes of a data set; InputError if there is none, or they are read from its folder."""
    space = named(name).label_space
    if not isinstance(space, LabelSpace):
        raise InputError(f"the classes of {name!r} are in its classes.csv: it needs --data.dir")
    return space
