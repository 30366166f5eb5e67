"""OCRNet on HRNetV2 against mmsegmentation's."""

import jax.numpy as jnp
import pytest

from sdnjax.convert import mmseg_ocr
from sdnjax.models import create_model
from tests.models.small import small_network
from tests.parity.harness import compare_outputs, compare_step, images_and_labels, torch
from tests.parity.mmseg_reference import mmseg_network

F = torch.nn.functional
K = 5
VARIANTS = {
    "small": {"width": 8, "modules": (0, 0, 1), "blocks": 1},
    "ocrnet_hr18s": {"width": 18, "modules": (1, 3, 2), "blocks": 2},
    "ocrnet_hr18": {"width": 18, "modules": (1, 4, 3), "blocks": 4},
    "ocrnet_hr48": {"width": 48, "modules": (1, 4, 3), "blocks": 4},
}


def ours(variant, **options):
    if variant == "small":
        return small_network("ocrnet_hr18", num_classes=K, **options)
    return create_model(variant, num_classes=K, **options)


def theirs(variant):
    """mmseg's network, whose auxiliary head runs once in a training step instead of twice."""
    size = VARIANTS[variant]
    widths = [size["width"] * 2**i for i in range(4)]
    blocks = size["blocks"]
    extra = {"stage1": {"num_blocks": (blocks,)}}
    for n, modules in enumerate(size["modules"], start=2):
        extra[f"stage{n}"] = {
            "num_modules": modules,
            "num_blocks": (blocks,) * n,
            "num_channels": widths[:n],
        }
    common = {
        "in_channels": widths,
        "in_index": (0, 1, 2, 3),
        "input_transform": "resize_concat",
        "num_classes": K,
        "norm_cfg": {"type": "BN"},
        "align_corners": False,
    }
    auxiliary = {"channels": sum(widths), "kernel_size": 1, "num_convs": 1, "concat_input": False}
    channels, keys = (24, 16) if variant == "small" else (512, 256)
    heads = [
        {"type": "FCNHead", **common, **auxiliary},
        {"type": "OCRHead", **common, "channels": channels, "ocr_channels": keys},
    ]
    network = mmseg_network(
        "ocrnet/ocrnet_hr18_4xb4-80k_ade20k-512x512.py",
        {"backbone": {"extra": extra}, "decode_head": heads},
    )
    module = network.module

    def loss(images, labels):
        features = module.extract_feat(images)
        scores = module.decode_head[0](features)
        pairs = ((scores, 0.4), (module.decode_head[1](features, scores), 1.0))
        return sum(
            weight
            * F.cross_entropy(
                resized(s, labels.shape[1:]), labels, ignore_index=255, reduction="sum"
            )
            / labels.numel()
            for s, weight in pairs
        )

    network.loss = loss
    return network


def resized(scores, size):
    return F.interpolate(scores, size, mode="bilinear", align_corners=False)


def picks(size):
    return {
        **{f"stage{i + 1}": ("backbone", lambda y, i=i: y[i]) for i in range(4)},
        "auxiliary": ("decode_head.0.conv_seg", lambda y: resized(y, size)),
        "regions": (
            "decode_head.1.spatial_gather_module",
            lambda y: y.squeeze(3).transpose(1, 2),
        ),
        "features": "decode_head.1.object_context_block",
        "decoder": "decode_head.1.conv_seg",
    }


CASES = [
    "small",
    *(pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS if name != "small"),
]


@pytest.mark.parametrize("variant", CASES)
def test_outputs(variant):
    size = (65, 97) if variant == "small" else (97, 161)
    images, _ = images_and_labels(K, size=size)
    measured = compare_outputs(
        ours(variant), theirs(variant), mmseg_ocr, picks(size), images=images
    )
    print(variant, measured)


@pytest.mark.slow
# Larger ones differ in numbers alone, which `test_outputs` checks.
@pytest.mark.parametrize("variant", ["small", "ocrnet_hr18s"])
def test_training_step(variant, x64):
    images, labels = images_and_labels(K, size=(49, 65), batch=2)
    model = ours(variant, dtype=jnp.float64)
    measured = compare_step(model, theirs(variant), mmseg_ocr, images=images, labels=labels)
    print(variant, max(measured.items(), key=lambda item: item[1]), measured["loss"])
