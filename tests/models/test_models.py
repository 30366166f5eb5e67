"""Names, sizes and options of the networks."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.errors import InputError
from sdnjax.models import MODELS, Model, Neck, create_model
from sdnjax.models.backbones.resnet import ResNet
from sdnjax.models.layers import BatchNorm
from sdnjax.models.necks.sdn import SDN
from sdnjax.ops import angular_difference_conv, local_binary_conv, radial_difference_conv
from tests.models.small import small_network
from tests.models.variables import logits, random_variables

WITHOUT_NECK = tuple(name for name in MODELS if name.startswith(("difnet", "segfix")))
IMAGE = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)


def parameters(model, **inputs):
    shapes = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False), inputs.get("image", IMAGE)
    )
    return sum(np.prod(x.shape, dtype=int) for x in jax.tree.leaves(shapes["params"]))


@pytest.mark.parametrize(
    ("depth", "expected"),
    # torchvision's models without their fully connected layer
    [(18, 11_176_512), (34, 21_284_672), (50, 23_508_032), (101, 42_500_160)],
)
def test_resnet_has_torchvisions_parameters(depth, expected):
    assert parameters(ResNet(depth, stem="v1")) == expected


@pytest.mark.parametrize("output_stride", [8, 32])
def test_resnet_strides(output_stride):
    model = ResNet(18, output_stride=output_stride)
    stages = jax.eval_shape(
        lambda x: model.init_with_output(jax.random.key(0), x, train=False)[0], IMAGE
    )
    sizes = [x.shape[1] for x in stages]
    assert sizes == ([16, 8, 8, 8] if output_stride == 8 else [16, 8, 4, 2])


LARGE = ("r101", "hr48", "hr18", "hr2x", "mit-b4", "mit-b5", "swin-s", "swin-b", "vit-b", "vit-l")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if any(x in name for x in LARGE) else name
        for name in MODELS
    ],
)
def test_every_name_builds_and_resizes_to_the_image(name):
    image = jax.ShapeDtypeStruct((2, 65, 97, 3), jnp.float32)
    # HRNet-W18's 18 channels are not divisible by 4.
    neck = {"neck": "sdn", "reduction": 2, "guidance_channels": 8}
    k = 16 if name.startswith("segfix") else 7
    model = create_model(name, num_classes=k, **({} if name in WITHOUT_NECK else neck))
    outputs = jax.eval_shape(
        lambda x: model.init_with_output(jax.random.key(0), x, train=False)[0], image
    )
    assert outputs["logits"].shape == (2, 65, 97, k)
    assert ("auxiliary" in outputs) == name.startswith(("fcn", "ocrnet", "deeplabv3plus"))


def test_literal_neck_has_the_parameters_of_the_specification():
    """C = 2048: SDC 9·C², fusion 2·C² + C, Φ 9·C² + C, and λ."""
    c = 2048
    with_neck = parameters(create_model("fcn_r50-d8", num_classes=19, neck="sdn"))
    without = parameters(create_model("fcn_r50-d8", num_classes=19))
    assert with_neck - without == 9 * c * c + (2 * c * c + c) + (9 * c * c + c) + 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: create_model("fcn_r18_d8", num_classes=2), "did you mean fcn_r18-d8"),
        (lambda: create_model("fcn_r18-d8", num_classes=2, neck="snd"), "unknown neck"),
        (lambda: create_model("fcn_r18-d8", num_classes=2, reduction=2), "option of neck='sdn'"),
        (lambda: create_model("fcn_r18-d8", num_classes=2, neck="sdn", redution=2), "redution"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_operator_none_is_the_network_without_a_neck():
    plain = parameters(create_model("fcn_r18-d8", num_classes=4))
    assert parameters(Model(neck=Neck(operator="none")).build(4)) == plain
    assert parameters(Model(neck=Neck(operator="conv")).build(4)) > plain


@pytest.mark.parametrize("operator", ["sdc", "conv", "cdc"])
def test_operators_differ_once_fusion_lets_them_through(operator):
    rng = np.random.default_rng(0)
    u = jnp.asarray(rng.normal(size=(1, 6, 7, 4)), jnp.float32)
    v = jnp.asarray(rng.normal(size=(1, 3, 4, 5)), jnp.float32)
    kernel = rng.normal(size=(3, 3, 4, 4)).astype(np.float32)
    fusion = {"kernel": np.concatenate([np.zeros((4, 4)), np.eye(4)])[None, None]}
    params = {"kernel": kernel, "fusion": {**fusion, "bias": np.zeros(4)}}
    if operator == "sdc":
        params["log_scale"] = np.float32(0)
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    y = SDN(operator=operator).apply({"params": params}, u, v)

    padded = np.pad(np.asarray(u, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    centre = np.asarray(u, np.float64)
    windows = [padded[:, i : i + 6, j : j + 7] for i in range(3) for j in range(3)]
    taps = kernel.reshape(9, 4, 4).astype(np.float64)
    conv = sum(x @ k for x, k in zip(windows, taps, strict=True))
    if operator == "conv":
        np.testing.assert_allclose(y, conv, atol=1e-5)
    elif operator == "cdc":
        np.testing.assert_allclose(y, conv - 0.7 * centre @ taps.sum(axis=0), atol=1e-5)
    else:
        cdc = conv - centre @ taps.sum(axis=0)
        assert np.abs(y - cdc)[:, 1:-1, 1:-1].max() > 0.1  # S weights the differences


@pytest.mark.parametrize(
    ("operator", "function"),
    [
        ("apdc", angular_difference_conv),
        ("rpdc", radial_difference_conv),
        ("lbc", local_binary_conv),
    ],
)
def test_operators_of_the_same_family(operator, function):
    """The neck's operator is the function of that name, dilated as the neck is."""
    u = jnp.asarray(np.random.default_rng(0).normal(size=(1, 6, 7, 4)), jnp.float32)
    sdn = SDN(operator=operator, dilation=2)
    variables = sdn.init(jax.random.key(0), u, u)
    kernel = variables["params"]["kernel"]
    fusion = {"kernel": jnp.concatenate([jnp.zeros((4, 4)), jnp.eye(4)])[None, None]}
    params = {"kernel": kernel, "fusion": {**fusion, "bias": jnp.zeros(4)}}
    expected = function(u, kernel, dilation=2)
    np.testing.assert_allclose(sdn.apply({"params": params}, u, u), expected, atol=1e-5)
    with pytest.raises(InputError, match="is 3×3, not kernel_size=5"):
        SDN(operator=operator, kernel_size=5).init(jax.random.key(0), u, u)
    unused = Neck(operator=operator).unused()
    assert {"similarity", "implementation", "kernel_size"} <= set(unused)


