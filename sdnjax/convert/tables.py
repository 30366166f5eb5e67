"""The foreign formats that have a table, by the name of their file."""

from __future__ import annotations

from collections.abc import Collection
from types import ModuleType
from typing import Any

from sdnjax.convert import (
    augreg_vit,
    difnet,
    efficientnet_lite,
    hf_maskformer,
    hf_resnet,
    hf_segformer,
    hf_swin,
    hf_vit,
    hrnet,
    hrnet_ocr,
    mmseg_deeplab,
    mmseg_fcn,
    mmseg_fpn,
    mmseg_maskformer,
    mmseg_ocr,
    mmseg_segformer,
    mmseg_segmenter,
    mmseg_swin,
    official_segmenter,
    segfix,
    timm_vit,
    torchvision_resnet,
)
from sdnjax.convert.state_dict import count_fitting
from sdnjax.errors import InputError, unknown

# Of a network's family, by how its name begins: whole networks where there are such checkpoints,
# else backbones.
OF_FAMILY: dict[str, ModuleType] = {
    "fcn": mmseg_fcn,
    "fpn_efficientnet": efficientnet_lite,
    "fpn": mmseg_fpn,
    "ocrnet": mmseg_ocr,
    "deeplabv3plus": mmseg_deeplab,
    "deeplabv2": torchvision_resnet,
    "difnet": difnet,
    "sim-deeplab": difnet,
    "segmenter": mmseg_segmenter,
    "segformer": mmseg_segformer,
    "maskformer": hf_maskformer,
    "segfix": segfix,
}
OTHERS = (
    augreg_vit,
    hf_resnet,
    hf_segformer,
    hf_swin,
    hf_vit,
    hrnet,
    hrnet_ocr,
    mmseg_maskformer,
    mmseg_swin,
    official_segmenter,
    timm_vit,
)
TABLES: dict[str, ModuleType] = {
    table.__name__.rpartition(".")[2]: table for table in (*OF_FAMILY.values(), *OTHERS)
}


def find_table(name: str | None, model_name: str) -> ModuleType:
    """The table called `name`, or without a name that of the network's family.

    "mmseg_fcn" serves "fcn_r50-d8".
    """
    if name is None:
        for family, table in OF_FAMILY.items():
            if model_name.startswith(family):
                return table
        raise InputError(f"{model_name} has no table of its own; name one of {', '.join(TABLES)}")
    if name not in TABLES:
        raise unknown("no table", name, TABLES)
    return TABLES[name]


def fitting_table(model: Any, names: Collection[str], than: ModuleType) -> str | None:
    """The table of this network that has most of a file's names, if it has far more than `than`."""
    fits = {}
    for name, table in TABLES.items():
        try:
            fits[name] = count_fitting(names, {row.tensor for row in table.rows(model)})
        except InputError:  # a table for other networks
            continue
    best = max(fits, key=lambda name: fits[name], default=None)
    given = getattr(than, "__name__", "").rpartition(".")[2]
    return best if best is not None and fits[best] > 2 * fits.get(given, 0) + 9 else None
