"""Variables from foreign tensors: all or nothing, and what may be asked for."""

import types

import jax
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

from sdnjax.convert import (
    DoesNotFit,
    Row,
    batch_norm,
    conv,
    load,
    mmseg_fcn,
    mmseg_fpn,
    to_torch,
    torchvision_resnet,
)
from sdnjax.convert.inert_pickle import Opaque
from sdnjax.errors import InputError
from sdnjax.models import EdgeHead, EncoderDecoder, create_model
from sdnjax.models.backbones.resnet import ResNet
from sdnjax.models.inputs import blank_inputs
from sdnjax.models.layers import BatchNorm, Classifier
from tests.models.context import SegmentMeans
from tests.models.variables import logits, random_variables


class Tiny(nn.Module):
    """A convolution, a batch norm, packed projections and a classifier."""

    num_classes: int = 4

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.Conv(6, (3, 3), use_bias=False, name="conv")(x)
        x = BatchNorm(name="bn")(x, train=train)
        x = nn.Dense(6, name="q")(x) + nn.Dense(6, name="k")(x)
        return Classifier(self.num_classes, name="classifier")(x, train=train)


def rows(model):
    packed = [
        Row(f"params/{name}/{leaf}", f"attn.{theirs}", arrangement, (i, 2))
        for i, name in enumerate("qk")
        for leaf, theirs, arrangement in (("kernel", "weight", "linear"), ("bias", "bias", "same"))
    ]
    head = conv("classifier/seg", "head", bias=True)
    return [*conv("conv", "conv"), *batch_norm("bn", "bn"), *packed, *head]


TABLE = types.SimpleNamespace(rows=rows, IGNORED=(".num_batches_tracked",))
RNG = np.random.default_rng(0)
STATE = {
    "conv.weight": RNG.normal(size=(6, 3, 3, 3)),
    "bn.weight": RNG.normal(size=6),
    "bn.bias": RNG.normal(size=6),
    "bn.running_mean": RNG.normal(size=6),
    "bn.running_var": RNG.uniform(1, 2, size=6),
    "bn.num_batches_tracked": np.array(0),
    "attn.weight": RNG.normal(size=(12, 6)),
    "attn.bias": RNG.normal(size=12),
    "head.weight": RNG.normal(size=(4, 6, 1, 1)),
    "head.bias": RNG.normal(size=4),
}
STATE = {k: np.asarray(v, np.float32 if v.dtype.kind == "f" else v.dtype) for k, v in STATE.items()}


def flat(variables):
    return flatten_dict(variables, sep="/")


def convert(state, model=None, **options):
    lines = []
    variables = load(model or Tiny(), state, TABLE, report=lines.append, **options)
    return flat(variables), lines


def test_every_leaf_and_the_report():
    leaves, lines = convert(STATE)
    theirs = STATE["conv.weight"]
    np.testing.assert_array_equal(leaves["params/conv/kernel"][2, 1, 0, 5], theirs[5, 0, 2, 1])
    np.testing.assert_array_equal(leaves["params/k/kernel"], STATE["attn.weight"][6:].T)
    np.testing.assert_array_equal(leaves["params/q/bias"], STATE["attn.bias"][:6])
    np.testing.assert_array_equal(leaves["batch_stats/bn/var"], STATE["bn.running_var"])
    assert lines == [
        "11/11 tensors loaded from the state dict; reinitialised: nothing; "
        "ignored: bn.num_batches_tracked"
    ]


def test_there_and_back_is_bitwise():
    variables = load(Tiny(), STATE, TABLE, report=lambda _: None)
    back = to_torch(Tiny(), variables, TABLE)
    assert back.keys() == STATE.keys()
    for name, value in STATE.items():
        assert (back[name].dtype, back[name].shape) == (value.dtype, value.shape)
        assert back[name].tobytes() == value.tobytes()


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.model."])
def test_prefixes_and_places(prefix):
    expected, _ = convert(STATE)
    state = {"state_dict": {prefix + k: v for k, v in STATE.items()}, "meta": {"epoch": 3}}
    leaves, _ = convert(state)
    for path, value in expected.items():
        np.testing.assert_array_equal(leaves[path], value)
    with pytest.raises(InputError, match=r"both head.bias and module.head.bias"):
        convert({**{f"module.{k}": v for k, v in STATE.items()}, "head.bias": STATE["head.bias"]})


