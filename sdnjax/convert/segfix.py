"""The authors' SegFix, on HRNet of four branches (`segfix_hr18`, `segfix_hr48`) and on HRNet2x."""

from __future__ import annotations

from sdnjax.convert.hrnet import hrnet, hrnet2x
from sdnjax.convert.parts import part
from sdnjax.convert.rows import Row, batch_norm, conv
from sdnjax.errors import InputError
from sdnjax.models.backbones.hrnet import HRNet, HRNet2x
from sdnjax.models.segfix import SegFixNet

IGNORED = (".num_batches_tracked",)

HEADS = {"boundary": "mask_head", "direction": "dir_head"}


def rows(model: SegFixNet) -> list[Row]:
    if not isinstance(model, SegFixNet):
        raise InputError(
            f"it is for networks whose heads are SegFix's, here it is {type(model).__name__}: name "
            "another table"
        )
    if isinstance(model.backbone, HRNet2x):
        rows = hrnet2x(model.backbone, "backbone", "backbone.")
    else:
        rows = hrnet(part(model, "backbone", HRNet), "backbone", "backbone.")
    for ours, theirs in HEADS.items():
        rows += conv(f"{ours}/conv/conv", f"{theirs}.0")
        rows += batch_norm(f"{ours}/conv/bn", f"{theirs}.1.0")
        rows += conv(f"{ours}/out", f"{theirs}.2")
    return rows
