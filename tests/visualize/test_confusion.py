"""The picture of a confusion matrix."""

import numpy as np
import pytest

from sdnjax.visualize import confusion_picture

NAMES = ("road", "sky", "tree")


def cells(picture, count, cell):
    """Colours of the cells, a few pixels from their corners: numbers stand in the middle."""
    lines = [picture.shape[0] - 16 - (count - k) * cell for k in range(count)]
    return np.array([[picture[y + 3, x + 3] for x in lines] for y in lines], int)


def test_cells_show_shares_of_rows():
    confusion = np.array([[90, 10, 0], [500, 500, 0], [0, 0, 0]])
    found = cells(confusion_picture(confusion, NAMES), 3, 38)
    green, red = (lambda c: c[1] > c[0]), (lambda c: c[0] > c[1])
    assert green(found[0, 0])
    assert red(found[0, 1])
    assert found[0, 0].sum() < found[1, 1].sum()  # darker
    assert found[1, 0].sum() < found[0, 1].sum()
    assert (found[0, 2] == 255).all()
    assert len({tuple(c) for c in found[2]}) == 1  # the absent class
    assert (found[2, 0] != 255).all()
    scaled = confusion_picture(confusion * [[7], [1], [1]], NAMES)
    np.testing.assert_array_equal(scaled, confusion_picture(confusion, NAMES))


def test_numbers_are_written_from_half_a_percent_on():
    def picture(few):
        return confusion_picture(np.array([[1000 - few, few], [0, 1000]]), ("a", "b"))

    def ink(p):
        cell = p[-16 - 2 * 38 + 5 : -16 - 38 - 5, -16 - 38 + 5 : -16 - 5].astype(int)
        return (cell.sum(axis=-1) < 300).any()

    assert ink(picture(6))
    assert not ink(picture(4))


def test_truth_is_on_the_left():
    a = confusion_picture(np.array([[1, 9], [0, 1]]), ("a", "b"))
    assert not np.array_equal(a, confusion_picture(np.array([[1, 0], [9, 1]]), ("a", "b")))
    assert (cells(a, 2, 38)[1, 0] == 255).all()
    assert (cells(a, 2, 38)[0, 1] != 255).any()


@pytest.mark.parametrize("count", [1, 11, 19, 40, 41, 150])
def test_size_holds_all_names(count):
    names = [f"a class with a long name, number {k}" if k % 7 == 0 else "x" for k in range(count)]
    picture = confusion_picture(np.eye(count, dtype=np.int64), names)
    assert picture.dtype == np.uint8
    assert picture.shape[0] == picture.shape[1] > count * (38 if count <= 40 else 16)
    assert picture.shape[0] < 3200
    assert (picture[[0, -1]] == 255).all()  # nothing touches the edges
    assert (picture[:, [0, -1]] == 255).all()


def test_mistakes():
    with pytest.raises(ValueError, match="2 class names"):
        confusion_picture(np.eye(3), ("a", "b"))
    with pytest.raises(ValueError, match="0 class names"):
        confusion_picture(np.zeros((0, 0)), ())
