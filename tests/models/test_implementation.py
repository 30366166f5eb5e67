"""Eq. 5 is where people look: editing the definition, or passing another one, changes a network."""

import jax
import numpy as np
import pytest

from sdnjax.models import Model, Neck, create_model
from sdnjax.models.necks.sdn import SDN
from sdnjax.ops.sdc import IMPLEMENTATIONS, api, reference, semantic_difference_conv
from sdnjax.ops.sdc.pallas_gpu import operator
from sdnjax.options import OneLineParser, add_overrides, apply_overrides
from tests.models.variables import random_variables

IMAGES = np.random.default_rng(0).normal(size=(1, 33, 41, 3)).astype(np.float32)
DEFINITION = reference.semantic_difference


def doubled(u, s, kernel, *, dilation, precision):
    """Eq. 5 times two."""
    return 2 * DEFINITION(u, s, kernel, dilation=dilation, precision=precision)


@pytest.fixture(scope="module")
def variables():
    model = Model(neck=Neck(operator="sdc", guidance_channels=8)).build(3)
    return jax.tree.map(np.float32, random_variables(model, IMAGES, 3))


def neck_output(variables, implementation):
    model = Model(
        neck=Neck(operator="sdc", guidance_channels=8, implementation=implementation)
    ).build(3)
    return jax.jit(lambda v: model.apply(v, IMAGES, train=False)["neck4"])(variables)


def by_hand(variables, factor):
    """The neck's output with Y times a factor: its fusion is linear."""
    outputs = neck_output(variables, None)
    inner = variables["params"]["neck"]["sdn1"]
    params = {**inner, "kernel": factor * inner["kernel"]}
    neck = {**variables["params"]["neck"], "sdn1": params}
    changed = {**variables, "params": {**variables["params"], "neck": neck}}
    return outputs, neck_output(changed, None)


def test_an_edited_definition_reaches_the_network_that_names_it(variables, monkeypatch):
    plain, expected = by_hand(variables, 2.0)
    scale = np.abs(expected).max()
    assert np.abs(expected - plain).max() > 1e-2 * scale
    np.testing.assert_allclose(neck_output(variables, "reference"), plain, atol=1e-5 * scale)
    monkeypatch.setitem(IMPLEMENTATIONS, "reference", doubled)
    np.testing.assert_allclose(neck_output(variables, "reference"), expected, atol=1e-5 * scale)
    # Without a name another implementation serves, which nobody has edited.
    np.testing.assert_array_equal(neck_output(variables, None), plain)
    np.testing.assert_array_equal(neck_output(variables, "xla"), plain)


def test_a_definition_of_ones_own_is_a_value(variables):
    _, expected = by_hand(variables, 2.0)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(neck_output(variables, doubled), expected, atol=1e-5 * scale)
    model = create_model("fcn_r18-d8", num_classes=3, neck="sdn", implementation=doubled)
    assert model.neck.sdn(name="sdn1").implementation is doubled
    assert Neck(similarity=np.add).similarity is np.add


def test_the_command_line_names_it():
    def parsed(*words):
        model = Model(neck=Neck(operator="sdc"))
        parser = OneLineParser()
        add_overrides(parser, model)
        return apply_overrides(model, parser.parse_args(list(words))).neck

    assert parsed("--neck.implementation", "reference").implementation == "reference"
    assert parsed("--neck.implementation", "pallas_tpu").implementation == "pallas_tpu"
    assert parsed("--neck.implementation", "none").implementation is None
    assert parsed("--neck.similarity", "cosine").similarity == "cosine"
    for words in (("--neck.implementation", "refrence"), ("--neck.similarity", "cosin")):
        with pytest.raises(
            ValueError, match=r"pallas_gpu\|pallas_tpu\|xla\|reference|charbonnier\|"
        ):
            parsed(*words)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("pallas_gpu", "needs an NVIDIA Hopper GPU"), ("pallas_tpu", "needs a TPU v5e or later")],
)
def test_an_implementation_that_cannot_serve_raises(name, reason):
    x = np.zeros((1, 4, 4, 8), np.float32)
    with pytest.raises(NotImplementedError, match=f"{name}: {reason}"):
        SDN(implementation=name).init(jax.random.key(0), x, x)


def test_an_accelerator_that_goes_without_kernels_is_told(monkeypatch, caplog):
    """Float32 on a Hopper GPU, once; on a CPU, and with a name, nothing is said."""
    u = jax.ShapeDtypeStruct((1, 5, 6, 8), np.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 8, 8), np.float32)

    def trace(**options):
        jax.eval_shape(lambda u, w: semantic_difference_conv(u, u, w, **options), u, kernel)
        said, caplog.handler.records = list(caplog.messages), []
        return said

    assert trace() == []
    for module in (api, operator):
        monkeypatch.setattr(module, "target_device", lambda: ("gpu", "NVIDIA H100 80GB HBM3"))
    api._warn.cache_clear()
    (line,) = trace()
    assert line.startswith(
        "SDC goes without fused kernels on NVIDIA H100 80GB HBM3: xla (pallas_gpu"
    )
    assert "serves bfloat16 and float16, not float32" in line
    assert trace() == []
    api._warn.cache_clear()
    assert trace(implementation="xla") == []
