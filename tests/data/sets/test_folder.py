"""A user's own folder: classes from its class file, labels by value or by colour."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdnjax.data.data_settings import Data
from sdnjax.data.sources import label_space_of, open_source
from sdnjax.errors import InputError
from tests.data import miniatures
from tests.data.conftest import one_line
from tests.data.miniatures import png


@pytest.fixture
def made(tmp_path):
    """Whether labels are RGB → Data of a fresh folder that a test may damage."""

    def make(colored=False):
        root = miniatures.make_own(tmp_path / f"colored_{colored}", colored=colored)
        return Data(name="folder", dir=str(root))

    return make


def opened(path) -> Image.Image:
    return Image.open(io.BytesIO(Path(path).read_bytes()))


def message_of(data, index=0):
    """The one line that opening, or reading an example, ends in."""
    with pytest.raises(InputError) as error:
        open_source(data, "train")[index]
    return one_line(error)


def test_own_classes(made):
    for colored in (False, True):
        data = made(colored)
        space = label_space_of(data)
        assert (space.name, space.classes) == ("folder", ("soil", "leaf", "stem"))
        source = open_source(data, "train")
        assert [source.name(k) for k in range(3)] == ["000", "002", "field/001"]
        for k in range(3):
            raw = np.asarray(opened(source.read(k).label_name)).astype(int)
            code = raw @ [65536, 256, 1] if colored else raw
            expected = np.full(code.shape, -1)
            for name, value, rgb in miniatures.OWN_CLASSES:
                k_of = {"soil": 0, "leaf": 1, "stem": 2, "void": 255}[name]
                number = int("{:02x}{:02x}{:02x}".format(*rgb), 16)
                expected[code == (number if colored else value)] = k_of
            np.testing.assert_array_equal(source[k].label, expected)


def test_palette_images_are_values_or_else_colours(made):
    for colored, value, expected in ((False, 20, 2), (True, 1, 1)):
        data = made(colored)
        path = Path(data.dir) / "labels" / "train" / "000.png"
        picture = Image.new("P", opened(path).size, value)
        colours = [0] * 768
        colours[3:6] = (64, 200, 96)  # leaf's second colour
        picture.putpalette(colours)
        picture.save(path)
        assert (open_source(data, "train")[0].label == expected).all()


@pytest.mark.parametrize(
    ("colored", "label", "message"),
    [
        (False, np.full((36, 48), 12), "label value 12 at 1728 pixels; folder label files "),
        (False, np.full((36, 48, 3), 12), "colour #0c0c0c, which no class has, at 1728"),
        (True, np.full((36, 48, 3), 12), "colour #0c0c0c, which no class has, at 1728"),
        (True, np.zeros((36, 48)), "a label must be an RGB image of class colours, not L"),
    ],
)
def test_own_label_that_means_nothing(made, colored, label, message):
    data = made(colored)
    path = Path(data.dir) / "labels" / "train" / "000.png"
    path.write_bytes(png(label))
    assert f"{path}: {message}" in message_of(data)


def test_two_images_of_one_name(made):
    data = made()
    folder = Path(data.dir) / "images" / "train"
    shutil.copy(folder / "000.jpg", folder / "000.PNG")
    text = message_of(data)
    assert "have one name" in text
    assert "000.jpg" in text
    assert "000.PNG" in text


def test_own_class_file_is_needed(made):
    data = made()
    (Path(data.dir) / "classes.csv").unlink()
    assert f"{Path(data.dir) / 'classes.csv'}: no such file" in message_of(data)
