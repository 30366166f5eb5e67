"""A member of each family of networks that is small enough for every run of the tests."""

import jax.numpy as jnp

from sdnjax.models import create_model
from sdnjax.models.backbones.efficientnet_lite import EfficientNetLite, Group
from sdnjax.models.backbones.hrnet import HRNet
from sdnjax.models.backbones.resnet import ResNet
from sdnjax.models.decoders.ocr import OCRHead
from sdnjax.models.decoders.semantic_fpn import SemanticFPNHead
from sdnjax.models.layers import Classifier

LITE = (
    Group(1, 3, 1, 1, 8),
    Group(1, 3, 2, 6, 8),
    Group(1, 5, 2, 3, 12),
    Group(1, 3, 2, 3, 16),
    Group(2, 5, 2, 3, 20),
)


def small_network(name, **options):
    """`create_model` with the parts that are large made small."""
    model = create_model(name, **options)
    dtype = options.get("dtype", jnp.float32)
    k, align = options["num_classes"], options.get("align_corners", False)
    if name.startswith("ocrnet"):  # one exchange between all four branches
        return model.clone(
            backbone=HRNet(8, (0, 0, 1), 1, align_corners=align, dtype=dtype),
            decoder=OCRHead(k, 24, 16, align_corners=align, dtype=dtype),
        )
    if name.startswith("deeplabv2"):
        return model.clone(backbone=ResNet(18, output_stride=8, dtype=dtype))
    if "efficientnet" in name:
        return model.clone(
            backbone=EfficientNetLite(LITE, drop_path=0.0, dtype=dtype),
            decoder=SemanticFPNHead(16, 16, dtype=dtype),
            classifier=Classifier(k, 0.0, dtype),
        )
    return model
