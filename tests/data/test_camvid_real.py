"""The real data set, if SDNJAX_DATA names the folder that contains camvid/."""

import os
from pathlib import Path

import numpy as np
import pytest

from sdnjax.data.data_settings import Data
from sdnjax.data.pipeline.batches import train_batches
from sdnjax.data.pipeline.in_order import evaluation_examples
from sdnjax.data.sources import open_source

ROOT = Path(os.environ.get("SDNJAX_DATA", "")) / "camvid"
pytestmark = pytest.mark.skipif(
    "SDNJAX_DATA" not in os.environ or not ROOT.is_dir(), reason="SDNJAX_DATA has no camvid/"
)
DATA = Data(name="camvid", dir=str(ROOT), crop_size=(240, 320))


def test_whole_validation_split():
    counts = np.zeros(256, np.int64)
    names = []
    for example in evaluation_examples(DATA):
        assert example.image.shape == (360, 480, 3)
        assert example.label.shape == (360, 480)
        counts += np.bincount(example.label.ravel(), minlength=256)
        names.append(example.name)
    assert len(names) == 101
    assert names == sorted(names)
    assert counts[:11].min() > 0
    assert counts[11:255].sum() == 0
    assert 0 < counts[255] < 0.1 * counts.sum()
    road, sky = counts[3] / counts.sum(), counts[0] / counts.sum()
    assert 0.2 < road < 0.4
    assert 0.05 < sky < 0.3


def test_training_batches():
    assert len(open_source(DATA, "train")) == 367
    with train_batches(DATA, seed=0, batch_size=8, stop_step=6) as batches:
        for batch in batches:
            assert abs(batch["image"].mean()) < 2
            share = np.bincount(batch["label"].ravel(), minlength=256)[:11]
            assert (share > 0).sum() >= 6
