"""Parts of the transformers against plain statements; what all their networks share."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from sdnjax.errors import InputError
from sdnjax.models import create_model
from sdnjax.models.backbones.mit import MixBlock
from sdnjax.models.backbones.resnet import ResNet
from sdnjax.models.backbones.swin import PatchMerging, Swin, WindowAttention
from sdnjax.models.backbones.vit import ViT
from sdnjax.models.decoders.maskformer import (
    MaskFormerDecoder,
    PixelDecoder,
    QueryLayer,
    sine_positions,
)
from sdnjax.models.decoders.segmenter import MaskTransformer
from sdnjax.models.transformer import drop_path, linear_rates
from tests.compiler import AS_USERS
from tests.models.variables import random_variables


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def made(module, *inputs, **options):
    """Float64 parameters with nothing left at its initial value, and the result."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs, **options))

    def value(path, x):
        x = rng.normal(size=x.shape) / np.sqrt(max(np.prod(x.shape[:-1]), 1))
        return x + (path[-1].key == "scale")

    params = jax.tree_util.tree_map_with_path(value, shapes)
    return params["params"], module.apply(params, *inputs, **options)


def layer_norm(p, x, epsilon=1e-5):
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.mean(centred**2, axis=-1, keepdims=True)
    return centred / np.sqrt(variance + epsilon) * p["scale"] + p["bias"]


def dense(p, x):
    return x @ p["kernel"] + p["bias"]


def attention(p, heads, query, key, value, *, allowed=None, bias=0.0):
    """One head and one image at a time: `[M, C]`, `[N, C]`, `[N, C]` → `[M, C]`."""
    q, k, v = dense(p["query"], query), dense(p["key"], key), dense(p["value"], value)
    outputs = []
    for i, (a, b, c) in enumerate(
        zip(*(np.split(x, heads, axis=-1) for x in (q, k, v)), strict=True)
    ):
        scores = a @ b.T / np.sqrt(a.shape[-1])
        scores = scores + (bias[..., i] if np.ndim(bias) else bias)
        if allowed is not None:
            scores = np.where(allowed, scores, scores - 100)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        outputs.append(weights / weights.sum(axis=-1, keepdims=True) @ c)
    return dense(p["out"], np.concatenate(outputs, axis=-1))


