"""MaskFormer and its loss against Hugging Face's."""

import jax.numpy as jnp
import pytest

from sdnjax.convert import hf_maskformer
from sdnjax.losses import maskformer_loss
from sdnjax.models import create_model
from sdnjax.models.backbones.resnet import ResNet
from sdnjax.models.backbones.swin import SIZES, Size, Swin
from sdnjax.models.decoders.maskformer import MaskFormerDecoder
from tests.parity.harness import compare_outputs, compare_step, images_and_labels, torch
from tests.parity.hf_reference import hf_network, transformers

K = 7
NARROW = Size(8, (1, 1, 2, 1), (1, 2, 2, 4), 4)
SMALL = {"channels": 64, "queries": 9, "layers": 2, "heads": 4, "hidden": 48}
FULL = {"channels": 256, "queries": 100, "layers": 6, "heads": 8, "hidden": 2048}
UNREAD = "encoder.model.layernorm."  # Swin's norm of the last map
OUT = ["stage1", "stage2", "stage3", "stage4"]


def masks_of(labels, dtype):
    """The masks and classes of every image, as its processor makes them."""
    classes = [y[y != 255].unique() for y in labels]
    masks = [
        (y[None] == found[:, None, None]).to(dtype)
        for y, found in zip(labels, classes, strict=True)
    ]
    return masks, classes


def per_layer(network, images):
    """Classes and masks of every decoder layer, each read through the decoder's final norm.

    transformers itself reads the layers before the last without the norm, which the original
    and mmsegmentation apply; the last is as it computes it.
    """
    found = []
    decoder = network.model.transformer_module.decoder
    handles = [
        layer.register_forward_hook(lambda _m, _x, y: found.append(y)) for layer in decoder.layers
    ]
    pixels = network.model(images).pixel_decoder_last_hidden_state
    for handle in handles:
        handle.remove()
    states = torch.stack([decoder.layernorm(x) for x in found])
    masks = torch.einsum("lbqc,bchw->lbqhw", network.mask_embedder(states), pixels)
    return network.class_predictor(states), masks


def logits(network, images):
    """Semantic inference of the original and of mmsegmentation."""
    output = network(images)
    masks = torch.nn.functional.interpolate(
        output.masks_queries_logits, images.shape[2:], mode="bilinear", align_corners=False
    )
    probabilities = output.class_queries_logits.softmax(-1)[..., :-1]
    return torch.einsum("bqk,bqhw->bkhw", probabilities, masks.sigmoid())


def loss(network, images, labels):
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    network.criterion.empty_weight[-1] = 0.1  # in double precision: it was made in single
    classes, masks = per_layer(network, images)
    auxiliary = [
        {"masks_queries_logits": m, "class_queries_logits": c}
        for m, c in zip(masks[:-1], classes[:-1], strict=True)
    ]
    targets = masks_of(labels, images.dtype)
    terms = network.get_loss_dict(masks[-1], classes[-1], *targets, auxiliary)
    unread = sum(x.sum() for name, x in network.named_parameters() if UNREAD in name)
    return sum(terms.values()) + 0 * unread  # a gradient of 0 instead of none


