"""ViT and Segmenter against mmsegmentation's."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.convert import mmseg_segmenter
from sdnjax.models import create_model
from sdnjax.models.backbones.vit import SIZES, ViT
from sdnjax.models.decoders.segmenter import MaskDecoder

torch = pytest.importorskip("torch")
pytest.importorskip("mmseg")

from tests.parity import torch_side as side  # noqa: E402

K = 7


def theirs_of(width, depth, heads, decoder, image_size):
    """mmsegmentation's `segmenter_vit-*` configurations, spelled out."""
    head = {
        "mask": {
            "type": "SegmenterMaskTransformerHead",
            "num_layers": 2,
            "num_heads": heads,
            "embed_dims": width,
        },
        "linear": {"type": "FCNHead", "num_convs": 0, "concat_input": False},
    }[decoder]
    return side.build_mmseg(
        {
            "type": "EncoderDecoder",
            "backbone": {
                "type": "VisionTransformer",
                "img_size": (image_size, image_size),
                "embed_dims": width,
                "num_layers": depth,
                "num_heads": heads,
                "drop_path_rate": 0.1,
                "final_norm": True,
                "norm_cfg": {"type": "LN", "eps": 1e-6},
                "interpolate_mode": "bicubic",
            },
            "decode_head": {
                "in_channels": width,
                "channels": width,
                "num_classes": K,
                "dropout_ratio": 0.0,
                "loss_decode": {"type": "CrossEntropyLoss"},
                **head,
            },
            "test_cfg": {"mode": "whole"},
        }
    )


def small(decoder):
    """A member of the family of two narrow blocks, its positions stored on a 4×4 grid."""
    model = create_model(f"segmenter_vit-t_{decoder}", num_classes=K)
    return model.clone(
        backbone=ViT(48, 2, 3, position_grid=(4, 4), patch_bias=False),
        decoder=MaskDecoder(K, 48, 3) if decoder == "mask" else model.decoder,
    )


def pairs():
    for decoder in ("mask", "linear"):
        yield pytest.param((decoder, None), id=f"small-{decoder}")
    for size in SIZES:
        for decoder in ("mask", "linear"):
            marks = pytest.mark.slow
            yield pytest.param((decoder, size), id=f"vit-{size}-{decoder}", marks=marks)


@pytest.fixture(scope="module", params=pairs())
def pair(request):
    """Our module, theirs with random weights, the table's rows, images."""
    decoder, size = request.param
    if size is None:
        model, theirs = small(decoder), theirs_of(48, 2, 3, decoder, 64)
    else:
        model = create_model(f"segmenter_vit-{size}_{decoder}", num_classes=K)
        theirs = theirs_of(*SIZES[size], decoder, 16 * model.backbone.position_grid[0])
    side.randomise(theirs).eval()
    images = np.random.default_rng(0).normal(size=(1, 97, 161, 3)).astype(np.float32)
    return model, theirs, mmseg_segmenter.rows(model), images


def run_theirs(theirs, images):
    """Logits at the image's size, and every block's tokens by our names."""
    found = {}

    def keep(name):
        return lambda module, inputs, output: found.__setitem__(name, output)

    handles = [
        layer.register_forward_hook(keep(f"backbone/block{i}"))
        for i, layer in enumerate(theirs.backbone.layers)
    ]
    for i, layer in enumerate(getattr(theirs.decode_head, "layers", [])):
        handles.append(layer.register_forward_hook(keep(f"decoder/block{i}")))
    x = torch.tensor(images).permute(0, 3, 1, 2)
    stages = theirs.backbone(x)
    scores = theirs.decode_head(stages)
    for handle in handles:
        handle.remove()
    logits = torch.nn.functional.interpolate(
        scores, x.shape[2:], mode="bilinear", align_corners=False
    )
    found |= {"stage1": stages[0], "decoder": scores, "logits": logits}
    return {
        name: value.permute(0, 2, 3, 1) if value.ndim == 4 else value
        for name, value in found.items()
    }


def test_outputs(pair):
    model, theirs, rows, images = pair
    tensors = side.arrays(theirs.state_dict())
    assert not side.unused(rows, tensors, mmseg_segmenter.IGNORED)
    variables = side.to_variables(rows, tensors, model, images)
    assert side.count(dict(theirs.named_parameters())) == sum(
        x.size for x in jax.tree.leaves(variables["params"])
    )
    with torch.no_grad():
        expected = run_theirs(theirs, images)

    side.check_outputs(model, variables, images, expected)


def test_gradients(pair, x64):
    """float64 on both sides, in training mode without stochastic depth."""
    model, theirs, rows, images = pair
    model = model.clone(
        backbone=model.backbone.clone(drop_path=0.0, dtype=jnp.float64),
        decoder=model.decoder.clone(dtype=jnp.float64, **without_drop_path(model.decoder)),
    )
    images = images.astype(np.float64)
    labels = np.random.default_rng(1).integers(0, K, images.shape[:3])
    labels[:, :9] = 255

    theirs = copy.deepcopy(theirs).double()
    logits = run_theirs(theirs, images)["logits"]
    loss = torch.nn.functional.cross_entropy(
        logits.permute(0, 3, 1, 2), torch.tensor(labels), ignore_index=255
    )
    loss.backward()
    gradients = {name: x.grad.numpy() for name, x in theirs.named_parameters()}
    variables = side.to_variables(rows, side.arrays(theirs.state_dict()), model, images)
    step = side.Step(loss.item(), gradients, {})
    side.check_training(model, rows, variables, (images, labels), step)


def without_drop_path(decoder):
    return {"drop_path": 0.0} if isinstance(decoder, MaskDecoder) else {}
