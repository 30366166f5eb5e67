"""A source's file, in its own layout, through `convert.py`'s function: logits are the source's."""

import importlib.util

import jax
import numpy as np
import pytest

from sdnjax.commands.convert import from_torch
from sdnjax.commands.trained import load_network
from sdnjax.convert import to_torch
from sdnjax.convert.tables import TABLES
from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.models import Model, create_model
from tests.models.test_segmenter import official
from tests.models.variables import random_variables
from tests.parity import (
    test_hf_segformer,
    test_hrnet_ocr,
    test_maskformer,
    test_mmseg_deeplab,
    test_mmseg_fcn,
    test_mmseg_ocr,
    test_segformer,
    test_segmenter,
)
from tests.parity.harness import Theirs, images_and_labels, relative, torch

pytestmark = pytest.mark.slow


def mmseg_file(theirs, folder):
    """What mmengine's runner saves."""
    path = folder / "iter_160000.pth"
    torch.save({"meta": {"iter": 160000}, "state_dict": theirs.module.state_dict()}, path)
    return path


def hf_folder(theirs, folder):
    theirs.module.network.save_pretrained(folder / "hf")
    return folder / "hf"


class Stated(torch.nn.Module):
    """Values under the names of a source that is only restated."""

    def __init__(self, name, table, **settings):
        super().__init__()
        model = create_model(name, num_classes=K, **settings)
        variables = jax.tree.map(np.float32, random_variables(model, np.zeros((1, 64, 64, 3)), 3))
        state = to_torch(model, variables, TABLES[table])
        self.state = {k: torch.from_numpy(v) for k, v in state.items()}

    def state_dict(self):
        return self.state


def hrnet_ocr():
    module = Stated("ocrnet_hr18s", "hrnet_ocr", align_corners=True)

    def logits(images):
        return test_hrnet_ocr.Theirs(module.state).network(images)[0].permute(0, 3, 1, 2)

    return Theirs(module, logits)


def official_segmenter(decoder):
    """Scores at a sixteenth, cut, upsampled; pixels that are no whole patch are zeros added."""
    module = Stated(f"segmenter_vit-t_{decoder}", "official_segmenter", like="official")

    def logits(images):
        size = images.shape[2:]
        added = [-n % 16 for n in size]
        whole = torch.nn.functional.pad(images, (0, added[1], 0, added[0]))
        scores = official(module.state, whole).permute(0, 3, 1, 2)
        large = torch.nn.functional.interpolate(scores, whole.shape[2:], mode="bilinear")
        return large[:, :, : size[0], : size[1]]

    return Theirs(module, logits)


def wrapped_file(theirs, folder):
    """What a training script of the authors saves."""
    path = folder / "checkpoint.pth"
    torch.save({"model": theirs.module.state_dict(), "epoch": 3}, path)
    return path


def mmseg_maskformer():
    if importlib.util.find_spec("mmdet") is None:
        pytest.skip("mmdet is not installed")
    from tests.parity import test_mmseg_maskformer

    return test_mmseg_maskformer.theirs("maskformer_swin-t")


K = 7
# Name of the network → (the source's network, table or None for the network's own, file, K).
CASES = {
    "fcn_r18-d8": lambda: (test_mmseg_fcn.fcn(18)[0], None, mmseg_file, test_mmseg_fcn.K),
    "fpn_r18": lambda: (test_mmseg_fcn.fpn(18)[0], None, mmseg_file, test_mmseg_fcn.K),
    "deeplabv3plus_r18-d8": lambda: (
        test_mmseg_deeplab.theirs(18),
        None,
        mmseg_file,
        test_mmseg_deeplab.K,
    ),
    "ocrnet_hr18": lambda: (
        test_mmseg_ocr.theirs("ocrnet_hr18"),
        None,
        mmseg_file,
        test_mmseg_ocr.K,
    ),
    "segformer_mit-b0": lambda: (
        test_segformer.pair("b0")[0],
        "mmseg_segformer",
        mmseg_file,
        test_segformer.K,
    ),
    "segformer_mit-b0 hf": lambda: (
        test_hf_segformer.pair("b0")[0],
        "hf_segformer",
        hf_folder,
        test_hf_segformer.K,
    ),
    **{
        f"segmenter_vit-t_{decoder}": lambda decoder=decoder: (
            test_segmenter.pair("t", decoder)[0],
            None,
            mmseg_file,
            test_segmenter.K,
        )
        for decoder in ("mask", "linear")
    },
    **{
        f"segmenter_vit-t_{decoder} official": lambda decoder=decoder: (
            official_segmenter(decoder),
            "official_segmenter",
            wrapped_file,
            K,
        )
        for decoder in ("mask", "linear")
    },
    "ocrnet_hr18s official": lambda: (hrnet_ocr(), "hrnet_ocr", wrapped_file, K),
    "maskformer_swin-t mmseg": lambda: (mmseg_maskformer(), "mmseg_maskformer", mmseg_file, K),
    "maskformer_swin-t hf": lambda: (
        test_maskformer.pair("maskformer_swin-t")[0],
        "hf_maskformer",
        hf_folder,
        test_maskformer.K,
    ),
}


def converted(name, file, table, classes, folder, *, reinitialise=()):
    """The network in a work directory that was made of a file."""
    data = folder / "data"
    data.mkdir()
    rows = "".join(f"c{i},{i}\n" for i in range(classes))
    (data / "classes.csv").write_text("class,value\n" + rows)
    experiment = Experiment(
        model=Model(name=name), data=Data(name="folder", dir=str(data), crop_size=(64, 64))
    )
    options = {"table": table, "reinitialise": reinitialise, "report": lambda line: None}
    from_torch(experiment, file, folder / "run", **options)
    return load_network(folder / "run")


@pytest.mark.parametrize("case", CASES)
def test_logits_are_the_sources(case, tmp_path):
    theirs, table, write, k = CASES[case]()
    theirs.module.float().eval()
    trained = converted(case.split()[0], write(theirs, tmp_path), table, k, tmp_path)
    images, _ = images_and_labels(k)
    with torch.no_grad():
        expected = theirs.logits(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).float())
    with jax.default_matmul_precision("highest"):
        found = trained.network.apply(trained.variables, images.astype(np.float32), train=False)
    difference = relative(found["logits"], expected.numpy().transpose(0, 2, 3, 1))
    print(case, difference)
    assert difference < 3e-5
