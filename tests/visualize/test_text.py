"""Names in any script: different names are never drawn alike."""

import numpy as np
import pytest
from PIL import ImageFont

from sdnjax.visualize import confusion_picture, legend, panel, text, undrawable
from sdnjax.visualize.text import covers, lettering, shortened

PALETTE = np.array([[200, 0, 0], [0, 200, 0]], np.uint8)
PAIRS = [
    ("道路", "森林"),
    ("дорога", "деревня"),
    ("طريق", "غابة"),
    ("सड़क", "जंगल"),
    ("a\u200bb", "ab"),
    ("道", "<U+9053>"),
    ("<U+9053>", "<U+003C>U+9053>"),
    ("\U0001f600", "\U0001f601"),
]


@pytest.fixture(params=["with", "without"])
def fonts(request, monkeypatch):
    """The fonts of the system, or none but Pillow's."""
    if request.param == "without":
        monkeypatch.setattr(text, "_font_file", lambda letters: None)


@pytest.mark.parametrize(("one", "two"), PAIRS)
def test_different_names_give_different_pictures(fonts, one, two):
    assert not np.array_equal(legend([one, "x"], PALETTE), legend([two, "x"], PALETTE))
    counts = np.eye(2, dtype=int)
    assert not np.array_equal(
        confusion_picture(counts, [one, "x"]), confusion_picture(counts, [two, "x"])
    )
    tile = [[np.zeros((300, 300, 3), np.uint8)]]
    assert not np.array_equal(panel(tile, [one]), panel(tile, [two]))


def test_without_a_font_code_points_are_drawn_and_it_is_said(monkeypatch):
    monkeypatch.setattr(text, "_font_file", lambda letters: None)
    assert lettering("b道", 16).text == "b<U+9053>"
    assert lettering("bushes", 16).text == "bushes"
    assert undrawable(["road", "bushes"]) == ""
    assert "letters of 道路, 森林: pictures show their code points" in undrawable(
        ["road", "道路", "森林"]
    )


def test_a_font_that_covers_the_name_is_taken():
    font = ImageFont.load_default(size=16)
    assert covers(font, "road 1_-")
    assert not covers(font, "路")
    assert not covers(font, "a路")
    assert not covers(font, "\U0010fffe")


def test_shortened_names_stay_apart():
    assert shortened(["abcdefghijkl", "abc"], 9) == ["abcd...kl", "abc"]
    same = ["a" * 30 + "b" + "c" * 30, "a" * 30 + "d" + "c" * 30, "x" * 30]
    cut = shortened(same, 24)
    assert cut[:2] == same[:2]
    assert len(cut[2]) == 24
