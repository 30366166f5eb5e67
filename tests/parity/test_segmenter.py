"""ViT and Segmenter against mmsegmentation's."""

import jax.numpy as jnp
import pytest

from sdnjax.convert import mmseg_segmenter
from sdnjax.models import create_model
from sdnjax.models.backbones.vit import SIZES, ViT
from sdnjax.models.decoders.segmenter import MaskTransformer
from tests.parity.harness import compare_outputs, compare_step, images_and_labels
from tests.parity.mmseg_reference import mmseg_network

K = 7
CONFIGS = {
    "mask": "segmenter/segmenter_vit-s_mask_8xb1-160k_ade20k-512x512.py",
    "linear": "segmenter/segmenter_vit-s_fcn_8xb1-160k_ade20k-512x512.py",
}


def pair(size, decoder, **options):
    """mmseg's network and ours of one size; "small" is a narrow one with a 4×4 position grid."""
    width, depth, heads = SIZES.get(size, (48, 2, 3))
    name = f"segmenter_vit-{'t' if size == 'small' else size}_{decoder}"
    model = create_model(name, num_classes=K, **options)
    if size == "small":
        vit = ViT(48, 2, 3, position_grid=(4, 4), patch_bias=False, **options)
        model = model.clone(backbone=vit)
        if decoder == "mask":
            model = model.clone(classifier=MaskTransformer(K, 48, 3, **options))
    without = model.clone(backbone=model.backbone.clone(drop_path=0.0))
    if decoder == "mask":
        without = without.clone(classifier=model.classifier.clone(drop_path=0.0))
    side = 16 * model.backbone.position_grid[0]
    backbone = {"embed_dims": width, "num_layers": depth, "num_heads": heads}
    head = {"in_channels": width, "channels": width, "num_classes": K}
    if decoder == "mask":
        head |= {"embed_dims": width, "num_heads": heads}
    changes = {
        "backbone": {**backbone, "img_size": (side, side)},
        "decode_head": head,
        "test_cfg": {"mode": "whole"},
    }
    return mmseg_network(CONFIGS[decoder], changes), without


SMALL = [pytest.param("small", decoder, id=f"small-{decoder}") for decoder in CONFIGS]
PUBLISHED = [
    pytest.param(size, decoder, id=f"vit-{size}-{decoder}", marks=pytest.mark.slow)
    for size, decoder in [*((size, "mask") for size in SIZES), ("t", "linear")]
]


@pytest.mark.parametrize(("size", "decoder"), [*SMALL, *PUBLISHED])
def test_outputs(size, decoder):
    theirs, model = pair(size, decoder)
    images, _ = images_and_labels(K)
    scores = {
        "mask": ("decode_head.mask_norm", lambda y: y.transpose(1, 2).reshape(1, K, 7, 11)),
        "linear": "decode_head.conv_seg",
    }
    picks = {"stage1": ("backbone", lambda stages: stages[0]), "decoder": scores[decoder]}
    measured = compare_outputs(model, theirs, mmseg_segmenter, picks, images=images)
    print(size, decoder, measured)


# Larger ones differ in numbers alone, which `test_outputs` checks.
@pytest.mark.parametrize(("size", "decoder"), [*SMALL, PUBLISHED[0]])
def test_training_step(size, decoder, x64):
    theirs, model = pair(size, decoder, dtype=jnp.float64)
    images, labels = images_and_labels(K, size=(49, 81))
    measured = compare_step(model, theirs, mmseg_segmenter, images=images, labels=labels)
    print(size, decoder, max(measured.items(), key=lambda item: item[1]))
