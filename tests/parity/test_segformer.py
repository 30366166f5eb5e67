"""MiT and SegFormer against mmsegmentation's and Hugging Face's."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.convert import hf_segformer, mmseg_segformer
from sdnjax.models import create_model
from sdnjax.models.backbones.mit import SIZES

torch = pytest.importorskip("torch")

from tests.parity import torch_side as side  # noqa: E402

K = 7
NARROW = (8, (1, 1, 1, 1))  # width and depths of the member that runs by default
SIZE_OF = {"small": NARROW, **SIZES}


def mmseg_network(width, depths, head):
    """mmsegmentation's `segformer_mit-*` configurations, spelled out."""
    pytest.importorskip("mmseg")
    return side.build_mmseg(
        {
            "type": "EncoderDecoder",
            "backbone": {
                "type": "MixVisionTransformer",
                "embed_dims": width,
                "num_layers": depths,
                "num_heads": [1, 2, 5, 8],
                "drop_path_rate": 0.0,
            },
            "decode_head": {
                "type": "SegformerHead",
                "in_channels": [width * n for n in (1, 2, 5, 8)],
                "in_index": [0, 1, 2, 3],
                "channels": head.channels,
                "num_classes": K,
                "dropout_ratio": 0.0,
                "norm_cfg": {"type": "BN"},
                "loss_decode": {"type": "CrossEntropyLoss"},
            },
            "test_cfg": {"mode": "whole"},
        }
    )


def hf_network(width, depths, head):
    transformers = pytest.importorskip("transformers")
    config = transformers.SegformerConfig(
        depths=list(depths),
        hidden_sizes=[width * n for n in (1, 2, 5, 8)],
        num_attention_heads=[1, 2, 5, 8],
        decoder_hidden_size=head.channels,
        num_labels=K,
        drop_path_rate=0.0,
        classifier_dropout_prob=0.0,
    )
    return transformers.SegformerForSemanticSegmentation(config)


def cases():
    for source in ("mmseg", "hf"):
        yield pytest.param((source, "small"), id=f"{source}-small")
        for size in SIZES:
            yield pytest.param((source, size), id=f"{source}-{size}", marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=cases())
def case(request):
    source, size = request.param
    width, depths = SIZE_OF[size]
    model = create_model(f"segformer_mit-{'b0' if size == 'small' else size}", num_classes=K)
    model = model.clone(backbone=model.backbone.clone(width=width, depths=depths, drop_path=0.0))
    table = {"mmseg": mmseg_segformer, "hf": hf_segformer}[source]
    if source == "hf":
        model = hf_segformer.like_source(model)
    if size == "small":
        model = model.clone(decoder=model.decoder.clone(channels=24))
    model = model.clone(decoder=model.decoder.clone(dropout=0.0))
    build = {"mmseg": mmseg_network, "hf": hf_network}[source]
    theirs = side.randomise(build(width, depths, model.decoder)).eval()
    images = np.random.default_rng(0).normal(size=(1, 97, 161, 3)).astype(np.float32)
    return source, model, theirs, table, images


def run_theirs(source, theirs, images):
    """Stages, scores and logits by our names; the scores' map is `[B, K, h, w]`."""
    x = torch.tensor(images).permute(0, 3, 1, 2)
    if source == "mmseg":
        stages = theirs.backbone(x)
        scores = theirs.decode_head(stages)
    else:
        found = theirs(x, output_hidden_states=True)
        stages, scores = found.hidden_states, found.logits
    logits = torch.nn.functional.interpolate(
        scores, x.shape[2:], mode="bilinear", align_corners=False
    )
    return {f"stage{i}": s for i, s in enumerate(stages, 1)} | {"decoder": scores, "logits": logits}


def tensors_of(source, theirs):
    return side.saved(theirs) if source == "hf" else side.arrays(theirs.state_dict())


def test_outputs(case):
    source, model, theirs, table, images = case
    rows, tensors = table.rows(model), tensors_of(source, theirs)
    assert not side.unused(rows, tensors, table.IGNORED)
    variables = side.to_variables(rows, tensors, model, images)
    assert side.count(dict(theirs.named_parameters())) == sum(
        x.size for x in jax.tree.leaves(variables["params"])
    )
    with torch.no_grad():
        expected = run_theirs(source, theirs, images)
    expected = {name: side.nhwc(x) for name, x in expected.items()}
    side.check_outputs(model, variables, images, expected)


def test_training(case, x64):
    source, model, theirs, table, images = case
    model = model.clone(
        backbone=model.backbone.clone(dtype=jnp.float64),
        decoder=model.decoder.clone(dtype=jnp.float64),
    )
    images = images.astype(np.float64)
    labels = np.random.default_rng(1).integers(0, K, images.shape[:3])
    labels[:, :9] = 255

    theirs = copy.deepcopy(theirs).double().train()
    rows = table.rows(model)
    variables = side.to_variables(rows, tensors_of(source, theirs), model, images)
    logits = run_theirs(source, theirs, images)["logits"]
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels), ignore_index=255)
    loss.backward()
    gradients = {name: x.grad for name, x in theirs.named_parameters()}
    gradients = side.saved(theirs, gradients) if source == "hf" else side.arrays(gradients)
    statistics = tensors_of(source, theirs)
    step = side.Step(loss.item(), gradients, statistics)
    side.check_training(model, rows, variables, (images, labels), step)
