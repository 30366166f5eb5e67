"""Three pairs of the real data set, if SDNJAX_DATA names the folder with ade20k_sample/."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdnjax.data.data_settings import Data
from sdnjax.data.sources import open_source
from sdnjax.errors import InputError

ROOT = Path(os.environ.get("SDNJAX_DATA", "")) / "ade20k_sample"
pytestmark = pytest.mark.skipif(
    "SDNJAX_DATA" not in os.environ or not ROOT.is_dir(), reason="no ade20k_sample/ in SDNJAX_DATA"
)


def test_three_pairs():
    source = open_source(Data(name="ade20k", dir=str(ROOT)), "val")
    assert [source.name(k) for k in range(len(source))] == [f"ADE_val_{k:08d}" for k in (1, 2, 3)]
    for k in range(3):
        example = source[k]
        path = ROOT / "annotations" / "validation" / f"{example.name}.png"
        stored = np.asarray(Image.open(path)).astype(np.int64)
        assert example.image.shape == (*stored.shape, 3)
        assert len(np.unique(stored)) > 5
        expected = np.where(stored == 0, 255, stored - 1)
        np.testing.assert_array_equal(example.label, expected)


def test_other_split_is_not_there():
    with pytest.raises(InputError, match="has no split 'train'; it has val"):
        open_source(Data(name="ade20k", dir=str(ROOT)), "train")
