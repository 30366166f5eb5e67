"""ResNets of image classification as backbones: transformers', and mmseg's plain stem."""

import jax
import numpy as np
import pytest

from sdnjax.convert import hf_resnet, load, torchvision_resnet
from sdnjax.models import EncoderDecoder
from sdnjax.models.backbones.resnet import STAGE_BLOCKS, ResNet
from sdnjax.models.layers import Classifier
from tests.parity.harness import (
    captured,
    images_and_labels,
    randomise,
    relative,
    state_dict,
    torch,
)

WIDTHS = [64, 128, 256, 512]


def from_transformers(depth):
    """A classifier there, and where its stages come out."""
    transformers = pytest.importorskip("transformers")
    settings = transformers.ResNetConfig(
        depths=list(STAGE_BLOCKS[depth]),
        hidden_sizes=[w * (4 if depth > 34 else 1) for w in WIDTHS],
        layer_type="bottleneck" if depth > 34 else "basic",
    )
    network = transformers.ResNetForImageClassification(settings)
    return network, "resnet.encoder.stages.{}", hf_resnet


def from_mmseg(depth):
    """mmseg's ResNet with torchvision's stem, which kept torchvision's names."""
    from tests.parity.mmseg_reference import mmseg_network

    config = "sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py"
    widths = [w * (4 if depth > 34 else 1) for w in WIDTHS]
    changes = {"backbone": {"type": "ResNet", "depth": depth}, "neck": {"in_channels": widths}}
    return mmseg_network(config, changes).module.backbone, "layer{}", torchvision_resnet


@pytest.mark.parametrize(
    ("build", "depth"),
    [
        (from_transformers, 18),
        pytest.param(from_transformers, 50, marks=pytest.mark.slow),
        pytest.param(from_mmseg, 18, marks=pytest.mark.slow),
        pytest.param(from_mmseg, 101, marks=pytest.mark.slow),
    ],
)
def test_stages(build, depth):
    theirs, stage, table = build(depth)
    randomise(theirs, seed=0)
    theirs.eval()
    first = 0 if table is hf_resnet else 1
    picks = {f"stage{i + 1}": stage.format(i + first) for i in range(4)}
    images = images_and_labels(2)[0].astype(np.float32)
    with torch.no_grad(), captured(theirs, picks) as expected:
        theirs(torch.from_numpy(images).permute(0, 3, 1, 2))
    model = EncoderDecoder(ResNet(depth, stem="v1"), Classifier(2))
    lines = []
    variables = load(
        model, state_dict(theirs), table, reinitialise=["classifier"], report=lines.append
    )
    assert "reinitialised: params/classifier/seg/bias, params/classifier/seg/kernel;" in lines[0]
    with jax.default_matmul_precision("highest"):
        ours = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images)
    measured = {name: relative(ours[name], value) for name, value in expected.items()}
    print(depth, measured)
    assert max(measured.values()) < 1e-5
