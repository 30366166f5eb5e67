"""Parameters, multiply-adds and activation memory against hand counts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from sdnjax.models import create_model
from sdnjax.models.backbones.resnet import ResNet
from sdnjax.models.cost import multiply_adds
from sdnjax.models.decoders.fcn import FCNHead
from sdnjax.models.layers import Classifier, Head, conv
from sdnjax.models.necks.sdn import SDN, SDNNeck
from sdnjax.models.summary import format_summary, summarize
from sdnjax.ops import resize_bilinear
from tests.models.context import SegmentMeans

SIZE = (12, 20)


class Net(nn.Module):
    """One of each kind of layer, and a head that only training runs."""

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.Conv(8, (3, 3), strides=2, padding=1, use_bias=False, name="strided")(x)
        x = nn.Conv(8, (5, 5), padding=2, feature_group_count=8, name="depthwise")(x)
        x = nn.Conv(16, (3, 3), kernel_dilation=2, padding=2, name="dilated")(x)
        x = nn.ConvTranspose(4, (2, 2), strides=(2, 2), padding="VALID", name="up")(x)
        tokens = x.reshape(1, -1, 4)
        x = jnp.einsum("bnc,bmc->bnm", tokens, tokens) @ nn.Dense(6, name="dense")(tokens)
        if train or self.is_initializing():
            Classifier(3, name="auxiliary")(x[:, None], train=train)
        return nn.LayerNorm(name="norm")(resize_bilinear(x.reshape(1, *SIZE, 6), (40, 40)))


def test_every_kind_of_layer():
    h, w = SIZE
    small, n = h * w // 4, h * w
    layers = {layer.path: layer for layer in summarize(Net(), SIZE)}
    counts = {
        "strided": (3 * 3 * 3 * 8, small * 9 * 3 * 8, small * 8),
        "depthwise": (5 * 5 * 8 + 8, small * 25 * 8, small * 8),
        "dilated": (9 * 8 * 16 + 16, small * 9 * 8 * 16, small * 16),
        # Every output of a 2×2 transposed convolution of stride 2 sees one input.
        "up": (4 * 16 * 4 + 4, n * 16 * 4, n * 4),
        "dense": (4 * 6 + 6, n * 4 * 6, n * 6),
        "norm": (12, 0, 40 * 40 * 6),
        "auxiliary": (6 * 3 + 3, 0, 0),
    }
    assert list(layers) == ["", *counts]
    for path, expected in counts.items():
        layer = layers[path]
        assert (layer.parameters, layer.multiply_adds, layer.activation_bytes // 4) == expected
    products = n * n * 4 + n * n * 6
    whole = layers[""]
    assert whole.parameters == sum(p for p, _, _ in counts.values())
    assert whole.multiply_adds == sum(m for _, m, _ in counts.values()) + products
    assert layers["up"].output == (1, *SIZE, 4)


def test_a_scan_counts_as_often_as_it_runs_and_a_conditional_once():
    def function(x):
        with jax.named_scope("loop"):
            x, _ = lax.scan(lambda c, _: (c @ c, None), x, None, length=7)
        x = jax.checkpoint(lambda y: y @ y)(x)
        return lax.cond(x[0, 0] > 0, lambda y: y @ y @ y, lambda y: y @ y, x)

    counts = multiply_adds(jax.make_jaxpr(function)(jnp.ones((5, 5))).jaxpr)
    assert sum(counts.values()) == (7 + 1 + 2) * 125
    assert sum(n for scope, n in counts.items() if "loop" in scope) == 7 * 125


def test_resnet_50_has_the_multiply_adds_that_everybody_counts():
    """4.09 G at 224×224 with the classifier's 2.048 M; by hand, stage by stage."""
    expected = 112**2 * 49 * 3 * 64
    width, size = 64, 56
    for stage, blocks in enumerate((3, 4, 6, 3)):
        c = 64 * 2**stage
        for b in range(blocks):
            out = size // 2 if stage and b == 0 else size
            expected += size**2 * width * c + out**2 * (9 * c * c + 4 * c * c)
            expected += out**2 * width * 4 * c if b == 0 else 0
            width, size = 4 * c, out
    whole = summarize(ResNet(50, "v1"), (224, 224))[0]
    assert whole.multiply_adds == expected == 4_089_184_256 - 2_048_000
    assert whole.parameters == 23_508_032


