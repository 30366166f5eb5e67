"""DeepLabV3+ on ResNets against mmsegmentation's."""

import jax.numpy as jnp
import pytest

from sdnjax.convert import mmseg_deeplab
from sdnjax.models import create_model
from tests.parity.harness import compare_outputs, compare_step, images_and_labels
from tests.parity.mmseg_reference import mmseg_network

K = 5
PICKS = {
    **{f"stage{i}": f"backbone.layer{i}" for i in range(1, 5)},
    "features": "decode_head.sep_bottleneck",
    "decoder": "decode_head.conv_seg",
}


def theirs(depth, align_corners=False):
    """mmseg's network with the widths of its configurations for depth 18 or for 50 and 101."""
    common = {"num_classes": K, "align_corners": align_corners}
    main, auxiliary = common, common
    if depth < 50:
        main = {**common, "in_channels": 512, "channels": 128}
        main |= {"c1_in_channels": 64, "c1_channels": 12}
        auxiliary = {**common, "in_channels": 256, "channels": 64}
    return mmseg_network(
        "deeplabv3plus/deeplabv3plus_r50-d8_4xb4-80k_ade20k-512x512.py",
        {"backbone": {"depth": depth}, "decode_head": main, "auxiliary_head": auxiliary},
    )


CASES = [18, *(pytest.param(depth, marks=pytest.mark.slow) for depth in (50, 101))]


@pytest.mark.parametrize("depth", CASES)
def test_outputs(depth):
    images, _ = images_and_labels(K, size=(97, 161))
    model = create_model(f"deeplabv3plus_r{depth}-d8", num_classes=K)
    print(depth, compare_outputs(model, theirs(depth), mmseg_deeplab, PICKS, images=images))


@pytest.mark.slow
def test_outputs_with_align_corners():
    """As in mmseg's configurations for crops of 769."""
    images, _ = images_and_labels(K, size=(97, 161))
    model = create_model("deeplabv3plus_r18-d8", num_classes=K, align_corners=True)
    print(compare_outputs(model, theirs(18, True), mmseg_deeplab, PICKS, images=images))


@pytest.mark.slow
# Larger ones differ in numbers alone, which `test_outputs` checks.
@pytest.mark.parametrize("depth", [18, 50])
def test_training_step(depth, x64):
    images, labels = images_and_labels(K, size=(49, 65), batch=2)
    options = {"num_classes": K, "dropout": 0.0, "dtype": jnp.float64}
    model = create_model(f"deeplabv3plus_r{depth}-d8", **options)
    measured = compare_step(model, theirs(depth), mmseg_deeplab, images=images, labels=labels)
    print(depth, max(measured.items(), key=lambda item: item[1]), measured["loss"])
