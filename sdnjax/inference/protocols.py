"""How images are predicted and scored: the settings, and those that were published, by name."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from sdnjax.errors import InputError, unknown
from sdnjax.settings import check_types, setting

# Probabilities float32 [H, W, K], picture uint8 [H, W, C] → classes, integers [H, W]. What needs
# files may have a method `check()`, which raises InputError before a run if they are not there.
Finish = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Evaluation:
    """How images are predicted and scored. Labels are never resized."""

    mode: Literal["whole", "slide"] = setting("whole", "the whole image, or sliding windows")
    resize_to: tuple[int, int] | None = setting(
        None,
        "long,short edges that an image is fitted into first, keeping its ratio; none keeps its "
        "own size",
    )
    window: tuple[int, int] = setting((769, 769), "height and width of a sliding window", least=1)
    stride: tuple[int, int] = setting(
        (513, 513), "step between windows, vertical, horizontal", least=1
    )
    scales: tuple[float, ...] = setting(
        (1.0,), "sizes at which each image is predicted, as multiples of the one above", above=0
    )
    flip: bool = setting(False, "also predict the mirror image at every scale")
    small: Literal["shrink", "pad", "enlarge"] = setting(
        "shrink",
        "an image smaller than the window: the window shrinks to it, as in mmsegmentation; it is "
        "padded up to the window; or enlarged until it fills the window, as in Segmenter's code",
    )
    size_multiple: int = setting(
        1,
        "whole images are padded to multiples of this: fewer sizes to compile, other scores "
        "(docs/evaluation.md); 1: nothing is padded, each size is compiled",
        least=1,
    )
    batch_size: int = setting(1, "images of one size predicted at once", least=1)
    boundary_thresholds: tuple[float, ...] = setting(
        (1, 3),
        "tolerances of the boundary F-measure: whole pixels, or below 1 shares of the diagonal",
        above=0,
    )
    boundary_absent: Literal["one", "skip"] = setting(
        "one", "boundary F of a class that neither truth nor prediction has: 1, or not counted"
    )
    boundary_iou_ratio: float | None = setting(
        None,
        "boundary IoU's distance as a share of the diagonal (.02, Cityscapes .005)",
        above=0,
        below=1,
    )
    trimap_widths: tuple[int, ...] = setting(
        (),
        "widths in pixels of the bands around true boundaries inside which mIoU is counted too",
        least=1,
    )
    finish: Literal["dense_crf", "dense_crf_voc", "threshold"] | Finish | None = setting(
        None,
        "what makes labels of the mean probabilities: a function of them, float32 [H, W, K], and "
        "the picture, uint8 [H, W, C]; none takes the most probable class; dense_crf is "
        "DenseCRF(), dense_crf_voc DeepLabV2's DenseCRF.voc(), threshold Threshold()",
    )
    metrics: tuple[Any, ...] = setting(
        (), "metrics of one's own, beside those above (sdnjax.metrics.Metric)"
    )

    canvas: tuple[int, int] | None = setting(
        None,
        "height,width of a black canvas on whose middle an image is put first; a larger image is "
        "an error; none: no canvas",
        least=1,
    )

    def __post_init__(self) -> None:
        check_types(self)
        if isinstance(self.finish, str):
            from sdnjax.inference.dense_crf import DenseCRF  # noqa: PLC0415 (imports JAX)
            from sdnjax.inference.threshold import Threshold  # noqa: PLC0415

            named: dict[str, Callable[[], Finish]] = {
                "dense_crf": DenseCRF,
                "dense_crf_voc": DenseCRF.voc,
                "threshold": Threshold,
            }
            object.__setattr__(self, "finish", named[self.finish]())
        pairs = zip(self.window, self.stride, strict=True)
        if any(s > w for w, s in pairs):
            raise InputError(
                f"evaluation.stride {self.stride} must be at most the window {self.window}"
            )
        if not self.scales:
            raise InputError("evaluation.scales is empty: 1 is an image's own size")
        if self.canvas is not None and self.resize_to is not None:
            raise InputError("evaluation.resize_to must be none beside evaluation.canvas")
        if self.resize_to is not None:
            long, short = self.resize_to
            if short < 1 or long < short:
                raise InputError(
                    f"evaluation.resize_to is (long, short) in pixels, not {self.resize_to}"
                )
            if int(short * min(self.scales)) < 1:
                raise InputError(f"evaluation.scales {self.scales} leave nothing of {short} pixels")
        self._check_scores()

    def unused(self) -> dict[str, str]:
        """The settings that have no effect beside the others, and why."""
        others = ("size_multiple",) if self.mode == "slide" else ("window", "stride", "small")
        return dict.fromkeys(others, f"evaluation.mode is {self.mode}")

    def _check_scores(self) -> None:
        for key in ("scales", "boundary_thresholds", "trimap_widths"):
            values = getattr(self, key)
            if len(set(values)) != len(values):
                raise InputError(f"evaluation.{key} must differ, not {values}")
        for threshold in self.boundary_thresholds:
            if threshold > 1 and not float(threshold).is_integer():
                raise InputError(
                    "evaluation.boundary_thresholds must be whole pixels, or below 1 shares of "
                    f"the diagonal, not {threshold:g}"
                )
        for metric in self.metrics:
            if not callable(getattr(metric, "empty", None)):
                raise InputError(
                    f"evaluation.metrics must be values with empty(num_classes), not {metric!r}"
                )


# mmsegmentation's test-time augmentation, and the scales of the SDN paper (Sec. 5.1), each with
# its mirror. E-CRF names no scales ("multi-scale and flipping"), DifNet tests at one.
MMSEG_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
SDN_SCALES = (*MMSEG_SCALES, 2.0)

# How boundaries are scored: classes that an image lacks count 1 on Cityscapes, as Gated-SCNN has
# it, and not at all where a set has so many classes that most are absent (the only reading under
# which E-CRF's ADE20K scores are possible; on Pascal a choice of this library). Boundary IoU's
# ratios are its authors' (Cheng et al.): 0.005 of the diagonal on Cityscapes, else 0.02.
_CITYSCAPES: dict[str, Any] = {"boundary_absent": "one", "boundary_iou_ratio": 0.005}
_OTHERS: dict[str, Any] = {"boundary_absent": "skip", "boundary_iou_ratio": 0.02}

_SINGLE_SCALE = {
    # mmsegmentation, configs/_base_/datasets/ade20k.py: short side 512, long at most 2048.
    "ade20k": Evaluation(resize_to=(2048, 512), **_OTHERS),
    # Segmenter's own code (Strudel et al., segm/config.yml): windows side by side, and what is
    # smaller than a window, as at scales below 1, is enlarged.
    "ade20k_slide512": Evaluation(
        mode="slide",
        resize_to=(2048, 512),
        window=(512, 512),
        stride=(512, 512),
        small="enlarge",
        **_OTHERS,
    ),
    # Segmenter as mmsegmentation tests it, configs/_base_/models/segmenter_vit-b16_mask.py.
    "ade20k_slide512_mmseg": Evaluation(
        mode="slide", resize_to=(2048, 512), window=(512, 512), stride=(480, 480), **_OTHERS
    ),
    # mmsegmentation, configs/_base_/datasets/cityscapes.py: 1024×2048 as it is.
    "cityscapes": Evaluation(resize_to=(2048, 1024), **_CITYSCAPES),
    # mmsegmentation's 769×769 configurations with align_corners: resized by one pixel.
    "cityscapes_slide769": Evaluation(
        mode="slide", resize_to=(2049, 1025), window=(769, 769), stride=(513, 513), **_CITYSCAPES
    ),
    # Segmenter's own code (segm/config.yml).
    "cityscapes_slide768": Evaluation(
        mode="slide",
        resize_to=(2048, 1024),
        window=(768, 768),
        stride=(512, 512),
        small="enlarge",
        **_CITYSCAPES,
    ),
    # The same windows in mmsegmentation's SETR, which differs at scales below 1.
    "cityscapes_slide768_mmseg": Evaluation(
        mode="slide", resize_to=(2048, 1024), window=(768, 768), stride=(512, 512), **_CITYSCAPES
    ),
    # mmsegmentation, configs/_base_/datasets/pascal_context.py and every network's 480×480
    # configuration, for 59 and 60 classes.
    "pascal_context": Evaluation(
        mode="slide", resize_to=(520, 520), window=(480, 480), stride=(320, 320), **_OTHERS
    ),
    # mmsegmentation, configs/_base_/datasets/pascal_voc12.py.
    "voc2012": Evaluation(resize_to=(2048, 512), **_OTHERS),
}


def _at_scales(suffix: str, scales: tuple[float, ...]) -> dict[str, Evaluation]:
    return {
        name + suffix: dataclasses.replace(protocol, scales=scales, flip=True)
        for name, protocol in _SINGLE_SCALE.items()
    }


# DifNet's released code, which tests at one scale: VOC's images have at most 500 pixels a side.
_DIFNET = {"voc2012_difnet": Evaluation(canvas=(505, 505), **_OTHERS)}

PROTOCOLS = (
    _SINGLE_SCALE | _DIFNET | _at_scales("_ms", MMSEG_SCALES) | _at_scales("_ms_sdn", SDN_SCALES)
)


def protocol(name: str) -> Evaluation:
    """The settings of a published protocol; change single ones with `dataclasses.replace`.

    `ade20k`, `ade20k_slide512`, `ade20k_slide512_mmseg`, `cityscapes`, `cityscapes_slide769`,
    `cityscapes_slide768`, `cityscapes_slide768_mmseg`, `pascal_context` and `voc2012`, each with
    `_ms` (six scales and mirrors, mmsegmentation's) and `_ms_sdn` (seven, up to 2.0, the SDN
    paper's); and `voc2012_difnet`, images on a canvas, at one scale alone.

    Scores are of labels at their own size, and nothing is padded. Images are resized as floats,
    not rounded to uint8 as OpenCV does it there.

    Raises: InputError with the nearest name if there is none of this name.
    """
    if name not in PROTOCOLS:
        single = f"; there are {', '.join(_SINGLE_SCALE | _DIFNET)}"
        raise unknown("unknown protocol", name, PROTOCOLS, otherwise=single)
    return PROTOCOLS[name]


def protocol_name(evaluation: Evaluation) -> str:
    """A short name of settings, for files: that of the protocol, or one made of what differs
    from the default, and the name of `finish`."""
    finish = [] if evaluation.finish is None else [finish_name(evaluation.finish)]
    # How fast it goes, and what is counted besides, make no other protocol.
    usual: dict[str, Any] = {"batch_size": Evaluation.batch_size, "metrics": (), "finish": None}
    for name, published in PROTOCOLS.items():
        if dataclasses.replace(evaluation, **usual) == published:
            return "_".join([name, *finish])
    parts: list[str] = [evaluation.mode]
    if evaluation.mode == "slide":
        parts[0] += f"{_size(evaluation.window)}-{_size(evaluation.stride)}"
        if evaluation.small != "shrink":
            parts.append(evaluation.small)
    elif evaluation.size_multiple > 1:
        parts.append(f"pad{evaluation.size_multiple}")
    if evaluation.canvas is not None:
        parts.append(f"canvas{_size(evaluation.canvas)}")
    if evaluation.resize_to is not None:
        parts.append(f"resize{_size(evaluation.resize_to)}")
    if evaluation.scales != (1.0,):
        parts.append("scales" + "-".join(f"{s:g}" for s in evaluation.scales))
    if evaluation.flip:
        parts.append("flip")
    return "_".join([*parts, *finish])


def finish_name(finish: Any) -> str:
    """What a `finish` is called: the name of the function, or of the value's class."""
    return re.sub(r"\W", "", getattr(finish, "__name__", type(finish).__name__))


def evaluation_record(values: Any) -> Any:
    """What a work directory recorded, as today's settings: before there was `small`, images
    smaller than a window were padded unless `size_multiple` was 1."""
    if isinstance(values, dict) and "small" not in values and values.get("mode") == "slide":
        exact = values.get("size_multiple") == 1
        values = {**values, "small": "shrink" if exact else "pad"}
    return values


def _size(pair: tuple[int, int]) -> str:
    return f"{pair[0]}x{pair[1]}"