@pytest.mark.parametrize("shift", [0, 2])
def test_window_attention_pair_by_pair(x64, shift):
    """Each token of a padded 6×7 map attends to the tokens of its (cyclically moved) window."""
    side, heads, (h, w) = 4, 2, (6, 7)
    x = normal(1, h, w, 4)
    module = WindowAttention(heads, side, shift, jnp.float64)
    p, y = made(module, x, train=False)
    padded = np.pad(x[0], ((0, 2), (0, 1), (0, 0)))
    n = 8
    place = [(i, j) for i in range(n) for j in range(n)]
    moved = [((i - shift) % n, (j - shift) % n) for i, j in place]
    rows = np.arange(n * n)
    same = np.array(
        [
            [a[0] // side == b[0] // side and a[1] // side == b[1] // side for b in moved]
            for a in moved
        ]
    )
    # Within a window, only tokens that did not come around the border see each other.
    together = np.array(
        [[max(abs(a[0] - b[0]), abs(a[1] - b[1])) < side for b in place] for a in place]
    )
    table = p["relative_position_bias"]
    tokens = padded.reshape(-1, 4)
    expected = np.zeros_like(tokens)
    for t in rows:
        others = rows[same[t]]
        bias = [
            table[(moved[t][0] - moved[o][0] + 3) * 7 + moved[t][1] - moved[o][1] + 3]
            for o in others
        ]
        expected[t] = attention(
            p["attention"],
            heads,
            tokens[t : t + 1],
            tokens[others],
            tokens[others],
            allowed=together[t, others][None],
            bias=np.array(bias)[None],
        )[0]
    np.testing.assert_allclose(y[0], expected.reshape(n, n, 4)[:h, :w], atol=1e-12)


def test_patch_merging_pads_and_goes_by_columns(x64):
    x = normal(1, 3, 5, 2)
    p, y = made(PatchMerging(1e-5, jnp.float64), x)
    padded = np.pad(x[0], ((0, 1), (0, 1), (0, 0)))
    for i, j in np.ndindex(2, 3):
        square = padded[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        four = np.concatenate([square[0, 0], square[1, 0], square[0, 1], square[1, 1]])
        expected = layer_norm(p["norm"], four) @ p["reduction"]["kernel"]
        np.testing.assert_allclose(y[0, i, j], expected, atol=1e-12)


def test_mix_block(x64):
    erf = np.vectorize(math.erf)
    h, w, c, heads, r = 5, 7, 6, 2, 2
    x = normal(1, h, w, c)
    p, y = made(MixBlock(heads, r, 0.1, 1e-6, jnp.float64), x, train=False)
    z = layer_norm(p["norm1"], x[0], 1e-6)
    a = p["attention"]
    reduced = np.zeros((h // r, w // r, c))
    for i, j in np.ndindex(h // r, w // r):
        window = z[r * i : r * i + r, r * j : r * j + r]
        reduced[i, j] = np.einsum("abi,abio->o", window, a["reduce"]["kernel"])
    reduced = layer_norm(a["reduce_norm"], reduced + a["reduce"]["bias"], 1e-6).reshape(-1, c)
    z = attention(a["attention"], heads, z.reshape(-1, c), reduced, reduced).reshape(h, w, c)
    expected = x[0] + z
    f = p["ffn"]
    hidden = np.pad(
        dense(f["fc1"], layer_norm(p["norm2"], expected, 1e-6)), ((1, 1), (1, 1), (0, 0))
    )
    taps = f["depthwise"]["kernel"][:, :, 0]
    hidden = sum(hidden[i : i + h, j : j + w] * taps[i, j] for i in range(3) for j in range(3))
    hidden = hidden + f["depthwise"]["bias"]
    expected = expected + dense(f["fc2"], hidden * (1 + erf(hidden / np.sqrt(2))) / 2)
    np.testing.assert_allclose(y[0], expected, atol=1e-12)


def test_query_layer(x64):
    x, queries, memory, positions = (
        normal(1, 3, 8),
        normal(1, 3, 8),
        normal(1, 5, 8),
        normal(1, 5, 8),
    )
    layer = QueryLayer(2, 12, 0.1, jnp.float64)
    p, y = made(layer, x, queries, memory, positions, train=False)
    q, m, at = queries[0], memory[0], positions[0]
    z = x[0] + attention(p["self_attention"], 2, x[0] + q, x[0] + q, x[0])
    z = layer_norm(p["norm1"], z)
    z = layer_norm(p["norm2"], z + attention(p["cross_attention"], 2, z + q, m + at, m))
    z = layer_norm(p["norm3"], z + dense(p["fc2"], np.maximum(dense(p["fc1"], z), 0)))
    np.testing.assert_allclose(y[0], z, atol=1e-12)


def test_sine_positions():
    h, w, c = 2, 3, 8
    positions = sine_positions(h, w, c).reshape(h, w, c)
    for i, j, k in np.ndindex(h, w, c):
        at = (i + 1) / (h + 1e-6) if k < 4 else (j + 1) / (w + 1e-6)
        angle = at * 2 * np.pi / 10000 ** (2 * (k % 4 // 2) / 4)
        expected = np.cos(angle) if k % 2 else np.sin(angle)
        assert abs(positions[i, j, k] - expected) < 1e-12


def test_pixel_decoder(x64):
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    sizes = [(9, 11), (5, 6), (3, 3)]
    stages = [normal(1, *size, 3 + i, seed=i) for i, size in enumerate(sizes)]
    p, y = made(PixelDecoder(64, jnp.float64), stages)
    p = jax.tree.map(torch.tensor, p)

    def layer(name, x, relu=True):
        kernel = p[name]["conv"]["kernel"].permute(3, 2, 0, 1)
        x = F.conv2d(x, kernel, padding=kernel.shape[-1] // 2)
        x = F.group_norm(x, 32, p[name]["norm"]["scale"], p[name]["norm"]["bias"])
        return F.relu(x) if relu else x

    maps = [torch.tensor(x).permute(0, 3, 1, 2) for x in stages]
    x = layer("out3", maps[2])
    for i in (2, 1):
        lateral = layer(f"lateral{i}", maps[i - 1], relu=False)
        x = layer(f"out{i}", lateral + F.interpolate(x, lateral.shape[2:], mode="nearest"))
    last = p["mask_projection"]
    x = F.conv2d(x, last["kernel"].permute(3, 2, 0, 1), last["bias"], padding=1)
    np.testing.assert_allclose(y, x.permute(0, 2, 3, 1), atol=1e-12)


def small(name, **options):
    """A narrow member of a family."""
    model = create_model(name, num_classes=4, **options)
    backbone = {
        "segmenter": lambda: ViT(24, 1, 2, position_grid=(2, 2)),
        "segformer": lambda: model.backbone.clone(width=4, depths=(1, 1, 1, 1)),
        "maskformer": lambda: (
            Swin(8, (1, 2, 1, 1), (1, 1, 2, 2), 3) if "swin" in name else ResNet(18, stem="v1")
        ),
    }[name.split("_")[0]]()
    parts = {"backbone": backbone}
    if isinstance(model.decoder, MaskFormerDecoder):
        parts["decoder"] = MaskFormerDecoder(4, 32, 5, 1, 2, 16)
    elif isinstance(model.classifier, MaskTransformer):
        parts["classifier"] = MaskTransformer(4, 16, 2)
    return model.clone(**parts)


NAMES = ["segmenter_vit-t_mask", "segmenter_vit-t_linear", "segformer_mit-b0", "maskformer_swin-t"]


@pytest.mark.parametrize(
    "name", [NAMES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:])]
)
def test_neck_at_initialisation_changes_nothing(name):
    images = normal(1, 65, 49, 3).astype(np.float32)
    plain, with_neck = small(name), small(name, neck="sdn")
    variables = jax.tree.map(np.float32, random_variables(plain, images, 3))

    def run(model, variables):
        apply = jax.jit(lambda v: model.apply(v, images, train=False), compiler_options=AS_USERS)
        return apply(variables)

    before = run(plain, variables)
    stages = [before[f"stage{i}"] for i in range(1, 5) if f"stage{i}" in before]
    neck = jax.jit(lambda: with_neck.neck.init(jax.random.key(1), stages))()["params"]
    assert len([key for key in neck if key.startswith("sdn")]) == len(stages)
    after = run(with_neck, {**variables, "params": {**variables["params"], "neck": neck}})
    assert np.ptp(before["logits"]) > 0
    np.testing.assert_array_equal(before["logits"], after["logits"])


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_computes_narrow_and_keeps_parameters_and_logits_wide(name):
    images = normal(1, 32, 48, 3).astype(np.float32)
    model = small(name)
    dtype = {"dtype": jnp.bfloat16}
    parts = {name: getattr(model, name, None) for name in ("backbone", "decoder", "classifier")}
    narrow = model.clone(**{k: part.clone(**dtype) for k, part in parts.items() if part})
    variables = jax.tree.map(np.float32, random_variables(model, images, 3))
    shapes = jax.eval_shape(lambda: narrow.init(jax.random.key(0), images, train=False))
    assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    outputs = jax.eval_shape(lambda v: narrow.apply(v, images, train=False), variables)
    assert outputs["stage1"].dtype == jnp.bfloat16
    assert outputs["logits"].dtype == jnp.float32
    if name != "segmenter_vit-t_mask":
        return  # one of them is computed
    wide = jax.jit(lambda v: model.apply(v, images, train=False))(variables)
    outputs = jax.jit(lambda v: narrow.apply(v, images, train=False))(variables)
    difference = np.abs(outputs["logits"] - wide["logits"]).max()
    assert 0 < difference < 0.1 * np.abs(wide["logits"]).max()


class Dropped(nn.Module):
    """A branch by itself."""

    @nn.compact
    def __call__(self, x, *, train):
        return drop_path(x, 0.25, train=train)


def test_drop_path_drops_whole_images_and_rescales_the_rest():
    x = normal(4000, 2, 3).astype(np.float32)
    y = Dropped().apply({}, x, train=True, rngs={"dropout": jax.random.key(0)})
    ratio = np.asarray(y / x)
    kept = ratio[:, 0, 0] > 0
    np.testing.assert_allclose(ratio[kept], 1 / 0.75, rtol=1e-5)
    assert np.all(ratio[~kept] == 0)
    assert abs(kept.mean() - 0.75) < 0.03
    np.testing.assert_array_equal(Dropped().apply({}, x, train=False), x)
    assert linear_rates(0.3, 4) == pytest.approx([0, 0.1, 0.2, 0.3])


@pytest.mark.slow
def test_frozen_statistics_stay_while_training():
    images = normal(1, 33, 33, 3).astype(np.float32)
    model = small("maskformer_r50-d32")
    variables = jax.tree.map(np.float32, random_variables(model, images, 3))

    @jax.jit
    def run(variables):
        return model.apply(
            variables,
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(0)},
        )

    outputs, changed = run(variables)
    jax.tree.map(np.testing.assert_array_equal, changed["batch_stats"], variables["batch_stats"])
    moved = jax.tree.map(lambda x: x + 1, variables["batch_stats"])
    other, _ = run({**variables, "batch_stats": moved})
    assert np.abs(other["stage4"] - outputs["stage4"]).max() > 1e-3  # they are what it reads


def test_a_picture_that_is_too_small_for_the_attention_is_named():
    """29 pixels are eight patches, which the first attention reduces to one."""
    net = create_model("segformer_mit-b0", num_classes=3)
    variables = jax.eval_shape(
        lambda: net.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
    )

    def shape(size):
        image = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
        return jax.eval_shape(lambda v, x: net.apply(v, x, train=False), variables, image)

    assert shape((29, 40))["logits"].shape == (1, 29, 40, 3)
    for size in ((28, 90), (90, 28), (1, 1)):
        with pytest.raises(InputError, match=f"{size[0]}×{size[1]} pixels are too few .* 29×29"):
            shape(size)
