"""Legends, contact sheets and files."""

import numpy as np
import pytest
from PIL import Image

from sdnjax.visualize import legend, panel, save_png

RED, BLUE = (np.full((3, 4, 3), color, np.uint8) for color in ([255, 0, 0], [0, 0, 255]))
TALL = np.full((6, 2, 3), [0, 255, 0], np.uint8)


def extent(sheet, color):
    """(top, bottom, left, right) of a colour, bottom and right excluded, all of it that colour."""
    rows, columns = np.nonzero((sheet == color).all(axis=2))
    box = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    assert len(rows) == (box[1] - box[0]) * (box[3] - box[2])
    return tuple(int(each) for each in box)


def test_pictures_stand_side_by_side_with_thin_gaps():
    sheet = panel([[RED, BLUE]], scale=2)
    assert sheet.shape == (6, 2 * 8 + 4, 3)
    assert extent(sheet, [255, 0, 0]) == (0, 6, 0, 8)
    assert extent(sheet, [0, 0, 255]) == (0, 6, 12, 20)


def test_smaller_pictures_are_centred_in_their_cell():
    sheet = panel([[RED, BLUE], [TALL, RED]], scale=1)
    assert sheet.shape == (3 + 4 + 6, 4 + 4 + 4, 3)
    assert extent(sheet, [0, 255, 0]) == (7, 13, 1, 3)
    assert (sheet[8:11, 8:12] == [255, 0, 0]).all()


def test_scaling_repeats_pixels():
    picture = np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8)
    np.testing.assert_array_equal(panel([[picture]], scale=3)[::3, ::3], picture)
    np.testing.assert_array_equal(
        panel([[picture]], scale=3), picture[np.arange(9) // 3][:, np.arange(12) // 3]
    )


@pytest.mark.parametrize(
    ("side", "shown"), [(1, 256), (100, 200), (128, 256), (129, 129), (300, 300)]
)
def test_tiny_pictures_grow_by_a_whole_factor(side, shown):
    assert panel([[np.zeros((side, 1, 3), np.uint8)]]).shape[0] == shown


def test_titles_stand_over_their_columns():
    plain, titled = panel([[RED, BLUE]], scale=20), panel([[RED, BLUE]], ["one", "two"], 20)
    head = titled.shape[0] - plain.shape[0]
    assert head > 0
    np.testing.assert_array_equal(titled[head:], plain)
    dark = (titled[:head] < 100).all(axis=2)
    for left in (0, 84):
        columns = np.flatnonzero(dark[:, left : left + 80].any(axis=0))
        assert columns.size > 10
        assert abs((columns[0] + columns[-1]) / 2 - 40) < 3
    assert not dark[[0, -1]].any(), "titles must not be cut"


def test_a_long_title_widens_its_column():
    sheet = panel([[RED, BLUE]], ["a title much wider than the picture", "b"], 1)
    top, bottom, left, right = extent(sheet, [255, 0, 0])
    assert (bottom - top, right - left) == (3, 4)
    assert left > 80
    dark = np.flatnonzero((sheet < 100).all(axis=2).any(axis=0))
    assert dark[0] > 0, "the title must not be cut"
    assert abs((left + right) / 2 - (dark[0] + dark[dark < 2 * left][-1]) / 2) < 4


def test_panel_mistakes():
    with pytest.raises(ValueError, match=r"same number of pictures, got \[1, 2\]"):
        panel([[RED, BLUE], [RED]])
    for nothing in ([], [[]]):
        with pytest.raises(ValueError, match="same number of pictures"):
            panel(nothing)
    with pytest.raises(ValueError, match="1 titles for 2 columns"):
        panel([[RED, BLUE]], ["one"])
    with pytest.raises(ValueError, match="scale"):
        panel([[RED]], scale=0)
    with pytest.raises(ValueError, match="uint8 picture"):
        panel([[RED[..., 0]]])


def test_legend_shows_each_colour_once_in_order_with_ink_beside_it():
    palette = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200]])
    picture = legend(["road", "building", "sky"], palette)
    boxes = [extent(picture, color) for color in palette]
    assert [box[0] for box in boxes] == sorted(box[0] for box in boxes)
    assert len({box[2:] for box in boxes}) == 1
    for top, bottom, _, right in boxes:
        assert (picture[top:bottom, right + 4 :] < 100).all(axis=2).any()
    assert (picture[:, -1] == 255).all(), "names must not be cut"


@pytest.mark.parametrize(("count", "columns"), [(25, 1), (26, 2), (150, 6)])
def test_long_legends_go_into_columns(count, columns):
    palette = np.stack([np.arange(count) + 100, np.arange(count), np.full(count, 50)], axis=1)
    picture = legend([f"class {index}" for index in range(count)], palette)
    boxes = [extent(picture, color) for color in palette]
    assert len({box[2] for box in boxes}) == columns
    assert len({(box[0], box[2]) for box in boxes}) == count


def test_white_swatches_keep_an_outline():
    picture = legend(["snow"], [[255, 255, 255]])
    assert (picture[:, :44] < 200).all(axis=2).any()


def test_legend_mistakes():
    with pytest.raises(ValueError, match="2 class names for 1 colours"):
        legend(["a", "b"], [[0, 0, 0]])
    with pytest.raises(ValueError, match="0 class names"):
        legend([], np.zeros((0, 3), int))


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_save_png_keeps_every_pixel_and_leaves_nothing_else(tmp_path, shape):
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    target = tmp_path / "new" / "picture.png"
    save_png(target, picture[:, ::-1])
    save_png(target, picture)
    with Image.open(target) as read:
        np.testing.assert_array_equal(np.asarray(read), picture)
        assert read.format == "PNG"
    assert list(target.parent.iterdir()) == [target]


def test_failure_leaves_the_old_picture(tmp_path, monkeypatch):
    target = tmp_path / "picture.png"
    save_png(str(target), RED)
    before = target.read_bytes()

    def broken(self, path, format):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", broken)
    with pytest.raises(OSError, match="disk full"):
        save_png(target, BLUE)
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 2)), np.zeros((2, 2, 4), np.uint8), np.zeros((0, 2), np.uint8)]
)
def test_save_png_refuses_what_is_no_picture(tmp_path, wrong):
    with pytest.raises(ValueError, match="for a PNG"):
        save_png(tmp_path / "picture.png", wrong)
    assert not list(tmp_path.iterdir())


def test_label_map_keeps_its_values_under_a_palette(tmp_path):
    label = np.arange(6, dtype=np.uint8).reshape(2, 3) % 3
    save_png(tmp_path / "label.png", label, [(1, 2, 3), (40, 50, 60), (7, 8, 9)])
    with Image.open(tmp_path / "label.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), label)
        assert picture.convert("RGB").getpixel((1, 0)) == (40, 50, 60)
