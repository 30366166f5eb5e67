import csv
import os
from pathlib import Path

import numpy as np
import pytest

from sdnjax.data.sets import label_space
from sdnjax.data.sets.label_space import LabelSpace
from sdnjax.errors import InputError
from tests.data.conftest import one_line

NAMES = ("shapes", "camvid", "cityscapes", "ade20k", "voc2012_aug")
NAMES += ("pascal_context_59", "pascal_context_60")

# Name, id and train id of cityscapesScripts' labels, from id 0; train id 255 is not evaluated.
CITYSCAPES = """
unlabeled 0 255, ego vehicle 1 255, rectification border 2 255, out of roi 3 255, static 4 255,
dynamic 5 255, ground 6 255, road 7 0, sidewalk 8 1, parking 9 255, rail track 10 255,
building 11 2, wall 12 3, fence 13 4, guard rail 14 255, bridge 15 255, tunnel 16 255,
pole 17 5, polegroup 18 255, traffic light 19 6, traffic sign 20 7, vegetation 21 8,
terrain 22 9, sky 23 10, person 24 11, rider 25 12, car 26 13, truck 27 14, bus 28 15,
caravan 29 255, trailer 30 255, train 31 16, motorcycle 32 17, bicycle 33 18,
license plate -1 -1
"""

# The ids of PASCAL Context's 59 classes as published with them, in no order.
CONTEXT_IDS = """
2 259 260 415 324 9 258 144 18 19 22 23 397 25 284 158 159 416 33 162 420 454 295 296 427 44 45
46 308 59 440 445 31 232 65 354 424 68 326 72 458 34 207 80 355 85 347 220 349 360 98 187 104
105 366 189 368 113 115
"""
# Some lines of its list of 459 labels, beside and between those that are classes.
CONTEXT_LABELS = {
    1: "accordion", 2: "aeroplane", 9: "bag", 10: "ball", 18: "bed", 19: "bedclothes",
    23: "bicycle", 44: "building", 47: "cabinet door", 59: "car", 80: "cloth", 98: "cow",
    144: "fence", 189: "ground", 232: "light", 259: "mountain", 284: "person", 295: "plate",
    308: "pottedplant", 324: "road", 354: "sidewalk", 355: "sign", 360: "sky", 397: "table",
    398: "tableware", 415: "track", 416: "train", 427: "tvmonitor", 431: "unknown", 458: "wood",
    459: "wool",
}  # fmt: skip


def mapping(space):
    """{file value: class} through the public function, without the values that raise."""
    space, result = label_space(space) if isinstance(space, str) else space, {}
    for value in range(256):
        try:
            result[value] = int(space.map_labels(np.full((1, 1), value, np.uint8), "x")[0, 0])
        except InputError:
            continue
    return result


def mat_mapping(name, most=600):
    """{id in a .mat file: class}, likewise, through both public functions."""
    space, result = label_space(name), {}
    for i in range(most):
        try:
            values = space.values_of_ids(np.full((1, 1), i, np.int32), "x")
        except InputError:
            continue
        result[i] = int(space.map_labels(values, "x")[0, 0])
    return result


def test_shapes_values_are_classes():
    assert mapping("shapes") == {k: k for k in range(6)}


def test_camvid_eleventh_value_is_void():
    assert mapping("camvid") == {**{k: k for k in range(11)}, 11: 255}
    assert ",".join(label_space("camvid").classes) == (
        "sky,building,pole,road,pavement,tree,sign,fence,car,pedestrian,bicyclist"
    )


def test_cityscapes_ids():
    table = [line.split() for line in CITYSCAPES.replace("\n", " ").split(",")]
    rows = [(" ".join(words[:-2]), int(words[-2]), int(words[-1])) for words in table]
    assert len(rows) == 35
    assert mapping("cityscapes") == {i: train_id for _, i, train_id in rows if i >= 0}
    classes = {train_id: name for name, _, train_id in rows if train_id not in (-1, 255)}
    assert dict(enumerate(label_space("cityscapes").classes)) == classes


def test_ade20k_values():
    assert mapping("ade20k") == {0: 255, **{k: k - 1 for k in range(1, 151)}}
    space = label_space("ade20k")
    assert space.num_classes == 150
    # Anchors at the ends and in between, as counted in the benchmark's list from 1.
    numbers = {1: "wall", 2: "building", 8: "bed", 13: "person", 21: "car", 49: "skyscraper"}
    numbers |= {57: "pool table", 100: "buffet", 137: "traffic light", 150: "flag"}
    assert {k: space.classes[k - 1] for k in numbers} == numbers


@pytest.mark.skipif("SDNJAX_DATA" not in os.environ, reason="SDNJAX_DATA is not set")
def test_ade20k_names_are_synonyms_of_the_official_list():
    path = Path(os.environ["SDNJAX_DATA"]) / "ade20k_sample" / "objectInfo150.csv"
    if not path.is_file():
        pytest.skip(f"no {path}")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 150
    for row in rows:
        name = label_space("ade20k").classes[int(row["Idx"]) - 1]
        # The list separates the words of one name like the names: pool;table;billiard;table.
        words, synonyms = name.split(), row["Name"].replace(" ", ";").split(";")
        spans = [synonyms[i : i + len(words)] for i in range(len(synonyms))]
        assert words in spans, (row["Idx"], name, row["Name"])


