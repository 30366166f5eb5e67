"""ViT and Segmenter against the official network, stated in PyTorch by its own names."""

import math
import re

import jax
import numpy as np
import pytest

from sdnjax.convert import augreg_vit, load, official_segmenter, timm_vit, to_torch
from sdnjax.models import create_model
from sdnjax.models.decoders.segmenter import MaskTransformer
from tests.models.variables import random_variables

torch = pytest.importorskip("torch")
F = torch.nn.functional

K, WIDTH, HEADS = 5, 24, 3


def network(decoder):
    model = create_model(f"segmenter_vit-t_{decoder}", num_classes=K, like="official")
    small = {"width": WIDTH, "depth": 2, "heads": HEADS, "position_grid": (3, 3)}
    model = model.clone(backbone=model.backbone.clone(**small))
    if decoder == "mask":
        model = model.clone(classifier=MaskTransformer(K, WIDTH, HEADS))
    return model


def norm(state, name, x):
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)


def linear(state, name, x):
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def block(state, name, x):
    b, n, c = x.shape
    qkv = linear(state, f"{name}.attn.qkv", norm(state, f"{name}.norm1", x))
    q, k, v = qkv.reshape(b, n, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4)
    weights = ((q @ k.transpose(-2, -1)) * (c // HEADS) ** -0.5).softmax(-1)
    x = x + linear(state, f"{name}.attn.proj", (weights @ v).transpose(1, 2).reshape(b, n, c))
    hidden = F.gelu(linear(state, f"{name}.mlp.fc1", norm(state, f"{name}.norm2", x)))
    return x + linear(state, f"{name}.mlp.fc2", hidden)


def official(state, images):
    """Scores `[B, h, w, K]` of an image that is whole patches; three heads."""
    depth = len(
        [name for name in state if re.fullmatch(r"encoder\.blocks\.\d+\.norm1\.bias", name)]
    )
    patch = state["encoder.patch_embed.proj.weight"]
    x = F.conv2d(images, patch, state["encoder.patch_embed.proj.bias"], stride=16)
    b, c, h, w = x.shape
    position = state["encoder.pos_embed"]
    side = math.isqrt(position.shape[1] - 1)
    grid = position[:, 1:].reshape(1, side, side, c).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, (h, w), mode="bilinear").flatten(2).transpose(1, 2)
    x = torch.cat([state["encoder.cls_token"].expand(b, -1, -1), x.flatten(2).transpose(1, 2)], 1)
    x = x + torch.cat([position[:, :1], grid], 1)
    for i in range(depth):
        x = block(state, f"encoder.blocks.{i}", x)
    x = norm(state, "encoder.norm", x)[:, 1:]
    if "decoder.head.weight" in state:
        return linear(state, "decoder.head", x).reshape(b, h, w, -1)
    x = linear(state, "decoder.proj_dec", x)
    k = state["decoder.cls_emb"].shape[1]
    x = torch.cat([x, state["decoder.cls_emb"].expand(b, -1, -1)], 1)
    for i in range(2):
        x = block(state, f"decoder.blocks.{i}", x)
    x = norm(state, "decoder.decoder_norm", x)
    patches = F.normalize(x[:, :-k] @ state["decoder.proj_patch"], dim=-1)
    classes = F.normalize(x[:, -k:] @ state["decoder.proj_classes"], dim=-1)
    return norm(state, "decoder.mask_norm", patches @ classes.transpose(1, 2)).reshape(b, h, w, k)


@pytest.mark.parametrize("decoder", ["mask", "linear"])
def test_scores(decoder):
    model = network(decoder)
    images = np.random.default_rng(0).normal(size=(2, 64, 80, 3)).astype(np.float32)
    variables = jax.tree.map(np.float32, random_variables(model, images, 1))
    state = to_torch(model, variables, official_segmenter)
    again = load(model, {"model": state}, official_segmenter, report=lambda _: None)
    jax.tree.map(np.testing.assert_array_equal, again["params"], variables["params"])

    tensors = {name: torch.from_numpy(x) for name, x in state.items()}
    expected = official(tensors, torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    outputs = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images)
    assert np.abs(outputs["decoder"] - expected).max() < 1e-5 * np.abs(expected).max()


def test_pixels_beyond_the_last_patch_are_zeros_below_and_to_the_right():
    model = network("linear")
    images = np.random.default_rng(0).normal(size=(1, 41, 50, 3)).astype(np.float32)
    variables = jax.tree.map(np.float32, random_variables(model, images, 1))
    padded = np.pad(images, ((0, 0), (0, 7), (0, 14), (0, 0)))
    run = jax.jit(lambda x: model.apply(variables, x, train=False))
    found, whole = run(images), run(padded)
    assert found["decoder"].shape == (1, 3, 4, K)
    np.testing.assert_array_equal(found["decoder"], whole["decoder"])
    # What the scores say of those is cut off, and whoever resizes must start from what is left.
    np.testing.assert_allclose(found["logits"], whole["logits"][:, :41, :50], rtol=1e-6)
    assert model.logits_from == "logits"
    assert create_model("segmenter_vit-t_linear", num_classes=K).logits_from == "scores"


def test_augreg_and_timm_hold_the_same_backbone():
    """AugReg's file as timm reads it: heads split off, kernels transposed."""
    model = network("linear")
    images = np.zeros((1, 32, 32, 3), np.float32)
    variables = jax.tree.map(np.float32, random_variables(model, images, 2))
    state = to_torch(model, variables, timm_vit, drop=["classifier"])
    position = "Transformer/posembed_input/pos_embedding"
    npz = {
        "cls": state["cls_token"],
        position: state["pos_embed"],
        "embedding/kernel": state["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "head/kernel": np.zeros((WIDTH, 7), np.float32),
    }
    pairs = [("norm", "encoder_norm", ("scale", "bias"))]
    for i in range(2):
        theirs = f"encoderblock_{i}"
        pairs += [
            (f"blocks.{i}.norm1", f"{theirs}/LayerNorm_0", ("scale", "bias")),
            (f"blocks.{i}.norm2", f"{theirs}/LayerNorm_2", ("scale", "bias")),
            (f"blocks.{i}.mlp.fc1", f"{theirs}/MlpBlock_3/Dense_0", ("kernel", "bias")),
            (f"blocks.{i}.mlp.fc2", f"{theirs}/MlpBlock_3/Dense_1", ("kernel", "bias")),
        ]
        attention = f"Transformer/{theirs}/MultiHeadDotProductAttention_1"
        qkv, bias = state[f"blocks.{i}.attn.qkv.weight"], state[f"blocks.{i}.attn.qkv.bias"]
        for j, name in enumerate(("query", "key", "value")):
            rows = slice(j * WIDTH, (j + 1) * WIDTH)
            npz[f"{attention}/{name}/kernel"] = qkv[rows].T.reshape(WIDTH, HEADS, -1)
            npz[f"{attention}/{name}/bias"] = bias[rows].reshape(HEADS, -1)
        out = state[f"blocks.{i}.attn.proj.weight"]
        npz[f"{attention}/out/kernel"] = out.T.reshape(HEADS, -1, WIDTH)
        npz[f"{attention}/out/bias"] = state[f"blocks.{i}.attn.proj.bias"]
    for ours, theirs, (weight, bias) in pairs:
        npz[f"Transformer/{theirs}/{weight}"] = state[f"{ours}.weight"].T
        npz[f"Transformer/{theirs}/{bias}"] = state[f"{ours}.bias"]

    def backbone(source, table):
        found = load(model, source, table, reinitialise=["classifier"], report=lambda _: None)
        return found["params"]["backbone"]

    timm, augreg = backbone(state, timm_vit), backbone(npz, augreg_vit)
    jax.tree.map(np.testing.assert_array_equal, timm, variables["params"]["backbone"])
    jax.tree.map(np.testing.assert_array_equal, augreg, timm)


def test_positions_of_another_size_are_resized_and_said():
    model = network("linear")
    images = np.zeros((1, 32, 32, 3), np.float32)
    variables = jax.tree.map(np.float32, random_variables(model, images, 2))
    state = to_torch(model, variables, official_segmenter)
    position = np.random.default_rng(0).normal(size=(1, 1 + 25, WIDTH)).astype(np.float32)
    notes = []
    loaded = load(
        model, state | {"encoder.pos_embed": position}, official_segmenter, report=notes.append
    )
    grid = torch.from_numpy(position[:, 1:]).reshape(1, 5, 5, WIDTH).permute(0, 3, 1, 2)
    expected = F.interpolate(grid, (3, 3), mode="bilinear").permute(0, 2, 3, 1).reshape(9, WIDTH)
    found = loaded["params"]["backbone"]["position_embedding"]
    np.testing.assert_allclose(found[0, 1:], expected, atol=1e-6)
    np.testing.assert_array_equal(found[0, 0], position[0, 0])
    assert "resized: encoder.pos_embed from 5×5 to 3×3, bilinear" in notes