def test_half_and_double_precision():
    leaves, _ = convert({k: v.astype(np.float16) for k, v in STATE.items() if v.ndim} | tracked())
    assert leaves["params/q/bias"].dtype == np.float32
    np.testing.assert_array_equal(leaves["params/q/bias"], STATE["attn.bias"][:6].astype("f2"))
    leaves, _ = convert({k: v.astype(np.float64) for k, v in STATE.items()}, dtype=np.float64)
    assert {x.dtype for x in leaves.values()} == {np.dtype("float64")}


def tracked():
    return {"bn.num_batches_tracked": np.array(0)}


def test_everything_that_does_not_fit_is_listed():
    state = {k: np.copy(v) for k, v in STATE.items() if k != "bn.bias"}
    state["conv.weight"][0, 0, 0, 0] = np.nan
    state["bn.running_var"][3] = np.inf
    state["attn.weight"] = state["attn.weight"][:11]
    state["head.bias"] = np.arange(4)
    state["head.weight"] = np.full((4, 6, 1, 1), 1e300)
    state["bn.weight"] = state["bn.weight"][:, None]
    state["tail.weight"] = np.zeros(3)
    with pytest.raises(DoesNotFit) as caught:
        convert(state)
    assert caught.value.problems == (
        "conv.weight has values that are not finite",
        "bn.weight is (6, 1), the network has (6,)",
        "bn.bias is missing",
        "bn.running_var has values that are not finite",
        "attn.weight is (11, 6), the network has (12, 6)",
        "head.weight has values too large for float32",
        "head.bias holds int64, not floating-point numbers",
        "tail.weight is left over",
    )
    message = str(caught.value)
    assert message.startswith("the state dict: 8 tensor(s) do not fit: conv.weight has")
    assert "; and 3 more" in message and "\n" not in message


def test_another_network_is_recognised():
    with pytest.raises(DoesNotFit, match=r"conv.weight is missing.*looks like another network or "):
        convert({f"u{i}.weight": np.ones(3) for i in range(9)})


def test_other_classes_on_request():
    model = Tiny(num_classes=7)
    message = r"head.weight is \(4, 6, 1, 1\), the network has \(7, 6, .* Ask for new classes"
    with pytest.raises(DoesNotFit, match=message):
        convert(STATE, model)
    leaves, lines = convert(STATE, model, new_classes=True, seed=3)
    images = np.zeros((1, 64, 64, 3), np.float32)
    initial = flat(jax.jit(lambda: model.init(jax.random.key(3), images, train=False))())
    for path, value in leaves.items():
        assert np.array_equal(value, initial[path]) == path.startswith("params/classifier/"), path
    assert lines == [
        "9/11 tensors loaded from the state dict; reinitialised: "
        "params/classifier/seg/bias, params/classifier/seg/kernel; "
        "ignored: bn.num_batches_tracked, head.bias, head.weight"
    ]


@pytest.mark.parametrize("channels", [1, 4])
def test_other_input_channels_on_request(channels):
    with pytest.raises(DoesNotFit, match=r"conv.weight is \(6, 2, 3, 3\), the network has"):
        convert({**STATE, "conv.weight": np.ones((6, 2, 3, 3), np.float32)})
    leaves, lines = convert(STATE, input_channels=channels)
    kernel = leaves["params/conv/kernel"]
    assert kernel.shape == (3, 3, channels, 6)
    # A grey image has the response that it had.
    theirs = STATE["conv.weight"].sum(axis=1).transpose(1, 2, 0)
    np.testing.assert_allclose(kernel.sum(axis=2), theirs, rtol=1e-5, atol=1e-6)
    assert lines[1] == (
        f"inflated: conv.weight from 3 to {channels} input channels, each the mean of the 3 "
        f"times 3/{channels}"
    )
    four = {**STATE, "conv.weight": np.ones((6, 4, 3, 3), np.float32)}
    leaves, lines = convert(four, input_channels=3)
    np.testing.assert_allclose(leaves["params/conv/kernel"], 4 / 3, rtol=1e-6)
    assert "from 4 to 3 input channels" in lines[1]


