"""Every data set is prepared from its layout and from its archives."""

import tarfile
import zipfile

import numpy as np
import pytest

from sdnjax.data.data_settings import Data
from sdnjax.data.preparing.command import main
from sdnjax.data.preparing.prepare import prepare
from sdnjax.data.sets import DATA_SETS
from sdnjax.data.sources import open_source
from sdnjax.errors import InputError
from tests.data.miniatures import (
    make_ade20k,
    make_cityscapes,
    make_pascal_context,
    make_voc,
    mat,
)

MAKERS = {
    "ade20k": make_ade20k,
    "cityscapes": make_cityscapes,
    "pascal_context_59": make_pascal_context,
    "pascal_context_60": make_pascal_context,
    "voc2012_aug": make_voc,
}
# What each archive holds, at its top.
ARCHIVES = {
    "ADEChallengeData2016.zip": ["ADEChallengeData2016"],
    "leftImg8bit_trainvaltest.zip": ["leftImg8bit"],
    "gtFine_trainvaltest.zip": ["gtFine"],
    "VOCtrainval_03-May-2010.tar": ["VOCdevkit"],
    "trainval.tar.gz": ["trainval"],
    "VOCtrainval_11-May-2012.tar": ["VOCdevkit"],
    "benchmark.tgz": ["benchmark_RELEASE"],
}


def same(prepared, folder, name):
    for split in ("train", "val"):
        ours = open_source(Data(name=name, dir=str(prepared)), split)
        theirs = open_source(Data(name=name, dir=str(folder)), split)
        assert type(ours) is not type(theirs)
        assert len(ours) == len(theirs) > 0
        for k in range(len(theirs)):
            assert ours[k].name == theirs[k].name
            np.testing.assert_array_equal(ours[k].image, theirs[k].image)
            np.testing.assert_array_equal(ours[k].label, theirs[k].label)
            # Files are stored as they are, MATLAB's as PNG.
            assert ours.read(k).image == theirs.read(k).image
            label = theirs.read(k)
            if label.label_name.endswith(".mat"):
                assert ours.read(k).label.startswith(b"\x89PNG")
            else:
                assert ours.read(k).label == label.label


@pytest.mark.parametrize("name", MAKERS)
def test_prepared_equals_the_folder(name, tmp_path):
    folder = MAKERS[name](tmp_path / "source")
    with pytest.raises(InputError, match=r"train has \d+ of .*--partial prepares what is there"):
        prepare(name, tmp_path / "out", folder, progress=False)
    prepare(name, tmp_path / "out", folder, partial=True, progress=False)
    same(tmp_path / "out", folder, name)


@pytest.mark.parametrize("name", MAKERS)
def test_prepared_from_archives(name, tmp_path, capsys):
    folder = MAKERS[name](tmp_path / "source")
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    tops = set()
    for archive in DATA_SETS[name].archives:
        tops.update(ARCHIVES[archive])
        if archive.endswith(".zip"):
            with zipfile.ZipFile(downloads / archive, "w") as members:
                for top in ARCHIVES[archive]:
                    for path in sorted((folder / top).rglob("*")):
                        members.write(path, path.relative_to(folder))
        else:
            with tarfile.open(downloads / archive, "w:gz" if "gz" in archive else "w") as members:
                for top in ARCHIVES[archive]:
                    members.add(folder / top, top)
    assert tops == {path.name for path in folder.iterdir()}
    command = [name, "--source", str(downloads), "--data-dir", str(tmp_path / "out"), "--partial"]
    assert main([*command, "--workers", "1"]) == 0, capsys.readouterr().err
    same(tmp_path / "out", folder, name)


def test_an_archive_that_is_missing_is_named(tmp_path, capsys):
    folder = make_cityscapes(tmp_path / "source")
    (tmp_path / "downloads").mkdir()
    with zipfile.ZipFile(tmp_path / "downloads" / "leftImg8bit_trainvaltest.zip", "w") as members:
        for path in sorted((folder / "leftImg8bit").rglob("*")):
            members.write(path, path.relative_to(folder))
    command = ["cityscapes", "--source", str(tmp_path / "downloads")]
    assert main([*command, "--data-dir", str(tmp_path / "out"), "--partial"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert "there is no gtFine_trainvaltest.zip beside" in error


def test_a_folder_that_is_missing_is_named(tmp_path, capsys):
    folder = make_cityscapes(tmp_path / "source")
    (folder / "gtFine").rename(tmp_path / "elsewhere")
    assert main(["cityscapes", "--source", str(folder), "--data-dir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert f"--source: {folder / 'gtFine'} is missing" in error
    assert error.count("\n") == 1


def test_a_damaged_mat_is_named(tmp_path):
    folder = make_pascal_context(tmp_path / "source")
    path = sorted((folder / "trainval").iterdir())[0]
    path.write_bytes(mat({"Other": np.ones((3, 3))}))
    with pytest.raises(InputError) as error:
        prepare("pascal_context_59", tmp_path / "out", folder, partial=True, progress=False)
    assert str(path) in str(error.value)
