"""Every data set read from the folders in which its archives are unpacked, in miniature."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from sdnjax.data.data_settings import Data
from sdnjax.data.pipeline.in_order import evaluation_examples
from sdnjax.data.reading.examples import canonical_label, decode
from sdnjax.data.reading.images import read_image
from sdnjax.data.sets import DATA_SETS, label_space
from sdnjax.data.sources import open_source
from sdnjax.errors import InputError
from tests.data import miniatures
from tests.data.conftest import one_line
from tests.data.miniatures import mat, png, sbd_mat

# Name of a case → data set, what makes it, pairs to train on (two are there to validate).
CASES = {
    "ade20k": ("ade20k", miniatures.make_ade20k, {}, 3),
    "cityscapes": ("cityscapes", miniatures.make_cityscapes, {}, 3),
    "context_59_mat": ("pascal_context_59", miniatures.make_pascal_context, {}, 3),
    "context_60_mat": ("pascal_context_60", miniatures.make_pascal_context, {}, 3),
    "context_60_png": (
        "pascal_context_60",
        miniatures.make_pascal_context,
        {"labels": "png", "lists": "SegmentationContext"},
        3,
    ),
    "voc_sbd": ("voc2012_aug", miniatures.make_voc, {}, 6),
    "voc_aug": ("voc2012_aug", miniatures.make_voc, {"more": "aug"}, 6),
    "own_grey": ("folder", miniatures.make_own, {}, 3),
    "own_rgb": ("folder", miniatures.make_own, {"colored": True}, 3),
}


@pytest.fixture
def made(tmp_path):
    """case → Data of a fresh miniature that a test may damage."""

    def make(case):
        name, function, options, _ = CASES[case]
        return Data(name=name, dir=str(function(tmp_path / case, **options)))

    return make


def opened(path) -> Image.Image:
    return Image.open(io.BytesIO(Path(path).read_bytes()))


def message_of(data, split="train", index=None):
    """The one line that opening, or reading an example, ends in."""
    with pytest.raises(InputError) as error:
        source = open_source(data, split)
        source[index]
    return one_line(error)


@pytest.mark.parametrize("case", CASES)
def test_names_counts_and_files(made, case):
    data = made(case)
    for split, count in (("train", CASES[case][3]), ("val", 2)):
        source = open_source(data, split)
        names = [source.name(k) for k in range(len(source))]
        assert len(names) == count
        assert names == sorted(set(names))
        for k in range(count):
            example = source[k]
            encoded = source.read(k)
            assert example.name == names[k]
            # The halves of a pair belong together: both paths hold the name's last part.
            for path in (encoded.image_name, encoded.label_name):
                assert Path(path).name.startswith(Path(names[k]).name)
            np.testing.assert_array_equal(example.image, read_image(encoded.image_name))
            assert example.label.shape == example.image.shape[:2]
            assert {*np.unique(example.label)} <= {*range(source.label_space.num_classes), 255}


def test_parents_and_folders_themselves(made):
    """What people give is the folder of the data set or the one they unpacked into."""
    for case, inside in (
        ("ade20k", ["ADEChallengeData2016"]),
        ("voc_sbd", []),
        ("voc_aug", ["VOCdevkit", "VOCdevkit/VOC2012"]),
        ("context_60_png", ["VOCdevkit", "VOCdevkit/VOC2010"]),
    ):
        data = made(case)
        whole = [open_source(data, "train").name(k) for k in range(CASES[case][3])]
        for folder in inside:
            other = Data(name=data.name, dir=str(Path(data.dir) / folder))
            source = open_source(other, "train")
            assert [source.name(k) for k in range(len(source))] == whole
    cityscapes = Path(made("cityscapes").dir)
    parent = Data(name="cityscapes", dir=str(cityscapes.parent))
    assert len(open_source(parent, "val")) == 2


def test_published_counts_and_archives():
    counts = {name: (x.counts.get("train"), x.counts.get("val")) for name, x in DATA_SETS.items()}
    assert counts["ade20k"] == (20210, 2000)
    assert counts["cityscapes"] == (2975, 500)
    assert DATA_SETS["cityscapes"].counts["test"] == 1525
    assert counts["pascal_context_59"] == counts["pascal_context_60"] == (4998, 5105)
    assert sum(counts["pascal_context_59"]) == 10103
    assert counts["voc2012_aug"] == (10582, 1449)
    archives = {name: x.archives for name, x in DATA_SETS.items()}
    assert archives["ade20k"] == ("ADEChallengeData2016.zip",)
    assert archives["cityscapes"] == ("leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip")
    assert archives["pascal_context_60"] == ("VOCtrainval_03-May-2010.tar", "trainval.tar.gz")
    assert archives["voc2012_aug"] == ("VOCtrainval_11-May-2012.tar", "benchmark.tgz")


# Of PASCAL Context's 59 classes in its .mat files.
CONTEXT_IDS = """
2 9 18 19 22 23 25 31 33 34 44 45 46 59 65 68 72 80 85 98 104 105 113 115 144 158 159 162 187
189 207 220 232 258 259 260 284 295 296 308 324 326 347 349 354 355 360 366 368 397 415 416 420
424 427 440 445 454 458
"""


def test_ade20k_labels(made):
    source = open_source(made("ade20k"), "val")
    for k in range(2):
        values = np.asarray(opened(source.read(k).label_name)).astype(int)
        expected = np.where(values == 0, 255, values - 1)
        np.testing.assert_array_equal(source[k].label, expected)


@pytest.mark.parametrize("case", ["context_59_mat", "context_60_mat"])
def test_pascal_context_labels_of_mat_files(made, case):
    source = open_source(made(case), "train")
    ids = sorted(map(int, CONTEXT_IDS.split()))
    for k in range(3):
        stored = scipy.io.loadmat(source.read(k).label_name)["LabelMap"].astype(int)
        expected = np.where(np.isin(stored, ids), np.searchsorted(ids, stored), -1)
        if case == "context_60_mat":
            expected += 1
        np.testing.assert_array_equal(source[k].label, np.where(expected < 0, 255, expected))


def test_pascal_context_png_and_mat_agree(made):
    """The PNG in place of a .mat file, as it would be stored, means the same."""
    source = open_source(made("context_59_mat"), "train")
    for k in range(3):
        encoded = source.read(k)
        stored = canonical_label(encoded, source.label_space)
        values = np.asarray(Image.open(io.BytesIO(stored)))
        assert values.dtype == np.uint8
        assert values.max() <= 59
        for name in ("pascal_context_59", "pascal_context_60"):
            space = label_space(name)
            again = type(encoded)("x", encoded.image, stored, "x.jpg", "x.png")
            np.testing.assert_array_equal(decode(again, space).label, decode(encoded, space).label)


@pytest.mark.parametrize("case", ["ade20k", "cityscapes", "voc_aug", "own_rgb"])
def test_image_labels_are_stored_as_they_are(made, case):
    source = open_source(made(case), "train")
    assert canonical_label(source.read(0), source.label_space) == source.read(0).label


def test_pascal_context_png_is_preferred_and_lists_have_an_order(made):
    data = made("context_60_mat")
    voc = Path(data.dir) / "VOCdevkit" / "VOC2010"
    (Path(data.dir) / "train.txt").write_text("2008_000001\n")
    assert len(open_source(data, "train")) == 1  # beside trainval
    lists = voc / "ImageSets" / "SegmentationContext"
    lists.mkdir()
    (lists / "train.txt").write_text("2008_000000\n2008_000002\n\n")
    assert len(open_source(data, "train")) == 2
    for k in range(3):
        size = opened(voc / "JPEGImages" / f"2008_{k:06d}.jpg").size
        path = voc / "SegmentationClassContext" / f"2008_{k:06d}.png"
        miniatures.write(path, png(np.full(size[::-1], 7)))
    assert (open_source(data, "train")[1].label == 7).all()


def test_voc_takes_its_own_label_where_it_has_one(made):
    """And SBD's for the others; no image of VOC's val is trained on."""
    data = made("voc_sbd")
    root = Path(data.dir)
    source = open_source(data, "train")
    names = [source.name(k) for k in range(len(source))]
    assert names == [f"2007_{k:06d}" for k in range(3)] + [f"2009_{k:06d}" for k in range(3)]
    sbd = root / "benchmark_RELEASE" / "dataset"
    held_out = "2007_100000"
    assert held_out in (sbd / "train.txt").read_text()
    assert (sbd / "cls" / "2007_000000.mat").is_file()
    for k, name in enumerate(names):
        if name.startswith("2007"):
            path = root / "VOCdevkit" / "VOC2012" / "SegmentationClass" / f"{name}.png"
            assert opened(path).mode == "P"
            expected = np.asarray(opened(path))
        else:
            loaded = scipy.io.loadmat(sbd / "cls" / f"{name}.mat")
            expected = loaded["GTcls"][0]["Segmentation"][0]
        np.testing.assert_array_equal(source[k].label, expected)
    val = open_source(data, "val")
    assert val.read(0).label_name.endswith(f"SegmentationClass/{held_out}.png")


def test_voc_images_may_come_from_sbd(made):
    data = made("voc_sbd")
    (Path(data.dir) / "VOCdevkit/VOC2012/JPEGImages/2009_000001.jpg").unlink()
    source = open_source(data, "train")
    assert source.read(4).image_name.endswith("dataset/img/2009_000001.jpg")
    assert source[4].name == "2009_000001"


def test_cityscapes_test_split_where_it_is_there(tmp_path, made):
    counts = (("train", 1), ("val", 1), ("test", 2))
    root = miniatures.make_cityscapes(tmp_path / "c", counts=counts, cities=("berlin",))
    data = Data(name="cityscapes", dir=str(root))
    assert len(open_source(data, "test")) == 2
    assert open_source(data, "test").name(1) == "berlin_000001_000019"
    assert "has no split 'test'; it has train, val" in message_of(made("cityscapes"), "test")


@pytest.mark.parametrize(
    ("case", "encode", "value", "message"),
    [
        ("ade20k", png, 151, "label value 151"),
        ("cityscapes", png, 34, "label value 34"),
        ("cityscapes", lambda x: png(x[..., None] + np.arange(3)), 7, "must be a grey or palette"),
        ("context_60_png", png, 60, "label value 60"),
        ("context_59_mat", lambda x: mat({"LabelMap": x}), 460, "label id 460"),
        ("context_59_mat", lambda x: mat({"Labels": x}), 0, "no variable LabelMap or GTcls"),
        ("voc_aug", png, 21, "label value 21"),
        ("voc_sbd", sbd_mat, 21, "label id 21"),
    ],
)
def test_wrong_label_is_named(made, case, encode, value, message):
    data = made(case)
    index = CASES[case][3] - 1  # the last is one of SBD's
    source = open_source(data, "train")
    path = Path(source.read(index).label_name)
    path.write_bytes(encode(np.full(source[index].label.shape, value)))
    text = message_of(data, index=index)
    assert str(path) in text
    assert message in text


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("half", ["image", "label"])
def test_truncated_file_is_named(made, case, half):
    data = made(case)
    index = CASES[case][3] - 1
    encoded = open_source(data, "train").read(index)
    path = Path(encoded.image_name if half == "image" else encoded.label_name)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    text = message_of(data, index=index)
    assert text.startswith(f"{path}: the ")
    assert "truncated or damaged" in text


@pytest.mark.parametrize("case", CASES)
def test_sizes_that_differ_are_named(made, case):
    data = made(case)
    encoded = open_source(data, "train").read(0)
    path = Path(encoded.image_name)
    miniature = opened(path)
    miniature.resize((40, 30)).save(path)
    text = message_of(data, index=0)
    assert f"{path} is 40×30 but {encoded.label_name} is 48×" in text


@pytest.mark.parametrize("case", CASES)
def test_unknown_split_suggests(made, case):
    assert "has no split 'vall'; did you mean val?" in message_of(made(case), "vall")


@pytest.mark.parametrize("case", CASES)
def test_wrong_folder_says_what_was_expected_and_found(made, case, tmp_path):
    name = CASES[case][0]
    (tmp_path / "other" / "pictures").mkdir(parents=True)
    text = message_of(Data(name=name, dir=str(tmp_path / "other")))
    assert f"--data.dir {tmp_path / 'other'} holds pictures: expected " in text
    text = message_of(Data(name=name, dir=str(tmp_path / "none")))
    assert f"--data.dir {tmp_path / 'none'} does not exist: expected " in text
    (tmp_path / "empty").mkdir()
    assert "is empty: expected " in message_of(Data(name=name, dir=str(tmp_path / "empty")))
    with pytest.raises(InputError, match=rf"{name} needs --data\.dir"):
        open_source(Data(name=name), "train")


@pytest.mark.parametrize(
    ("case", "lost", "message"),
    [
        ("ade20k", "ADEChallengeData2016/annotations", "unpack ADEChallengeData2016.zip"),
        ("cityscapes", "gtFine", "unpack gtFine_trainvaltest.zip, so that it lies beside left"),
        ("cityscapes", "leftImg8bit", "unpack leftImg8bit_trainvaltest.zip, so that it lies"),
        ("context_59_mat", "trainval", "unpack trainval.tar.gz there"),
        ("context_59_mat", "VOCdevkit/VOC2010/JPEGImages", "unpack VOCtrainval_03-May-2010.tar"),
        ("context_59_mat", "VOCdevkit/VOC2010/ImageSets", "ImageSets/Main/train.txt"),
        ("voc_sbd", "VOCdevkit", "unpack VOCtrainval_11-May-2012.tar beside"),
        ("voc_sbd", "benchmark_RELEASE", "unpack benchmark.tgz beside"),
        ("voc_sbd", "VOCdevkit/VOC2012/ImageSets", "ImageSets/Segmentation/val.txt is missing"),
        ("voc_aug", "VOCdevkit/VOC2012/SegmentationClassAug", "unpack benchmark.tgz beside"),
        ("own_grey", "labels", "labels is missing beside"),
        ("own_grey", "images", "images is missing beside"),
        ("own_grey", "labels/train", "labels/train is missing beside"),
    ],
)
def test_missing_half_says_what_to_do(made, case, lost, message):
    data = made(case)
    shutil.rmtree(Path(data.dir) / lost)
    assert message in message_of(data)


def test_missing_lists(made):
    data = made("voc_aug")
    lists = Path(data.dir) / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    (lists / "train_aug.txt").unlink()
    assert f"expected {lists / 'train_aug.txt'}" in message_of(data)
    assert len(open_source(data, "val")) == 2
    data = made("voc_sbd")
    sbd = Path(data.dir) / "benchmark_RELEASE" / "dataset"
    (sbd / "val.txt").unlink()
    assert f"expected train.txt and val.txt in {sbd}" in message_of(data)


@pytest.mark.parametrize("half", ["image", "label"])
@pytest.mark.parametrize("case", CASES)
def test_half_a_pair_is_named(made, case, half):
    data = made(case)
    # An example of which there is one image and one label: of VOC's own, or of those added.
    index = 1 if case == "voc_sbd" else CASES[case][3] - 1
    encoded = open_source(data, "train").read(index)
    Path(encoded.image_name if half == "image" else encoded.label_name).unlink()
    assert f"has no {half}: expected " in message_of(data)


def test_files_of_the_finder_are_passed_over(made):
    for case in ("ade20k", "own_grey"):
        data = made(case)
        encoded = open_source(data, "train").read(0)
        path = Path(encoded.image_name)
        path.with_name(f"._{path.name}").write_bytes(b"")
        assert len(open_source(data, "train")) == 3


LABELS = "\n".join(
    f"{i}: {label_space('pascal_context_60').classes[k]}"
    for k, i in enumerate(sorted(map(int, CONTEXT_IDS.split())), start=1)
)
# As distributed: another order, and three names spelled otherwise.
CHOSEN = "\n".join(
    f"{k}: {({'table': 'diningtable', 'bedclothes': 'bedcloth', 'cloth': 'clothes'}).get(n, n)}"
    for k, n in enumerate(reversed(label_space("pascal_context_59").classes), start=1)
)


@pytest.mark.parametrize("place", [".", "trainval"])
@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("labels.txt", LABELS + "\n459: wool\n", None),
        ("labels.txt", LABELS.replace("284: person", "284: dog"), "label 284 is dog, not person"),
        ("labels.txt", LABELS.replace("284: person", ""), "label 284 is not there, not person"),
        ("labels.txt", "person\n", "line 1: expected 'number: name', not 'person'"),
        ("59_labels.txt", CHOSEN, None),
        ("59_labels.txt", CHOSEN.replace("diningtable", "desk"), "desk is in only one of this"),
    ],
)
def test_official_lists_of_labels_are_checked(made, file, text, message, place):
    data = made("context_59_mat")
    path = Path(data.dir) / place / file
    path.write_text(text)
    if message is None:
        assert len(open_source(data, "train")) == 3
    else:
        assert message_of(data).startswith(str(path))
        assert message in message_of(data)


@pytest.mark.parametrize("case", ["context_59_mat", "voc_sbd", "own_rgb"])
def test_training_and_evaluation_see_the_same_mapping(made, case):
    from sdnjax.data.pipeline.batches import train_batches

    plain = {"scale_range": (1.0, 1.0), "max_class_share": 1.0, "flip": False}
    plain |= {"photometric": False, "crop_size": (40, 48), "workers": 1}
    made_data = made(case)
    data = Data(name=made_data.name, dir=made_data.dir, **plain)
    expected = set()
    for example in evaluation_examples(data, "train"):
        padded = np.full((40, 48), 255, np.int32)
        padded[: len(example.label)] = example.label
        expected.add(padded.tobytes())
    count = CASES[case][3]
    assert len(expected) == count
    with train_batches(data, seed=0, batch_size=count, stop_step=1) as batches:
        (batch,) = list(batches)
    assert {label.tobytes() for label in batch["label"]} == expected
