"""A user's own folder, prepared: read without the folder, and never taken for another one."""

import dataclasses
import shutil

import numpy as np
import pytest
from PIL import Image

from sdnjax.data.data_settings import Data
from sdnjax.data.preparing.prepare import prepare
from sdnjax.data.sources import label_space_of, open_source
from sdnjax.errors import InputError
from tests.data import miniatures


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("own")
    source = miniatures.make_own(root / "mine", size=(12, 12))
    deep = source / "labels" / "train" / "000.png"  # ids above 255 pass too
    label = np.asarray(Image.open(deep)).astype(np.uint16)
    label[0, 0] = 3000
    Image.fromarray(label).save(deep)
    with (source / "classes.csv").open("a") as file:
        file.write("\nroot,3000,#010203\n")
    prepare("folder", root / "prepared", source, progress=False)
    return source, root / "prepared"


def test_prepared_equals_the_folder(made):
    source, prepared = made
    theirs = Data(name="folder", dir=str(source))
    ours = Data(name="folder", dir=str(prepared))
    assert label_space_of(ours) == label_space_of(theirs)
    for split in ("train", "val"):
        one, two = open_source(ours, split), open_source(theirs, split)
        assert type(one) is not type(two)
        assert [one.name(k) for k in range(len(one))] == [two.name(k) for k in range(len(two))]
        for k in range(len(two)):
            np.testing.assert_array_equal(one[k].image, two[k].image)
            np.testing.assert_array_equal(one[k].label, two[k].label)
    assert open_source(ours, "train")[0].label[0, 0] == 3


def test_it_can_be_divided(made):
    ours = Data(name="folder", dir=str(made[1]), val_split="part", fold=(0, 2))
    assert len(open_source(ours, "part")) + len(open_source(ours, "train")) == 3


def test_the_same_command_does_nothing_and_another_folder_is_refused(made, tmp_path):
    source, prepared = made
    assert prepare("folder", prepared, source, progress=False) == (prepared / "folder/1.0.0", {})
    other = shutil.copytree(source, tmp_path / "other")
    with pytest.raises(InputError, match=r"was prepared from .*mine: name another --data-dir"):
        prepare("folder", prepared, other, progress=False)


def test_changed_files_are_noticed(made, tmp_path):
    source = miniatures.make_own(tmp_path / "mine", counts=(("train", 1),), size=(6, 6))
    prepare("folder", tmp_path / "prepared", source, progress=False)
    text = (source / "classes.csv").read_text()
    (source / "classes.csv").write_text(text.replace("stem", "stalk"))
    with pytest.raises(InputError, match=r"was prepared before files in .* changed: remove it"):
        prepare("folder", tmp_path / "prepared", source, progress=False)
    (source / "classes.csv").write_text(text)
    image = source / "images/train/000.jpg"
    image.write_bytes(miniatures.jpeg(np.zeros((6, 6, 3))) + b" ")
    with pytest.raises(InputError, match="was prepared before files in"):
        prepare("folder", tmp_path / "prepared", source, progress=False)


def test_pictures_and_prepared_are_kept_apart(made, tmp_path):
    source = shutil.copytree(made[0], tmp_path / "both")
    with pytest.raises(InputError, match="is the folder with the pictures themselves"):
        prepare("folder", source, source, progress=False)
    shutil.copytree(made[1] / "folder", source / "folder")
    with pytest.raises(InputError, match="holds pictures and a prepared data set"):
        open_source(Data(name="folder", dir=str(source)), "train")


def test_superpixels_of_ones_own_pictures(tmp_path):
    pytest.importorskip("skimage")
    source = miniatures.make_own(tmp_path / "mine", counts=(("train", 1),), size=(24, 24))
    data = Data(name="folder", dir=str(source), superpixels=4)
    with pytest.raises(InputError, match=r"prepare folder --source .*mine --data-dir PREPARED"):
        open_source(data, "train")
    prepare("folder", tmp_path / "prepared", source, superpixels=4, progress=False)
    example = open_source(dataclasses.replace(data, dir=str(tmp_path / "prepared")), "train")[0]
    assert example.superpixels.shape == example.label.shape
    assert example.superpixels.max() > 0
