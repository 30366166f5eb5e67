"""MiT and SegFormer against Hugging Face's, whose head is the official one."""

import jax.numpy as jnp
import pytest

from sdnjax.convert import hf_segformer
from sdnjax.models import create_model
from sdnjax.models.backbones.mit import SIZES
from tests.parity.harness import compare_outputs, compare_step, images_and_labels, torch
from tests.parity.hf_reference import hf_network, transformers, upsampled

K = 7
STAGE = "network.segformer.encoder"


def logits(network, images):
    return upsampled(network(images).logits, images)


def loss(network, images, labels):
    scores = logits(network, images)
    total = torch.nn.functional.cross_entropy(scores, labels, ignore_index=255, reduction="sum")
    return total / labels.numel()


def pair(size, **options):
    width, depths = SIZES.get(size, (8, (1, 1, 1, 1)))
    name = f"segformer_mit-{'b0' if size == 'small' else size}"
    model = create_model(name, num_classes=K, dropout=0.0, like="hf", **options)
    model = model.clone(backbone=model.backbone.clone(width=width, depths=depths, drop_path=0.0))
    if size == "small":
        model = model.clone(decoder=model.decoder.clone(channels=24))
    config = transformers.SegformerConfig(
        depths=list(depths),
        hidden_sizes=[width * n for n in (1, 2, 5, 8)],
        num_attention_heads=[1, 2, 5, 8],
        decoder_hidden_size=model.decoder.channels,
        num_labels=K,
    )
    network = transformers.SegformerForSemanticSegmentation(config)
    return hf_network(network, logits, loss), model


CASES = ["small", *(pytest.param(size, marks=pytest.mark.slow) for size in SIZES)]


@pytest.mark.parametrize("size", CASES)
def test_outputs(size):
    theirs, model = pair(size)
    images, _ = images_and_labels(K)
    picks = {
        f"stage{i + 1}": ("network.segformer", lambda y, i=i: y.hidden_states[i]) for i in range(4)
    }
    theirs.module.network.config.output_hidden_states = True
    picks["decoder"] = "network.decode_head"
    print(size, compare_outputs(model, theirs, hf_segformer, picks, images=images))


@pytest.mark.slow
# Larger ones differ in numbers alone, which `test_outputs` checks.
@pytest.mark.parametrize("size", ["small", "b0"])
def test_training_step(size, x64):
    theirs, model = pair(size, dtype=jnp.float64)
    images, labels = images_and_labels(K, size=(65, 97), batch=2)
    measured = compare_step(model, theirs, hf_segformer, images=images, labels=labels)
    print(size, max(measured.items(), key=lambda item: item[1]))
