"""MiT and SegFormer against mmsegmentation's."""

import jax.numpy as jnp
import pytest

from sdnjax.convert import mmseg_segformer
from sdnjax.models import create_model
from sdnjax.models.backbones.mit import SIZES
from tests.parity.harness import compare_outputs, compare_step, images_and_labels
from tests.parity.mmseg_reference import mmseg_network

K = 7
CONFIG = "segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py"
STAGES = {f"stage{i + 1}": ("backbone", lambda stages, i=i: stages[i]) for i in range(4)}


def pair(size, **options):
    """mmseg's network and ours of one size; "small" is a narrow one of four blocks."""
    width, depths = SIZES.get(size, (8, (1, 1, 1, 1)))
    channels = 24 if size == "small" else 256
    name = f"segformer_mit-{'b0' if size == 'small' else size}"
    model = create_model(name, num_classes=K, dropout=0.0, **options)
    model = model.clone(
        backbone=model.backbone.clone(width=width, depths=depths, drop_path=0.0),
        decoder=model.decoder.clone(channels=channels),
    )
    changes = {
        "backbone": {"embed_dims": width, "num_layers": list(depths)},
        "decode_head": {
            "in_channels": [width * n for n in (1, 2, 5, 8)],
            "channels": channels,
            "num_classes": K,
        },
    }
    return mmseg_network(CONFIG, changes), model


CASES = ["small", *(pytest.param(size, marks=pytest.mark.slow) for size in SIZES)]


@pytest.mark.parametrize("size", CASES)
def test_outputs(size):
    theirs, model = pair(size)
    images, _ = images_and_labels(K)
    picks = {**STAGES, "decoder": "decode_head.conv_seg"}
    print(size, compare_outputs(model, theirs, mmseg_segformer, picks, images=images))


@pytest.mark.slow
# Larger ones differ in numbers alone, which `test_outputs` checks.
@pytest.mark.parametrize("size", ["small", "b0", "b2"])
def test_training_step(size, x64):
    theirs, model = pair(size, dtype=jnp.float64)
    images, labels = images_and_labels(K, size=(65, 97), batch=2)
    measured = compare_step(model, theirs, mmseg_segformer, images=images, labels=labels)
    print(size, max(measured.items(), key=lambda item: item[1]))