@pytest.mark.parametrize("reduction", [1, 2])
@pytest.mark.parametrize("operator", ["sdc", "conv"])
def test_sdn_by_its_definition(operator, reduction):
    sdn = functools.partial(SDN, operator=operator, reduction=reduction)

    class Necked(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            return SDNNeck(sdn, 5, name="neck")((conv(8, 3, stride=2, name="stem")(x),))[0]

    layers = {layer.path: layer for layer in summarize(Necked(), SIZE)}
    n, c, inner = SIZE[0] * SIZE[1] // 4, 8, 8 // reduction
    down = n * c * inner * (reduction > 1)
    fusion = n * (c + inner) * c
    if operator == "sdc":
        phi = n // 2 // 2 * 9 * c * 5  # 3×5 pixels of the 6×10
        core = n * 8 * (inner**2 + 5)
        memory = n * (c + 9 + inner + inner * (reduction > 1)) + n // 4 * 5
    else:
        phi, core = 0, n * 9 * inner**2
        memory = n * (c + inner + inner * (reduction > 1))
    one, whole = layers["neck/sdn1"], layers[""]
    assert one.multiply_adds == down + core + fusion
    assert whole.multiply_adds == one.multiply_adds + phi + n * 27 * c
    assert whole.activation_bytes == 4 * (memory + n * c)


def test_the_definition_of_sdc_is_what_runs():
    """K − 1 products, and half the similarities' sums over channels, which are products here."""
    u = jnp.zeros((1, 6, 10, 8))
    params = SDN().init(jax.random.key(0), u, u)
    counts = multiply_adds(jax.make_jaxpr(lambda p, u: SDN().apply(p, u, u))(params, u).jaxpr)
    core = sum(n for scope, n in counts.items() if "fusion" not in scope)
    assert core == 60 * 8 * 8 * 8 + 60 * 4 * 8


def test_the_table():
    model = create_model("fcn_r18-d8", num_classes=3, neck="sdn", guidance_channels=8)
    layers = summarize(model, (33, 49))
    lines = format_summary(layers, depth=1).splitlines()
    assert [line.split()[0] for line in lines[:5]] == [
        "layer", "network", "backbone", "neck", "decoder"
    ]  # fmt: skip
    assert lines[5].split()[:2] == ["classifier", "Classifier"]
    assert lines[6].split()[:2] == ["auxiliary", "Head"]
    neck = 9 * 512**2 + 2 * 512**2 + 512 + 1 + 9 * 512 * 8 + 8
    assert f"SDN: {neck / 1e6:.3f} M (" in lines[-1]
    whole = sum(np.prod(x.shape) for x in jax.tree.leaves(_params(model)))
    assert layers[0].parameters == whole
    deeper = format_summary(layers, depth=3).splitlines()
    assert any(line.startswith("    conv1  ") for line in deeper)
    plain = format_summary(summarize(create_model("fcn_r18-d8", num_classes=3), (33, 49)), 1)
    assert plain.endswith("SDN: none")


def _params(model):
    images = jax.ShapeDtypeStruct((1, 33, 49, 3), jnp.float32)
    return jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)["params"]


def test_extra_inputs_and_the_part_that_reads_them():
    model = create_model("fcn_r18-d8", num_classes=3, context=SegmentMeans())
    layers = {layer.path: layer for layer in summarize(model, (33, 49), batch=2)}
    context = layers["context"]
    pixels = 2 * 5 * 7
    assert (context.kind, context.output) == ("SegmentMeans", (2, 5, 7, 128))
    # Means of 8 segments, and each pixel's segment's.
    assert (context.parameters, context.multiply_adds) == (128, 2 * pixels * 8 * 128)


def test_a_head_hides_the_features_at_its_path():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            features = FCNHead(4, convs=1, concat_input=False, parent=None)
            return Head(features, Classifier(3, parent=None), name="head")(x, train=train)

    layers = {layer.path: layer for layer in summarize(Net(), SIZE)}
    assert list(layers) == [
        "", "head", "head/conv1", "head/conv1/conv", "head/conv1/bn",
        "head/classifier", "head/classifier/Dropout_0", "head/classifier/seg",
    ]  # fmt: skip
    assert (layers["head"].kind, layers["head"].output) == ("Head", (1, *SIZE, 3))
    assert layers["head"].parameters == 9 * 3 * 4 + 2 * 4 + 4 * 3 + 3
