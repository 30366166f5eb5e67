"""Colours of label maps, pixel by pixel."""

import numpy as np
import pytest

from sdnjax.visualize import colorize, error_map, overlay
from sdnjax.visualize.pictures import CORRECT_COLOR, VOID_COLOR, WRONG_COLOR

PALETTE = [[10, 20, 30], [200, 100, 0], [255, 255, 255]]


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.int64])
def test_colorize(kind):
    label = np.array([[0, 1], [2, 255], [3, 1]]).astype(kind)
    wanted = [[PALETTE[0], PALETTE[1]], [PALETTE[2], [1, 2, 3]], [[1, 2, 3], PALETTE[1]]]
    colors = colorize(label, PALETTE, void_color=(1, 2, 3))
    assert colors.dtype == np.uint8
    np.testing.assert_array_equal(colors, wanted)
    np.testing.assert_array_equal(colorize(label, np.array(PALETTE))[1, 1], [0, 0, 0])


def test_negative_labels_are_void():
    colors = colorize(np.array([[-1, -2, 2]]), PALETTE)
    np.testing.assert_array_equal(colors, [[[0, 0, 0], [0, 0, 0], PALETTE[2]]])


def test_many_classes():
    palette = np.random.default_rng(0).integers(0, 256, (300, 3))
    label = np.random.default_rng(1).integers(0, 300, (9, 7))
    np.testing.assert_array_equal(colorize(label, palette), palette[label])


def test_overlay_mixes_and_leaves_void_alone():
    image = np.array([[[100, 100, 100], [0, 50, 255]]], np.uint8)
    label = np.array([[1, 255]])
    np.testing.assert_array_equal(
        overlay(image, label, PALETTE, 0.25), [[[125, 100, 75], [0, 50, 255]]]
    )
    np.testing.assert_array_equal(overlay(image, label, PALETTE)[0, 0], [150, 100, 50])
    np.testing.assert_array_equal(overlay(image, label, PALETTE, 0), image)
    np.testing.assert_array_equal(overlay(image, label, PALETTE, 1)[0, 0], PALETTE[1])
    assert (overlay(image, np.array([[3, -1]]), PALETTE) == image).all()
    np.testing.assert_array_equal(image, [[[100, 100, 100], [0, 50, 255]]])


def test_error_map():
    label = np.array([[0, 1, 255], [2, 2, 255]], np.uint8)
    prediction = np.array([[0, 0, 0], [2, 1, 255]], np.int32)
    good, bad, void = CORRECT_COLOR, WRONG_COLOR, VOID_COLOR
    np.testing.assert_array_equal(error_map(label, prediction), [[good, bad, void]] * 2)
    picture = error_map(np.array([[7, 1]]), np.array([[1, 1]]), ignore=7)
    np.testing.assert_array_equal(picture, [[void, good]])


def test_error_colours_differ_in_lightness_alone():
    weights = np.array([0.2126, 0.7152, 0.0722])
    correct, void, wrong = (
        weights @ (np.array(color) / 255) ** 2.2
        for color in (CORRECT_COLOR, VOID_COLOR, WRONG_COLOR)
    )
    # contrast as WCAG defines it
    assert (void + 0.05) / (correct + 0.05) > 3
    assert (wrong + 0.05) / (void + 0.05) > 1.8


def test_mistakes():
    image, label = np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3), int)
    with pytest.raises(ValueError, match=r"image \(2, 3, 3\) and label \(3, 2\)"):
        overlay(image, label.T, PALETTE)
    with pytest.raises(ValueError, match="uint8 picture"):
        overlay(image / 255, label, PALETTE)
    with pytest.raises(ValueError, match="opacity"):
        overlay(image, label, PALETTE, 50)
    with pytest.raises(ValueError, match="integer map"):
        colorize(label * 0.5, PALETTE)
    with pytest.raises(ValueError, match="integer map"):
        colorize(label[None], PALETTE)
    with pytest.raises(ValueError, match="0…255, got 10…300"):
        colorize(label, [[10, 20, 300]])
    with pytest.raises(ValueError, match="integer colours"):
        colorize(label, [[0.1, 0.2, 0.3]])
    with pytest.raises(ValueError, match=r"\(2, 3\) and prediction \(3, 2\)"):
        error_map(label, label.T)
