"""Finding where two computations part."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from sdnjax.convert import Row, batch_norm, conv
from sdnjax.convert.compare import (
    compare_activations,
    compare_tensors,
    departures,
    format_differences,
    matching_modules,
    saved_inputs,
)
from sdnjax.errors import InputError
from sdnjax.models import EncoderDecoder
from sdnjax.models.layers import Classifier, ConvBNReLU
from tests.models.context import SegmentMeans
from tests.models.variables import random_variables


class Two(nn.Module):
    """Two stages and scores."""

    @nn.compact
    def __call__(self, x, *, train):
        first = ConvBNReLU(4, 3, name="stem1")(x, train=train)
        second = ConvBNReLU(6, 3, stride=2, name="stem2")(first, train=train)
        scores = Classifier(3, name="classifier")(second, train=train)
        return {"logits": 2.0 * scores, "stage1": first, "scores": scores}


ROWS = [
    row
    for ours, theirs in (("stem1", "net.0"), ("stem2", "net.3.inner"))
    for row in conv(f"{ours}/conv", f"{theirs}.conv") + batch_norm(f"{ours}/bn", f"{theirs}.bn")
] + conv("classifier/seg", "head", bias=True)


@pytest.fixture(scope="module")
def network():
    """Model, variables, images, and every module's output by flax's own capture."""
    images = np.random.default_rng(0).normal(size=(2, 9, 7, 3)).astype(np.float32)
    variables = jax.tree.map(np.float32, random_variables(Two(), images, 1))
    outputs, state = Two().apply(
        variables, images, train=False, capture_intermediates=True, mutable=["intermediates"]
    )
    captured = state["intermediates"]
    saved = {
        "logits": outputs["logits"],
        "stage1": outputs["stage1"],
        "head": captured["classifier"]["seg"]["__call__"][0],
        "net.3.inner": captured["stem2"]["__call__"][0],
        "net.3.inner.bn": captured["stem2"]["bn"]["__call__"][0],
        "net.0.conv": captured["stem1"]["conv"]["__call__"][0],
        "net.0": captured["stem1"]["__call__"][0],
    }
    return variables, images, {k: np.asarray(v).transpose(0, 3, 1, 2) for k, v in saved.items()}


def test_modules_that_hold_the_same_tensors_match():
    assert matching_modules(ROWS) == {
        "net.0": "stem1",
        "net.0.conv": "stem1/conv",
        "net.0.bn": "stem1/bn",
        "net.3": "stem2",
        "net.3.inner": "stem2",
        "net.3.inner.conv": "stem2/conv",
        "net.3.inner.bn": "stem2/bn",
        "head": "classifier/seg",
    }


def test_packed_tensors_match_the_module_around_them():
    rows = [
        Row(f"params/attn/{n}/kernel", "a.in.weight", "linear", (i, 2)) for i, n in enumerate("qk")
    ]
    assert matching_modules(rows) == {"a.in": "attn", "a": "attn"}


def test_layers_that_agree_come_in_the_order_of_computation(network):
    variables, images, saved = network
    differences = compare_activations(Two(), variables, ROWS, saved, images)
    assert [d.theirs for d in differences] == [
        "net.0.conv", "net.0", "stage1", "net.3.inner.bn", "net.3.inner", "head", "logits"
    ]  # fmt: skip
    assert max(d.relative for d in differences) < 1e-6
    assert [d.ours for d in differences][-3:] == ["stem2", "classifier/seg", "logits"]
    text = format_differences(differences, 1e-5)
    assert text.splitlines()[-1].startswith("7 tensors agree to 1e-05; largest")


def test_the_first_layer_that_departs_is_named(network):
    variables, images, saved = network
    saved = {k: np.copy(v) for k, v in saved.items()}
    for name in ("net.3.inner.bn", "net.3.inner", "head", "logits"):
        saved[name][1, 2, 3, 1] += 0.01 * np.abs(saved[name]).max()
    saved["head"][0, 0, 0, 0] = np.nan
    saved["logits"] = saved["logits"][:, :2]
    differences = compare_activations(Two(), variables, ROWS, saved, images)
    relative = {d.theirs: d.relative for d in differences}
    assert relative["net.0"] < 1e-6
    np.testing.assert_allclose(relative["net.3.inner"], 0.01, rtol=0.02)
    lines = format_differences(differences, 1e-5).splitlines()
    assert lines[-1] == (
        "4 of 7 tensors depart by more than 1e-05; the first is net.3.inner.bn (stem2/bn)"
    )
    assert lines[4].startswith("net.3.inner.bn ") and lines[4].endswith("stem2/bn  ←")
    assert lines[6].endswith("classifier/seg  ← not finite")
    assert lines[7].endswith("logits  ← (2, 5, 4, 2) there, (2, 5, 4, 3) here")
    brief = format_differences(differences, 1e-5, most=2).splitlines()
    assert [line.split()[0] for line in brief] == ["there", "head", "logits", "4"]


def test_a_container_that_is_defined_otherwise_is_no_departure(network):
    """Its residual or activation may be counted in there; what follows tells."""
    variables, images, saved = network
    saved = {**saved, "net.0": saved["net.0"] + 1.0}
    differences = compare_activations(Two(), variables, ROWS, saved, images)
    assert [d.theirs for d in differences if d.container] == ["net.0", "net.3.inner"]
    assert departures(differences, 1e-5) == []
    text = format_differences(differences, 1e-5)
    assert "stem1  (defined otherwise: what follows agrees)" in text
    assert "6 tensors agree" in text
    del saved["stage1"]
    saved["net.3.inner.bn"] = saved["net.3.inner.bn"] + 1.0  # now what follows departs too
    differences = compare_activations(Two(), variables, ROWS, saved, images)
    assert [d.theirs for d in departures(differences, 1e-5)] == ["net.0", "net.3.inner.bn"]


def test_layouts(network):
    variables, images, saved = network
    nhwc = {k: v.transpose(0, 2, 3, 1) for k, v in saved.items()}
    tokens = {"net.3.inner": nhwc["net.3.inner"].reshape(2, 20, 6)}
    for given, layout in ((nhwc, "auto"), (nhwc, "nhwc"), (saved, "nchw"), (tokens, "auto")):
        differences = compare_activations(Two(), variables, ROWS, given, images, layout=layout)
        assert max(d.relative for d in differences) < 1e-6
    square = images[:, :4, :4]
    cube = {"net.0": np.zeros((2, 4, 4, 4), np.float32)}
    with pytest.raises(InputError, match=r"net.0: \(2, 4, 4, 4\) does not tell its layout"):
        compare_activations(Two(), variables, ROWS, cube, square)


def test_names_that_are_unknown(network):
    variables, images, saved = network
    with pytest.raises(InputError, match=r"'net.3.iner' is no module.*did you mean net.3.inner"):
        compare_activations(Two(), variables, ROWS, {"net.3.iner": saved["head"]}, images)


def test_trees_of_tensors(network):
    variables, _, _ = network
    rng = np.random.default_rng(0)
    ours = jax.tree.map(lambda x: rng.normal(size=x.shape), variables["params"])
    ours["stem1"]["bn"]["bias"] = 1e-12 * rng.normal(size=4)  # zero but for rounding
    theirs = {
        "net.0.conv.weight": ours["stem1"]["conv"]["kernel"].transpose(3, 2, 0, 1),
        "net.0.bn.bias": 1e-12 * rng.normal(size=4),
        "head.weight": ours["classifier"]["seg"]["kernel"].transpose(3, 2, 0, 1) * (1 + 1e-3),
        "head.bias": ours["classifier"]["seg"]["bias"][:2],
        "unknown": np.ones(3),
    }
    assert compare_tensors(ROWS, {"params": ours}, theirs)[1].relative > 0.1
    found = compare_tensors(ROWS, {"params": ours}, theirs, floor=1e-3)
    assert [d.theirs for d in found] == [
        "net.0.conv.weight", "net.0.bn.bias", "head.weight", "head.bias"
    ]  # fmt: skip
    assert found[0].relative == 0
    assert found[1].relative < 1e-8
    np.testing.assert_allclose(found[2].relative, 1e-3 / (1 + 1e-3), rtol=1e-6)
    assert found[3].relative == np.inf and found[3].note == "(2,) there, (3,) here"
    with pytest.raises(InputError, match="no tensor has a name of this format; there are unknown"):
        compare_tensors(ROWS, {"params": ours}, {"unknown": np.ones(3)})


class Stem(nn.Module):
    """A backbone of one stage at half the size."""

    @nn.compact
    def __call__(self, x, *, train):
        return (ConvBNReLU(4, 3, stride=2, name="stem1")(x, train=train),)


def test_extra_inputs_are_read_with_the_activations(network):
    _, images, _ = network
    rng = np.random.default_rng(2)
    extras = {
        "superpixels": rng.integers(-1, 3, images.shape[:3]).astype(np.int32),
        "picture": rng.uniform(size=images.shape).astype(np.float32),
    }
    model = EncoderDecoder(Stem(), Classifier(3), context=SegmentMeans(), decoder_stages=(0,))
    variables = jax.tree.map(np.float32, random_variables(model, images, 1, **extras))
    outputs = model.apply(variables, images, train=False, **extras)
    saved = {
        "features": np.asarray(outputs["features"]).transpose(0, 3, 1, 2),
        "superpixels": extras["superpixels"][:, None].astype(np.int64),  # [B, 1, H, W]
        "picture": extras["picture"].transpose(0, 3, 1, 2),
    }
    rows = conv("classifier/seg", "head", bias=True)
    (found,) = compare_activations(model, variables, rows, saved, images)
    assert found.ours == "features" and found.relative < 1e-6
    moved = {**saved, "superpixels": saved["superpixels"][:, :, ::-1]}
    (found,) = compare_activations(model, variables, rows, moved, images)
    assert found.relative > 0.01

    inputs = saved_inputs(model, saved, images.astype(np.float64))
    assert (inputs["superpixels"].dtype, inputs["picture"].dtype) == (np.int32, np.float64)
    last = {**saved, "superpixels": saved["superpixels"].transpose(0, 2, 3, 1)}
    np.testing.assert_array_equal(
        saved_inputs(model, last, images)["superpixels"], inputs["superpixels"]
    )
    with pytest.raises(InputError, match="superpixels holds values that are no int32 numbers"):
        saved_inputs(model, {**saved, "superpixels": extras["superpixels"] + 0.5}, images)
    del saved["picture"]
    with pytest.raises(InputError, match="the network needs 'picture': save it with the images"):
        compare_activations(model, variables, rows, saved, images)
    saved["picture"] = extras["picture"][:, 1:]
    with pytest.raises(InputError, match=r"picture is \(2, 8, 7, 3\).* must be \(2, 9, 7, 3\)"):
        compare_activations(model, variables, rows, saved, images)
