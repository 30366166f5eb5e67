"""What tools export becomes a folder that reads as it was drawn; nothing is lost unsaid."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from sdnjax.data.data_settings import Data
from sdnjax.data.importing.command import import_labels, main
from sdnjax.data.sources import label_space_of, open_source
from sdnjax.errors import InputError
from tests.data.conftest import one_line

PICTURE = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)


def png(array, form="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, form, **options)
    return buffer.getvalue()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


def box(x0, y0, x1, y1):
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def shape(label, points, kind="polygon", **more):
    return {"label": label, "points": points, "shape_type": kind, **more}


def labelme(*shapes, image="a.png", **more):
    return {"imagePath": image, "imageHeight": 6, "imageWidth": 8, "shapes": shapes, **more}


def read(target, split):
    data = Data(name="folder", dir=str(target))
    source, space = open_source(data, split), label_space_of(data)
    names = np.array([*space.classes, *["?"] * (255 - len(space.classes)), "void"])
    return {source.name(i): names[source[i].label] for i in range(len(source))}


def test_labelme(tmp_path):
    source, to = tmp_path / "s", tmp_path / "t"
    mask = png(np.array([[255, 0], [0, 255]], np.uint8))
    shapes = [
        shape("leaf", box(0, 0, 4, 4)),
        shape("stem", [[2, 2], [6, 6]], "rectangle"),
        shape("__ignore__", box(0, 5, 1, 6)),
        shape("leaf", [[6, 0], [7, 1]], "mask", mask=base64.b64encode(mask).decode()),
        shape("leaf", [[1, 1]], "point"),
        shape("_background_", box(0, 0, 1, 1)),
    ]
    write(source / "train" / "a.json", labelme(*shapes))
    write(source / "train" / "a.png", png(PICTURE))
    data = base64.b64encode(png(PICTURE)).decode()
    write(source / "valid" / "b.json", labelme(image="..\\b.png", imageData=data))
    said = import_labels(source, to)
    assert "train: 1 pictures" in said
    assert "left out: 1 point shapes, which have no area" in said
    assert "1 pictures have no region and are background everywhere" in said
    expected = np.full((6, 8), "background", dtype="<U10")
    expected[:4, :4] = "leaf"
    expected[2:6, 2:6] = "stem"  # drawn later
    expected[5, 0] = "void"
    expected[0, 6] = expected[1, 7] = "leaf"
    expected[0, 0] = "background"
    np.testing.assert_array_equal(read(to, "train")["a"], expected)
    assert (read(to, "val")["b"] == "background").all()
    assert (to / "images/train/a.png").read_bytes() == png(PICTURE)


def test_labelme_turns_pictures_as_the_tool_did(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    tall = labelme(shape("leaf", box(0, 0, 2, 1)), image="a.jpg", imageHeight=8, imageWidth=6)
    write(tmp_path / "s" / "a.json", tall)
    write(tmp_path / "s" / "a.jpg", png(PICTURE, "JPEG", exif=exif))
    import_labels(tmp_path / "s", tmp_path / "t")
    image = Image.open(tmp_path / "t/images/all/a.png")
    assert image.size == (6, 8)
    assert not image.getexif()
    label = read(tmp_path / "t", "all")["a"]
    assert np.argwhere(label == "leaf").tolist() == [[0, 0], [0, 1]]


def coco(annotations, **more):
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "height": 6, "width": 8},
            {"id": 9, "file_name": "d/b.png", "height": 6, "width": 8},
        ],
        "categories": [{"id": 3, "name": "stem"}, {"id": 1, "name": "leaf"}],
        "annotations": annotations,
        **more,
    }


def annotation(image, category, segmentation, **more):
    return {
        "id": 5,
        "image_id": image,
        "category_id": category,
        "segmentation": segmentation,
        **more,
    }


def test_coco(tmp_path):
    flat = [float(v) for v in np.ravel(box(0, 0, 3, 2))]
    other = [float(v) for v in np.ravel(box(5, 4, 8, 6))]
    content = coco(
        [
            annotation(7, 1, [flat, other]),
            annotation(7, 3, {"size": [6, 8], "counts": [6, 6, 36]}),
            annotation(9, 3, {"size": [6, 8], "counts": [0, 6, 42]}, iscrowd=1),
            annotation(9, 3, {"size": [6, 8], "counts": "61Y1"}),
            annotation(9, 1, [], bbox=[0, 0, 1, 1]),
        ]
    )
    write(tmp_path / "s/annotations/instances_train2017.json", content)
    for name in ("a.png", "d/b.png"):
        write(tmp_path / "s/train2017" / name, png(PICTURE))
    said = import_labels(tmp_path / "s", tmp_path / "t")
    assert "classes: background, leaf, stem" in said
    assert "left out: 1 crowds, whose pixels become void" in said
    assert "left out: 1 annotations without a segmentation (boxes, key points)" in said
    read_back = read(tmp_path / "t", "train")
    expected = np.full((6, 8), "background", dtype="<U10")
    expected[:2, :3] = expected[4:, 5:] = "leaf"
    expected[:, 1] = "stem"
    np.testing.assert_array_equal(read_back["a"], expected)
    expected = np.full((6, 8), "background", dtype="<U10")
    expected[:, 0] = "void"
    expected[0, 1] = "stem"
    np.testing.assert_array_equal(read_back["d/b"], expected)


def test_cvat_masks(tmp_path):
    source, to = tmp_path / "s", tmp_path / "t"
    write(
        source / "labelmap.txt",
        b"# label:color_rgb:parts:actions\nbackground:0,0,0::\nleaf:9,8,7::\n",
    )
    write(source / "ImageSets/Segmentation/default.txt", b"a\n")
    colors = np.zeros((6, 8, 3), np.uint8)
    colors[2, 3] = (9, 8, 7)
    write(source / "SegmentationClass/a.png", png(colors))
    with pytest.raises(InputError, match="names a, which has no picture in"):
        import_labels(source, to)
    write(source / "JPEGImages/a.jpg", png(PICTURE, "JPEG"))
    import_labels(source, to)
    assert np.argwhere(read(to, "all")["a"] == "leaf").tolist() == [[2, 3]]


def test_roboflow_masks(tmp_path):
    for split in ("train", "valid"):
        write(tmp_path / "s" / split / "_classes.csv", b"Pixel Value, Class\n0, background\n1, x\n")
        write(tmp_path / "s" / split / "a_jpg.rf.1.jpg", png(PICTURE, "JPEG"))
        write(tmp_path / "s" / split / "a_jpg.rf.1_mask.png", png(np.eye(6, 8, dtype=np.uint8)))
    import_labels(tmp_path / "s", tmp_path / "t")
    for split in ("train", "val"):
        assert (
            (read(tmp_path / "t", split)["a_jpg.rf.1"] == "x") == np.eye(6, 8, dtype=bool)
        ).all()


def message_of(source, target, **more):
    with pytest.raises(InputError) as error:
        import_labels(source, target, **more)
    assert not target.exists()
    assert [p.name for p in target.parent.iterdir()] == ["s"]  # nothing half-made
    return one_line(error)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (labelme(shape("a", box(0, 0, 1, 1)), imageHeight=7), "drawn on 8×7 pixels, but the pic"),
        (labelme(shape("a", [[0, 0], [1, 1]])), "shape 1: a polygon needs at least three points"),
        (labelme(shape("a", [[0, 0], [1, 1]], "heart")), "shape 1: unknown shape_type 'heart'"),
        (labelme(shape("ignore", box(0, 0, 1, 1))), "'ignore' may be a class"),
        (labelme(shape("a,b", box(0, 0, 1, 1))), "'a,b' cannot be written"),
        (labelme(shape("a", box(0, 0, 1, 1)), image="z.png"), "z.png does not exist"),
        (coco([annotation(8, 1, [])]), "annotation 5: no image has the id 8"),
        (coco([annotation(7, 2, [])]), "annotation 5: no category has the id 2"),
        (
            coco([annotation(7, 1, {"size": [6, 8], "counts": [3]})]),
            "annotation 5: the runs make 3",
        ),
        (coco([annotation(7, 1, {"size": [8, 6], "counts": [48]})]), "its size is [8, 6]"),
        (coco([], images=[]), "no picture of coco there"),
        ({"a": 1}, "is none of them that is known"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(tmp_path, content, message):
    write(tmp_path / "s" / "a.json", content)
    write(tmp_path / "s" / "a.png", png(PICTURE))
    write(tmp_path / "s" / "d" / "b.png", png(PICTURE))
    assert message in message_of(tmp_path / "s", tmp_path / "t")


def test_nothing_is_overwritten(tmp_path, capsys):
    write(tmp_path / "s" / "a.json", labelme(shape("a", box(0, 0, 1, 1))))
    write(tmp_path / "s" / "a.png", png(PICTURE))
    write(tmp_path / "t" / "kept", b"kept")
    words = [str(tmp_path / "s"), "--to", str(tmp_path / "t")]
    assert main(words) == 2
    assert capsys.readouterr().err == (
        f"error: --to {tmp_path / 't'} is there already: name a folder that is not\n"
    )
    assert [p.name for p in (tmp_path / "t").iterdir()] == ["kept"]
    assert main([*words[:2], str(tmp_path / "u")]) == 0
    assert "classes: background, a" in capsys.readouterr().out
