"""The settings of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sdnjax.config import check_types, setting
from sdnjax.errors import InputError


@dataclass(frozen=True)
class Evaluation:
    """How images are predicted and scored. Labels are never resized."""

    mode: Literal["whole", "slide"] = setting("whole", "the whole image, or sliding windows")
    resize_to: tuple[int, int] | None = setting(
        None,
        "long,short edges that an image is fitted into first, keeping its ratio; none keeps its "
        "own size",
    )
    window: tuple[int, int] = setting((769, 769), "height and width of a sliding window")
    stride: tuple[int, int] = setting((513, 513), "step between windows, vertical, horizontal")
    scales: tuple[float, ...] = setting(
        (1.0,), "sizes at which each image is predicted, as multiples of the one above"
    )
    flip: bool = setting(False, "also predict the mirror image at every scale")
    size_multiple: int = setting(
        32,
        "whole images are padded to multiples of this, images smaller than a window to the "
        "window: few sizes to compile; 1: nothing is padded, each size is compiled, as in mmseg",
    )
    batch_size: int = setting(1, "images of one size predicted at once")
    boundary_thresholds: tuple[float, ...] = setting(
        (1, 3), "tolerances of the boundary F-measure: pixels, or below 1 shares of the diagonal"
    )
    boundary_absent: Literal["one", "skip"] = setting(
        "one", "boundary F of a class that neither truth nor prediction has: 1, or not counted"
    )
    boundary_iou_ratio: float | None = setting(
        None, "boundary IoU's distance as a share of the diagonal (.02, Cityscapes .005)"
    )
    trimap_widths: tuple[int, ...] = setting(
        (), "widths in pixels of the bands around true boundaries inside which mIoU is counted too"
    )

    def __post_init__(self) -> None:
        check_types(self)
        pairs = zip(self.window, self.stride, strict=True)
        if any(s < 1 or s > w for w, s in pairs):
            raise InputError(
                f"evaluation.stride {self.stride} must lie between 1 and the window {self.window}"
            )
        if not self.scales or min(self.scales) <= 0:
            raise InputError(f"evaluation.scales must be positive numbers, not {self.scales}")
        if self.size_multiple < 1 or self.batch_size < 1:
            raise InputError("evaluation.size_multiple and evaluation.batch_size must be ≥ 1")
        if self.resize_to is not None:
            long, short = self.resize_to
            if short < 1 or long < short:
                raise InputError(
                    f"evaluation.resize_to is (long, short) in pixels, not {self.resize_to}"
                )
            if int(short * min(self.scales)) < 1:
                raise InputError(f"evaluation.scales {self.scales} leave nothing of {short} pixels")
        widths = self.trimap_widths
        if len(set(widths)) != len(widths) or min(widths, default=1) < 1:
            raise InputError(f"evaluation.trimap_widths must differ and be ≥ 1, not {widths}")
