"""Where data sets keep their files, as people download them: one module per data set."""

from __future__ import annotations

from sdnjax.data.label_spaces import FOLDER
from sdnjax.data.layouts.ade20k import ADE20K
from sdnjax.data.layouts.camvid import CAMVID
from sdnjax.data.layouts.cityscapes import CITYSCAPES
from sdnjax.data.layouts.folder import OWN_FOLDER
from sdnjax.data.layouts.layout import Layout, Pair
from sdnjax.data.layouts.pascal_context import PASCAL_CONTEXT
from sdnjax.data.layouts.voc2012_aug import VOC2012_AUG

__all__ = ["LAYOUTS", "Layout", "Pair"]

LAYOUTS: dict[str, Layout] = {
    "camvid": CAMVID,
    "cityscapes": CITYSCAPES,
    "ade20k": ADE20K,
    "pascal_context_59": PASCAL_CONTEXT,
    "pascal_context_60": PASCAL_CONTEXT,
    "voc2012_aug": VOC2012_AUG,
    FOLDER: OWN_FOLDER,
}