def test_similarity_may_be_a_function_of_ones_own():
    def sign_agreement(neighbour, centre):
        return (jnp.sign(neighbour) == jnp.sign(centre)).mean(axis=-1)

    def output(similarity):
        model = create_model("fcn_r18-d8", num_classes=3, neck="sdn", similarity=similarity)
        images = np.random.default_rng(0).normal(size=(1, 33, 41, 3)).astype(np.float32)
        variables = jax.tree.map(np.float32, random_variables(model, images, 3))
        assert ("log_scale" in variables["params"]["neck"]["sdn1"]) == (similarity == "gaussian")
        return logits(model, variables, images)

    own, constant, gaussian = map(output, (sign_agreement, "constant", "gaussian"))
    assert np.abs(own - constant).max() > 1e-3
    assert np.abs(own - gaussian).max() > 1e-3


def test_reduction_must_divide():
    x = jnp.zeros((1, 4, 4, 6))
    with pytest.raises(ValueError, match="must divide"):
        SDN(reduction=4).init(jax.random.key(0), x, x)


def test_batch_norm_statistics_are_pytorchs():
    x = np.random.default_rng(0).normal(3.0, 2.0, size=(2, 3, 5, 4)).astype(np.float32)
    layer = BatchNorm()
    variables = layer.init(jax.random.key(0), x, train=False)
    y, changed = layer.apply(variables, x, train=True, mutable=["batch_stats"])
    wide = x.astype(np.float64).reshape(-1, 4)
    mean, var = wide.mean(axis=0), wide.var(axis=0)
    np.testing.assert_allclose(y.reshape(-1, 4), (wide - mean) / np.sqrt(var + 1e-5), atol=2e-6)
    np.testing.assert_allclose(changed["batch_stats"]["mean"], 0.1 * mean, rtol=1e-6)
    unbiased = wide.var(axis=0, ddof=1)
    np.testing.assert_allclose(changed["batch_stats"]["var"], 0.9 + 0.1 * unbiased, rtol=1e-6)
    used = layer.apply({**variables, **changed}, x, train=False)
    expected = (wide - 0.1 * mean) / np.sqrt(0.9 + 0.1 * unbiased + 1e-5)
    np.testing.assert_allclose(used.reshape(-1, 4), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "fpn_r18",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in (
                "fcn_r18-d8",
                "ocrnet_hr18",
                "deeplabv3plus_r18-d8",
                "deeplabv2_r50-d8",
                "fpn_efficientnet-lite0",
            )
        ),
    ],
)
def test_neck_at_initialisation_changes_nothing(name):
    images = np.random.default_rng(0).normal(size=(1, 33, 47, 3)).astype(np.float32)
    plain = small_network(name, num_classes=4)
    with_neck = small_network(name, num_classes=4, neck="sdn", reduction=2)
    variables = jax.tree.map(np.float32, random_variables(plain, images, 3))
    outputs = jax.eval_shape(lambda v, x: plain.apply(v, x, train=False), variables, images)
    stages = [jnp.ones(outputs[f"stage{i + 1}"].shape) for i in plain.decoder_stages]
    neck = jax.jit(lambda: with_neck.neck.init(jax.random.key(1), stages))()["params"]
    params = {**variables["params"], "neck": neck}
    before = logits(plain, variables, images)
    after = logits(with_neck, {**variables, "params": params}, images)
    assert np.ptp(before) > 0
    np.testing.assert_array_equal(before, after)