def test_parts_that_start_anew_and_tensors_that_are_not_wanted():
    state = {k: v for k, v in STATE.items() if not k.startswith("attn")}
    with pytest.raises(DoesNotFit, match=r"attn.weight is missing"):
        convert(state)
    leaves, _ = convert(state, reinitialise=["q", "k"])
    np.testing.assert_array_equal(leaves["params/q/bias"], 0)
    with pytest.raises(DoesNotFit, match=r"tail\.x is left over"):
        convert({**STATE, "tail.x": np.ones(2)})
    _, lines = convert({**STATE, "tail.x": np.ones(2)}, ignore=["tail."])
    assert lines[0].endswith("ignored: bn.num_batches_tracked, tail.x")
    with pytest.raises(InputError, match="no part 'neck'; it has bn, classifier, conv, k, q"):
        convert(STATE, reinitialise=["neck"])


def test_a_table_may_adapt_and_add_constants():
    def adapt(model, state):
        return {**state, "head.bias": state["head.bias"][:4]}, ["cut: head.bias from 5 to 4"]

    table = types.SimpleNamespace(
        rows=rows, IGNORED=TABLE.IGNORED, adapt=adapt, constants=lambda _: {"index": np.arange(3)}
    )
    lines = []
    state = {**STATE, "head.bias": np.arange(5, dtype=np.float32)}
    variables = load(Tiny(), state, table, report=lines.append)
    np.testing.assert_array_equal(variables["params"]["classifier"]["seg"]["bias"], np.arange(4))
    assert lines[1:] == ["cut: head.bias from 5 to 4"]
    np.testing.assert_array_equal(to_torch(Tiny(), variables, table)["index"], np.arange(3))


def test_defects_of_a_table_are_not_the_users():
    wrong = types.SimpleNamespace(rows=lambda m: [*rows(m), Row("params/x", "x")], IGNORED=())
    with pytest.raises(ValueError, match="names params/x, which the network does not have"):
        load(Tiny(), STATE, wrong)
    twice = types.SimpleNamespace(rows=lambda m: rows(m) + rows(m), IGNORED=())
    with pytest.raises(ValueError, match="names params/conv/kernel twice"):
        load(Tiny(), STATE, twice)


def test_tied_tensors_must_agree_on_the_way_back():
    def tied(model):
        return [r._replace(tensor=r.tensor.replace("attn", "q"), part=None) for r in rows(model)]

    table = types.SimpleNamespace(rows=tied, IGNORED=TABLE.IGNORED)
    variables = load(Tiny(), STATE, TABLE, report=lambda _: None)
    with pytest.raises(InputError, match=r"params/k/kernel and another leaf share q.weight but"):
        to_torch(Tiny(), variables, table)


