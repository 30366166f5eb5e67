"""A source's file, in its own layout, through `convert.py`'s function: logits are the source's."""

import jax
import numpy as np
import pytest

from sdnjax.commands.convert import from_torch
from sdnjax.commands.trained import load_network
from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.models import Model
from tests.parity import (
    test_hf_segformer,
    test_maskformer,
    test_mmseg_deeplab,
    test_mmseg_fcn,
    test_mmseg_ocr,
    test_segformer,
)
from tests.parity.harness import images_and_labels, relative, torch

pytestmark = pytest.mark.slow


def mmseg_file(theirs, folder):
    """What mmengine's runner saves."""
    path = folder / "iter_160000.pth"
    torch.save({"meta": {"iter": 160000}, "state_dict": theirs.module.state_dict()}, path)
    return path


def hf_folder(theirs, folder):
    theirs.module.network.save_pretrained(folder / "hf")
    return folder / "hf"


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
    "maskformer_swin-t hf": lambda: (
        test_maskformer.pair("maskformer_swin-t")[0],
        "hf_maskformer",
        hf_folder,
        test_maskformer.K,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_logits_are_the_sources(case, tmp_path):
    name = case.split()[0]
    theirs, table, write, k = CASES[case]()
    theirs.module.float().eval()
    folder = tmp_path / "data"
    folder.mkdir()
    rows = "".join(f"c{i},{i}\n" for i in range(k))
    (folder / "classes.csv").write_text("class,value\n" + rows)
    experiment = Experiment(
        model=Model(name=name), data=Data(name="folder", dir=str(folder), crop_size=(64, 64))
    )
    file = write(theirs, tmp_path)
    from_torch(experiment, file, tmp_path / "run", table=table, report=lambda line: None)
    trained = load_network(tmp_path / "run")
    images, _ = images_and_labels(k)
    with torch.no_grad():
        expected = theirs.logits(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).float())
    with jax.default_matmul_precision("highest"):
        found = trained.network.apply(trained.variables, images.astype(np.float32), train=False)
    difference = relative(found["logits"], expected.numpy().transpose(0, 2, 3, 1))
    print(case, difference)
    assert difference < 3e-5
