"""Which pictures predict.py takes, what it calls them, and what it says of each."""

import numpy as np
import pytest
from PIL import Image

from sdnjax.commands.predict import find_pictures
from sdnjax.errors import InputError
from tests.commands.test_submission import network, picture, predict  # noqa: F401 (a fixture)


def test_every_picture_has_a_name_of_its_own(tmp_path):
    for name in ("a/x.png", "a/x.jpg", "a/y.PNG", "a/deep/z.png", "b/x.png", "c/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "notes.txt").touch()
    a, b, c = (tmp_path / name for name in "abc")
    assert find_pictures([a, b / "x.png", c]) == {
        "x_jpg": a / "x.jpg",
        "x_png": a / "x.png",
        "y": a / "y.PNG",
        "x_png_2": b / "x.png",
        "x_png_3": c / "x.png",
    }
    assert a / "deep" / "z.png" in find_pictures([a], recursive=True).values()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no pictures"):
        find_pictures([tmp_path / "empty"])


def test_the_three_largest_classes_are_named(network, tmp_path):  # noqa: F811
    network(4)
    picture(tmp_path / "one.png")
    (file,), lines = predict(tmp_path / "one.png", tmp_path / "out")
    counts = np.bincount(np.asarray(Image.open(file)).ravel(), minlength=4)
    expected = [f"{k} {counts[k] / counts.sum():.0%}" for k in np.argsort(-counts)[:3]]
    assert lines == [
        f"one: {', '.join(expected)}",
        f"1 of 1 picture(s) segmented into {tmp_path / 'out'}",
    ]