@pytest.mark.parametrize(
    ("name", "table"),
    [("fcn_r18-d8", mmseg_fcn), pytest.param("fpn_r18", mmseg_fpn, marks=pytest.mark.slow)],
)
def test_a_converted_baseline_gains_a_neck_without_changing(name, table):
    images = np.random.default_rng(0).normal(size=(1, 33, 47, 3)).astype(np.float32)
    plain = create_model(name, num_classes=4)
    neck = create_model(name, num_classes=4, neck="sdn", guidance_channels=8)
    random = jax.tree.map(np.float32, random_variables(plain, images, 3))
    state = to_torch(plain, random, table)
    with pytest.raises(DoesNotFit, match=r"has no tensor in this format.*Reinitialise neck to"):
        load(neck, state, table)
    lines = []
    variables = load(neck, state, table, reinitialise=["neck"], report=lines.append)
    assert "params/neck/" in lines[0]
    before = logits(plain, load(plain, state, table, report=lines.append), images)
    assert np.ptp(before) > 0
    np.testing.assert_array_equal(logits(neck, variables, images), before)
    with pytest.raises(InputError, match="of neck have no name in this format, such as params/ne"):
        to_torch(neck, variables, table)
    assert to_torch(neck, variables, table, drop=["neck"]).keys() == state.keys()


def test_torchvisions_resnet_becomes_the_backbone():
    model = EncoderDecoder(ResNet(18, stem="v1"), Classifier(4))
    names = {r.tensor: r.variable for r in torchvision_resnet.rows(model)}
    assert len(names) == 100
    assert {"conv1.weight", "bn1.running_var", "layer4.1.conv2.weight"} <= names.keys()
    downsample = "batch_stats/backbone/layer2_0/downsample_bn/mean"
    assert names["layer2.0.downsample.1.running_mean"] == downsample

    images = np.zeros((1, 33, 33, 3), np.float32)
    random = jax.tree.map(np.float32, random_variables(model, images, 3))
    state = to_torch(model, random, torchvision_resnet, drop=["classifier"])
    state |= {"fc.weight": np.ones((1000, 512)), "fc.bias": np.ones(1000)}
    lines = []
    variables = load(
        model, state, torchvision_resnet, reinitialise=["classifier"], report=lines.append
    )
    assert lines == [
        "100/102 tensors loaded from the state dict; reinitialised: "
        "params/classifier/seg/bias, params/classifier/seg/kernel; "
        "ignored: 20 × num_batches_tracked, fc.bias, fc.weight"
    ]
    for path, value in flat(variables).items():
        assert path.startswith("params/classifier") or np.array_equal(value, flat(random)[path])


def test_a_network_with_extra_inputs_is_converted():
    model = create_model("fcn_r18-d8", num_classes=4, context=SegmentMeans())
    images = np.zeros((1, 33, 33, 3), np.float32)
    extras = blank_inputs(model, images.shape[:3])
    random = jax.tree.map(np.float32, random_variables(model, images, 3, **extras))
    state = to_torch(model, random, mmseg_fcn, drop=["context"])
    with pytest.raises(DoesNotFit, match=r"Reinitialise context to start there"):
        load(model, state, mmseg_fcn)
    variables = load(model, state, mmseg_fcn, reinitialise=["context"], report=lambda _: None)
    np.testing.assert_array_equal(variables["params"]["context"]["gain"], np.ones(128))
    moved = flat(variables)["params/classifier/seg/kernel"]
    np.testing.assert_array_equal(moved, flat(random)["params/classifier/seg/kernel"])


def test_an_edge_head_starts_anew_and_is_left_out():
    """No format has a name for it."""
    model = create_model("fcn_r18-d8", num_classes=4, edge=EdgeHead(hidden=3))
    images = np.zeros((1, 33, 33, 3), np.float32)
    random = jax.tree.map(np.float32, random_variables(model, images, 3))
    with pytest.raises(InputError, match="of edge have no name in this format"):
        to_torch(model, random, mmseg_fcn)
    state = to_torch(model, random, mmseg_fcn, drop=["edge"])
    variables = load(model, state, mmseg_fcn, reinitialise=["edge"], report=lambda _: None)
    assert variables["params"]["edge"].keys() == {"conv1", "classifier"}
    moved = flat(variables)["params/classifier/seg/kernel"]
    np.testing.assert_array_equal(moved, flat(random)["params/classifier/seg/kernel"])


# --- Where the weights are, and what stands before their names ---

OTHER = {k: v + 1 for k, v in STATE.items()}


