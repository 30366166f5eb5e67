"""A miniature CamVid in its real layout, made by the tests."""

from pathlib import Path

import numpy as np
import pytest

from sdnjax.data.data_settings import Data
from tests.data.miniatures import png


def make_camvid(root: Path, counts=(("train", 7), ("val", 4)), size=(36, 48), taller=2) -> Path:
    """Writes random pairs; every second label has void pixels."""
    rng = np.random.default_rng(0)
    for split, count in counts:
        (root / split).mkdir(parents=True)
        (root / f"{split}annot").mkdir()
        for k in range(count):
            # Heights differ, as in data sets other than CamVid.
            h, w = size[0] + taller * (k % 3), size[1]
            label = rng.integers(0, 11 + k % 2, (h // 6 + 1, w // 6 + 1)).repeat(6, 0).repeat(6, 1)
            name = f"{split}_{k:03d}.png"
            image = rng.integers(0, 256, (h, w, 3))
            (root / split / name).write_bytes(png(image))
            (root / f"{split}annot" / name).write_bytes(png(label[:h, :w]))
    return root


@pytest.fixture(scope="session")
def camvid_dir(tmp_path_factory):
    """Read-only: tests that damage files make their own."""
    return make_camvid(tmp_path_factory.mktemp("data") / "camvid")


@pytest.fixture
def camvid(camvid_dir):
    return Data(name="camvid", dir=str(camvid_dir), crop_size=(24, 32), workers=2)


@pytest.fixture
def own_camvid(tmp_path):
    """A copy that a test may damage."""
    return make_camvid(tmp_path / "camvid")


def one_line(error) -> str:
    """The message of a raised InputError, checked to be a single line."""
    message = str(error.value)
    assert message
    assert "\n" not in message
    return message
