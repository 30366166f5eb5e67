"""Classes, colours and file values: one module of facts for each data set."""

from __future__ import annotations

from sdnjax.data.label_spaces.ade20k import ADE20K
from sdnjax.data.label_spaces.camvid import CAMVID
from sdnjax.data.label_spaces.cityscapes import CITYSCAPES
from sdnjax.data.label_spaces.pascal_context import PASCAL_CONTEXT_59, PASCAL_CONTEXT_60
from sdnjax.data.label_spaces.shapes import SHAPES
from sdnjax.data.label_spaces.space import IGNORE, LabelSpace
from sdnjax.data.label_spaces.voc2012_aug import VOC2012_AUG
from sdnjax.errors import InputError, unknown

__all__ = ["FOLDER", "IGNORE", "LabelSpace", "check_name", "label_space"]

_TABLES = (SHAPES, CAMVID, CITYSCAPES, ADE20K, PASCAL_CONTEXT_59, PASCAL_CONTEXT_60, VOC2012_AUG)
_SPACES = {space.name: space for space in _TABLES}

# A user's own folder: its classes are not known by name but read from its class file.
FOLDER = "folder"


def label_space(name: str) -> LabelSpace:
    """The label space called `name`; InputError with the nearest name if there is none."""
    check_name(name)
    if name == FOLDER:
        raise InputError(f"the classes of {name!r} are in its classes.csv: it needs --data.dir")
    return _SPACES[name]


def check_name(name: str) -> None:
    """InputError with the nearest name if no data set is called `name`."""
    names = (*_SPACES, FOLDER)
    if name not in names:
        raise unknown("unknown data set", name, names)
