"""Backbones of timm and torchvision, the real ones: their names, their values, their outputs.

    pip install --no-deps timm torchvision

(torchvision's compiled operators are not needed and often do not load beside a CPU-only PyTorch;
timm imports torchvision, and either imports without them.)
"""

import importlib.util
import sys
import types

import jax
import numpy as np
import pytest

from sdnjax.convert import augreg_vit, hrnet, load, timm_vit, to_torch, torchvision_resnet
from sdnjax.models import EncoderDecoder, create_model
from sdnjax.models.backbones.hrnet import HRNet
from sdnjax.models.backbones.resnet import ResNet
from sdnjax.models.backbones.vit import ViT
from sdnjax.models.layers import Classifier
from tests.models.variables import random_variables
from tests.parity.harness import captured, images_and_labels, randomise, relative, torch

for package in ("timm", "torchvision"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)

sys.modules.setdefault(
    "torchvision._meta_registrations", types.ModuleType("torchvision._meta_registrations")
)
# Importing them warns of its own doing (renamed modules, operators that are missing).
pytestmark = pytest.mark.filterwarnings("ignore")


def outputs(model, theirs, table):
    """A function of images: ours, with their values."""
    state = {k: v.numpy() for k, v in theirs.state_dict().items()}
    variables = load(model, state, table, reinitialise=["classifier"], report=lambda _: None)

    def run(images):
        with jax.default_matmul_precision("highest"):
            return jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images)

    return run


def nchw(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2)


@pytest.mark.parametrize("depth", [18, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize("package", ["torchvision", "timm"])
def test_resnet(package, depth):
    import timm
    import torchvision

    name = f"resnet{depth}"
    theirs = (
        getattr(torchvision.models, name)()
        if package == "torchvision"
        else timm.create_model(name, zero_init_last=False)
    )
    randomise(theirs, seed=0)
    theirs.eval()
    images = images_and_labels(2)[0].astype(np.float32)
    with (
        torch.no_grad(),
        captured(theirs, {f"stage{i}": f"layer{i}" for i in range(1, 5)}) as found,
    ):
        theirs(nchw(images))
    model = EncoderDecoder(ResNet(depth, stem="v1"), Classifier(2))
    ours = outputs(model, theirs, torchvision_resnet)(images)
    measured = {stage: relative(ours[stage], value) for stage, value in found.items()}
    print(package, depth, measured)
    assert len(measured) == 4
    assert max(measured.values()) < 1e-5


@pytest.mark.parametrize(
    "name", ["hrnet_w18_small_v2", pytest.param("hrnet_w48", marks=pytest.mark.slow)]
)
def test_hrnet(name):
    """timm kept the names of the official classification networks.

    Those enlarge coarse branches by repeating pixels, the networks for segmentation bilinearly.
    """
    import timm

    theirs = timm.create_model(name)
    randomise(theirs, seed=0)
    theirs.eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.Upsample):
            module.mode = "bilinear"
    images = images_and_labels(2, size=(96, 160))[0].astype(np.float32)
    with torch.no_grad():
        branches = theirs.stages(
            theirs.act2(
                theirs.bn2(theirs.conv2(theirs.act1(theirs.bn1(theirs.conv1(nchw(images))))))
            )
        )
    small = {"modules": (1, 3, 2), "blocks": 2} if "small" in name else {}
    backbone = HRNet(width=48 if "48" in name else 18, **small)
    ours = outputs(EncoderDecoder(backbone, Classifier(2)), theirs, hrnet)(images)
    measured = [
        relative(ours[f"stage{i + 1}"], branch.permute(0, 2, 3, 1).numpy())
        for i, branch in enumerate(branches)
    ]
    print(name, measured)
    assert len(measured) == 4
    assert max(measured) < 1e-5


def vit_of_timm(size=(96, 160)):
    import timm

    theirs = timm.create_model("vit_tiny_patch16_224", img_size=size, num_classes=0)
    return theirs.eval()


def segmenter():
    model = create_model("segmenter_vit-t_linear", num_classes=3)
    return model.clone(backbone=ViT(192, 12, 3, position_grid=(6, 10)))


def tokens(theirs, images):
    with torch.no_grad():
        return theirs.forward_features(nchw(images))[:, 1:].reshape(1, 6, 10, 192).numpy()


def test_vit():
    theirs = vit_of_timm()
    randomise(theirs, seed=0)
    images = images_and_labels(2, size=(96, 160))[0].astype(np.float32)
    ours = outputs(segmenter(), theirs, timm_vit)(images)["stage1"]
    measured = relative(ours, tokens(theirs, images))
    print(measured)
    assert measured < 1e-5


def test_augreg_file_as_timm_reads_it(tmp_path):
    """One `.npz` file, loaded by timm and by us."""
    from timm.models.vision_transformer import _load_weights

    model = segmenter()
    images = images_and_labels(2, size=(96, 160))[0].astype(np.float32)
    variables = jax.tree.map(np.float32, random_variables(model, images, 2))
    path = tmp_path / "Ti_16.npz"
    np.savez(path, **to_torch(model, variables, augreg_vit, drop=["classifier"]))
    theirs = vit_of_timm()
    _load_weights(theirs, str(path))
    loaded = load(model, path, augreg_vit, reinitialise=["classifier"], report=lambda _: None)
    with jax.default_matmul_precision("highest"):
        ours = model.apply(loaded, images, train=False)["stage1"]
    measured = relative(ours, tokens(theirs, images))
    print(measured)
    assert measured < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("table", ["timm_vit", "augreg_vit"])
def test_vits_through_the_command(table, tmp_path):
    """A file of theirs at its usual size becomes a work directory, whose features are theirs."""
    from timm.models.vision_transformer import _load_weights

    from tests.parity.test_through_the_command import converted

    theirs = vit_of_timm(size=(512, 512))
    if table == "timm_vit":
        randomise(theirs, seed=0)
        path = tmp_path / "pytorch_model.bin"
        torch.save(theirs.state_dict(), path)
    else:
        model = create_model("segmenter_vit-t_linear", num_classes=3, like="augreg")
        variables = jax.tree.map(np.float32, random_variables(model, np.zeros((1, 64, 64, 3)), 3))
        path = tmp_path / "Ti_16.npz"
        np.savez(path, **to_torch(model, variables, augreg_vit, drop=["classifier"]))
        _load_weights(theirs, str(path))
    trained = converted(
        "segmenter_vit-t_linear", path, table, 3, tmp_path, reinitialise=["classifier"]
    )
    images = images_and_labels(2, size=(512, 512))[0].astype(np.float32)
    with jax.default_matmul_precision("highest"):
        outputs = trained.network.apply(trained.variables, images, train=False)
    with torch.no_grad():
        expected = theirs.forward_features(nchw(images))[:, 1:].reshape(1, 32, 32, 192).numpy()
    measured = relative(outputs["stage1"], expected)
    print(table, measured)
    assert measured < 1e-5