def pair(name, **options):
    small = name.startswith("small")
    known = {"small-swin": "maskformer_swin-t", "small-resnet": "maskformer_r50-d32"}
    model = create_model(known.get(name, name), num_classes=K, dropout=0.0, **options)
    shape = SMALL if small else FULL
    if small:
        model = model.clone(decoder=MaskFormerDecoder(K, **shape, dropout=0.0, **options))
    if isinstance(model.backbone, Swin):
        size = NARROW if small else SIZES[name[-1]]
        model = model.clone(backbone=Swin(*size, drop_path=0.0, **options))
        backbone = transformers.SwinConfig(
            embed_dim=size.width,
            depths=list(size.depths),
            num_heads=list(size.heads),
            window_size=size.window,
            out_features=OUT,
        )
    else:
        depth = 18 if small else model.backbone.depth
        model = model.clone(backbone=ResNet(depth, stem="v1", **options))
        widths = [64, 128, 256, 512] if small else [256, 512, 1024, 2048]
        backbone = transformers.ResNetConfig(
            hidden_sizes=widths,
            depths=[2, 2, 2, 2] if small else [3, 4, 23 if depth == 101 else 6, 3],
            layer_type="basic" if small else "bottleneck",
            out_features=OUT,
        )
    decoder = transformers.DetrConfig(
        d_model=shape["channels"],
        num_queries=shape["queries"],
        decoder_layers=shape["layers"],
        encoder_layers=1,
        decoder_attention_heads=shape["heads"],
        encoder_attention_heads=shape["heads"],
        decoder_ffn_dim=shape["hidden"],
        dropout=0.0,
        use_timm_backbone=False,
        backbone_config=transformers.ResNetConfig(),
    )
    config = transformers.MaskFormerConfig(
        backbone_config=backbone,
        decoder_config=decoder,
        fpn_feature_size=shape["channels"],
        mask_feature_size=shape["channels"],
        num_labels=K,
    )
    network = transformers.MaskFormerForInstanceSegmentation(config)
    theirs = hf_network(network, logits, loss)
    calm(network)
    if isinstance(model.backbone, Swin):  # the values that `to_torch` gives it
        network.model.pixel_level_module.encoder.model.layernorm.reset_parameters()
    return theirs, model


def calm(network):
    """Weights with which single precision is good for five digits.

    With the gain of a ReLU for every linear layer, which hardly any of them has, and with
    residual branches as large as their shortcuts, attention and masks saturate, and PyTorch's
    own float32 is 4e-5 away from its float64.
    """
    projections = ("input_projection", "mask_projection")
    with torch.no_grad():
        for name, part in network.named_modules():
            if isinstance(part, torch.nn.Linear):
                part.weight.mul_(0.7)
            if name.endswith(projections):
                part.weight.mul_(0.3)
            last_of_branch = ("layer.2.normalization", "layer.1.normalization")
            if isinstance(part, torch.nn.BatchNorm2d) and name.endswith(last_of_branch):
                part.weight.mul_(0.3)


CASES = [
    "small-swin",
    pytest.param("small-resnet", marks=pytest.mark.slow),
    *(
        pytest.param(f"maskformer_{x}", marks=pytest.mark.slow)
        for x in ("r50-d32", "r101-d32", "swin-t", "swin-s", "swin-b")
    ),
]

STEPS = ("small-resnet", "maskformer_r50-d32", "maskformer_swin-t")


@pytest.mark.parametrize("name", CASES)
def test_outputs(name):
    theirs, model = pair(name)
    images, _ = images_and_labels(K)
    inner = "network.model.pixel_level_module"
    picks = {
        **{
            f"stage{i + 1}": (f"{inner}.encoder", lambda y, i=i: y.feature_maps[i])
            for i in range(4)
        },
        "pixels": f"{inner}.decoder.mask_projection",
        "class_logits": ("network.class_predictor", lambda y: y[None].permute(0, 3, 1, 2)),
    }
    print(name, compare_outputs(model, theirs, hf_maskformer, picks, images=images))


# Larger ones differ in numbers alone, which `test_outputs` checks.
@pytest.mark.parametrize(
    "name",
    ["small-swin", *(pytest.param(x, marks=pytest.mark.slow) for x in STEPS)],
)
def test_training_step(name, x64):
    theirs, model = pair(name, dtype=jnp.float64)
    images, labels = images_and_labels(K, size=(65, 97), batch=2)
    labels[1][labels[1] == 3] = 255  # an image without class 3

    def our_loss(outputs, labels):
        return maskformer_loss(outputs["class_logits"], outputs["mask_logits"], labels)[0]

    measured = compare_step(
        model, theirs, hf_maskformer, images=images, labels=labels, loss=our_loss
    )
    print(name, max(measured.items(), key=lambda item: item[1]))