def test_bfloat16_computes_narrow_and_keeps_parameters_and_logits_wide():
    images = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype(np.float32)
    wide = Model(name="fcn_r18-d8", neck=Neck(operator="sdc")).build(3)
    narrow = Model(name="fcn_r18-d8", dtype="bfloat16", neck=Neck(operator="sdc")).build(3)
    shapes = jax.eval_shape(lambda: narrow.init(jax.random.key(0), images, train=False))
    assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    variables = jax.tree.map(np.float32, random_variables(wide, images, 3))
    outputs = jax.eval_shape(lambda: narrow.apply(variables, images, train=False))
    assert outputs["stage4"].dtype == jnp.bfloat16
    assert outputs["logits"].dtype == jnp.float32
    expected = logits(wide, variables, images)
    difference = np.abs(logits(narrow, variables, images) - expected).max()
    assert 0 < difference < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize("neck", [None, "sdn"])
@pytest.mark.parametrize("name", MODELS)
def test_networks_made_alike_are_equal(name, neck):
    """A `jit` with the network as a static argument compiles once."""
    neck = None if name in WITHOUT_NECK else neck
    a, b = (create_model(name, num_classes=3, neck=neck) for _ in range(2))
    assert a == b and hash(a) == hash(b)
    assert pickle.loads(pickle.dumps(a)) == a
    assert create_model(name, num_classes=4, neck=neck) != a
    if neck is not None:
        assert create_model(name, num_classes=3, neck=neck, dilation=2) != a
