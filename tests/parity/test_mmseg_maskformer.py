"""MaskFormer against mmsegmentation's, whose head is mmdetection's.

Needs mmdetection 3 beside mmsegmentation: `pip install --no-deps mmdet pycocotools terminaltables
shapely`.
"""

import jax.numpy as jnp
import pytest

from sdnjax.convert import mmseg_maskformer
from sdnjax.losses import maskformer_loss
from sdnjax.models import create_model
from tests.parity.harness import compare_outputs, compare_step, images_and_labels, torch
from tests.parity.mmseg_reference import mmseg_network
from tests.parity.test_maskformer import calm

pytest.importorskip("mmdet")
pytestmark = pytest.mark.slow

K = 7
CONFIGS = {
    "maskformer_r50-d32": "maskformer/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py",
    "maskformer_swin-t": "maskformer/maskformer_swin-t_upernet_8xb2-160k_ade20k-512x512.py",
    "maskformer_swin-s": "maskformer/maskformer_swin-s_upernet_8xb2-160k_ade20k-512x512.py",
}


def theirs(name):
    still = {"attn_drop": 0.0}  # a number there, no module
    changes = {
        "decode_head": {
            "num_classes": K,
            "loss_cls": {"class_weight": [1.0] * K + [0.1]},
            "transformer_decoder": {"layer_cfg": {"self_attn_cfg": still, "cross_attn_cfg": still}},
        },
        "test_cfg": {"mode": "whole"},
    }
    network = mmseg_network(CONFIGS[name], changes)
    calm(network.module)
    return network


@pytest.mark.parametrize("name", CONFIGS)
def test_outputs(name):
    images, _ = images_and_labels(K)
    picks = {
        "pixels": "decode_head.pixel_decoder.mask_feature",
        "class_logits": ("decode_head.cls_embed", lambda y: y[-1:].permute(0, 3, 1, 2)),
    }
    model = create_model(name, num_classes=K, dropout=0.0)
    model = model.clone(backbone=model.backbone.clone(drop_path=0.0)) if "swin" in name else model
    print(name, compare_outputs(model, theirs(name), mmseg_maskformer, picks, images=images))


def test_training_step(x64, monkeypatch):
    """Matching and losses as mmdetection has them."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # it casts masks to single
    name = "maskformer_r50-d32"
    images, labels = images_and_labels(K, size=(65, 97), batch=2)
    labels[1][labels[1] == 3] = 255  # an image without class 3
    model = create_model(name, num_classes=K, dropout=0.0, dtype=jnp.float64)

    def our_loss(outputs, labels):
        return maskformer_loss(outputs["class_logits"], outputs["mask_logits"], labels)[0]

    network = theirs(name)
    measured = compare_step(
        *(model, network, mmseg_maskformer),
        images=images,
        labels=labels,
        loss=our_loss,
        tolerance=2e-6,  # its encodings of positions are computed in single precision
    )
    print(name, max(measured.items(), key=lambda item: item[1]))