def renamed(prefix, state=STATE):
    return {prefix + k: v for k, v in state.items()}


@pytest.mark.parametrize(
    ("content", "notes"),
    [
        ({"state_dict_ema": renamed("module.")}, ["taken from 'state_dict_ema'", "'module.' rem"]),
        ({"model": {"state_dict": STATE}, "epoch": 3}, ["taken from 'model.state_dict'"]),
        ({"net": STATE, "optimizer": {"momentum": OTHER}}, ["taken from 'net'"]),
        (renamed("_orig_mod."), ["left out of names: _orig_mod"]),
        (
            renamed("module._orig_mod."),
            ["left out of names: _orig_mod", "'module.' removed from 10"],
        ),
        (
            {k.replace(".", "._fsdp_wrapped_module.", 1): v for k, v in STATE.items()},
            ["left out of names: _fsdp_wrapped_module"],
        ),
        (renamed("net.encoder.") | {"teller": np.zeros(3)}, ["'net.encoder.' removed from 10"]),
        ({"student": OTHER | {"x": STATE["attn.bias"]}, "tiny": {"w": STATE["bn.bias"]}}, None),
    ],
)
def test_weights_are_found_by_the_names_that_the_table_wants(content, notes):
    leaves, lines = convert(content, ignore=["teller", "x"])
    source = STATE if notes else OTHER
    np.testing.assert_array_equal(leaves["params/q/bias"], source["attn.bias"][:6])
    for note in notes or ["taken from 'student'"]:
        assert any(note in line for line in lines[1:]), lines


AMBIGUOUS = {"state_dict": STATE, "state_dict_ema": OTHER}
TWO = renamed("student.") | renamed("teacher.", OTHER)


def test_what_may_be_read_in_two_ways_is_asked():
    with pytest.raises(
        InputError, match=r"several places, 'state_dict', 'state_dict_ema': say which.*--key"
    ):
        convert(AMBIGUOUS)
    leaves, _ = convert(AMBIGUOUS, key="state_dict_ema")
    np.testing.assert_array_equal(leaves["params/q/bias"], OTHER["attn.bias"][:6])
    with pytest.raises(InputError, match="no tensors under 'ema'; there are 'state_dict', 'state"):
        convert(AMBIGUOUS, key="ema")
    # Averages of the parameters alone are weights too.
    ema = {k: v for k, v in OTHER.items() if "running" not in k and "num" not in k}
    with pytest.raises(InputError, match="several places, its top, 'ema'"):
        convert({**STATE, "ema": ema})
    leaves, _ = convert({**STATE, "ema": ema}, key="")
    np.testing.assert_array_equal(leaves["params/q/bias"], STATE["attn.bias"][:6])

    with pytest.raises(InputError, match=r"same names under 'student.' and 'teacher.': .*--prefix"):
        convert(TWO)
    leaves, lines = convert(TWO, prefix="teacher.", ignore=["student."])
    np.testing.assert_array_equal(leaves["params/q/bias"], OTHER["attn.bias"][:6])
    assert "prefix 'teacher.' removed from 10 names" in lines
    with pytest.raises(DoesNotFit, match=r"student.conv.weight is left over"):
        convert(TWO, prefix="teacher.")
    with pytest.raises(InputError, match=r"no name begins with 'x.'; there are 'student.conv"):
        convert(TWO, prefix="x.")


def test_a_prefix_that_only_the_table_has():
    def longer(model):
        return [r._replace(tensor=f"swin.{r.tensor}") for r in rows(model)]

    table, lines = types.SimpleNamespace(rows=longer, IGNORED=TABLE.IGNORED), []
    load(Tiny(), STATE, table, report=lines.append)
    assert lines[1:] == ["prefix 'swin.' put before 9 names"]


def test_a_whole_module_in_a_checkpoint():
    content = {"epoch": 3, "model": Opaque("my.Network")}
    with pytest.raises(InputError, match=r"is 'model' a whole module. Save its state_dict"):
        convert(content)