def test_pascal_context_image_files():
    assert mapping("pascal_context_60") == {k: k for k in range(60)}
    assert mapping("pascal_context_59") == {0: 255, **{k: k - 1 for k in range(1, 60)}}
    with_background = label_space("pascal_context_60").classes
    assert with_background == ("background", *label_space("pascal_context_59").classes)
    assert list(with_background[1:]) == sorted(with_background[1:])


def test_pascal_context_mat_files():
    ids = sorted(map(int, CONTEXT_IDS.split()))
    assert len(ids) == 59
    expected = dict.fromkeys(range(460), 0) | {i: k for k, i in enumerate(ids, start=1)}
    assert mat_mapping("pascal_context_60") == expected
    assert mat_mapping("pascal_context_59") == {i: k - 1 if k else 255 for i, k in expected.items()}
    classes = label_space("pascal_context_60").classes
    for i, name in CONTEXT_LABELS.items():
        assert classes[expected[i]] == (name if i in ids else "background")


def test_voc_values_and_colours():
    expected = {**{k: k for k in range(21)}, 255: 255}
    assert mapping("voc2012_aug") == expected
    assert mat_mapping("voc2012_aug") == expected
    space = label_space("voc2012_aug")
    known = {"background": (0, 0, 0), "aeroplane": (128, 0, 0), "bicycle": (0, 128, 0)}
    known |= {"bird": (128, 128, 0), "car": (128, 128, 128), "cat": (64, 0, 0)}
    known |= {"person": (192, 128, 128), "pottedplant": (0, 64, 0), "sheep": (128, 64, 0)}
    known |= {"train": (128, 192, 0), "tvmonitor": (0, 64, 128)}
    colours = dict(zip(space.classes, space.palette, strict=True))
    assert {name: colours[name] for name in known} == known
    assert list(space.classes[1:]) == sorted(space.classes[1:])


@pytest.mark.parametrize("name", NAMES)
def test_every_class_has_a_name_a_colour_and_a_value(name):
    space = label_space(name)
    assert space.name == name
    assert space.num_classes == len(space.classes) == len(set(space.classes)) == len(space.palette)
    assert all(len(c) == 3 and all(0 <= v <= 255 for v in c) for c in space.palette)
    assert {*mapping(name).values()} - {255} == {*range(space.num_classes)}


@pytest.mark.parametrize("name", NAMES)
def test_colours_tell_classes_apart(name):
    space = label_space(name)
    pairs = list(zip(space.classes, space.palette, strict=True))
    twice = {c for c, colour in pairs if space.palette.count(colour) > 1}
    # The benchmark's own palette has one grey for two classes, and PASCAL Context borrows it.
    same = {"ade20k": {"road", "skyscraper"}, "pascal_context_59": {"bicycle", "snow"}}
    same["pascal_context_60"] = same["pascal_context_59"]
    assert twice == same.get(name, set())


def test_wrong_value_names_file_and_what_is_right():
    raw = np.zeros((4, 5), np.uint8)
    raw[1, 2:4] = 12
    with pytest.raises(InputError) as error:
        label_space("camvid").map_labels(raw, "valannot/a.png")
    message = one_line(error)
    assert "valannot/a.png" in message
    assert "12 at 2 pixels" in message
    assert "0-11" in message


@pytest.mark.parametrize("wrong", [460, 65535])
def test_wrong_id_names_file_and_what_is_right(wrong):
    ids = np.zeros((4, 5), np.int32)
    ids[3, :3] = wrong
    with pytest.raises(InputError) as error:
        label_space("pascal_context_59").values_of_ids(ids, "trainval/a.mat")
    assert one_line(error) == (
        f"trainval/a.mat: label id {wrong} at 3 pixels; pascal_context_59 .mat files hold 0-459"
    )


COLOURED = LabelSpace(
    "own",
    classes=("a", "b"),
    palette=((1, 2, 3), (3, 2, 1)),
    file_values=(),
    file_colors=(((3, 2, 1), 1), ((1, 2, 3), 0), ((3, 2, 2), 1), ((255, 255, 255), 255)),
)


def test_colours_are_mapped():
    raw = np.array([[[3, 2, 1], [1, 2, 3]], [[255, 255, 255], [3, 2, 2]]], np.uint8)
    result = COLOURED.map_labels(raw, "x")
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, [[1, 0], [255, 1]])


@pytest.mark.parametrize("wrong", [(0, 0, 0), (3, 2, 3), (255, 255, 254), (1, 3, 2)])
def test_unknown_colour_is_named(wrong):
    raw = np.full((2, 3, 3), (3, 2, 1), np.uint8)
    raw[0, :2] = wrong
    with pytest.raises(InputError) as error:
        COLOURED.map_labels(raw, "labels/a.png")
    expected = f"labels/a.png: colour #{bytes(wrong).hex()}, which no class has, at 2 pixels"
    assert one_line(error) == expected


def test_unknown_name_suggests_or_lists():
    with pytest.raises(InputError, match="did you mean cityscapes"):
        label_space("cityscape")
    with pytest.raises(InputError, match="did you mean pascal_context_59"):
        label_space("pascal_context59")
    with pytest.raises(InputError, match="shapes, camvid, cityscapes, ade20k, pascal_context_59"):
        label_space("zzz")
    with pytest.raises(InputError, match=r"the classes of 'folder' are in its classes\.csv"):
        label_space("folder")
