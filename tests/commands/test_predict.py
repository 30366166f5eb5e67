"""Which pictures predict.py takes, what it calls them, and what it says of each."""

import numpy as np
import pytest
from PIL import Image

from sdnjax.commands.pictures import claim, find_pictures
from sdnjax.errors import InputError
from tests.commands.test_submission import network, picture, predict  # noqa: F401 (a fixture)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_every_picture_has_a_name_of_its_own(tmp_path):
    touch(tmp_path, "a/x.png", "a/x.jpg", "a/y.PNG", "a/deep/z.png", "b/x.png", "c/x.png")
    a, b, c = (tmp_path / name for name in "abc")
    assert find_pictures([a, b / "x.png", c]) == {
        "z": a / "deep" / "z.png",
        "x_jpg": a / "x.jpg",
        "x_png": a / "x.png",
        "y": a / "y.PNG",
        "x_png_2": b / "x.png",
        "x_png_3": c / "x.png",
    }
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no pictures"):
        find_pictures([tmp_path / "empty"])


def test_what_is_left_out_is_said_and_what_nobody_put_there_is_not_taken(tmp_path):
    touch(tmp_path, "a/x.png", "a/film.mp4", "a/y.avif", "a/notes.txt")
    touch(tmp_path, "a/._x.png", "a/.ipynb_checkpoints/x-checkpoint.png", "__MACOSX/a/x.png")
    (tmp_path / "a" / "back").symlink_to(tmp_path)  # a link in a circle
    (tmp_path / "a" / "other").symlink_to(tmp_path / "elsewhere")
    touch(tmp_path, "elsewhere/z.webp")
    lines = []
    found = find_pictures([tmp_path], lines.append)
    assert sorted(found) == ["x", "z"]
    few = "film.mp4, notes.txt, y.avif"
    assert lines == [f"{tmp_path}: 3 file(s) are no pictures and left out: {few}"]


def test_nothing_is_overwritten_that_an_earlier_call_has_not_written(network, tmp_path):  # noqa: F811
    network(4)
    photos = tmp_path / "photos"
    picture(photos / "a.png")
    picture(photos / "a_labels.png")
    with pytest.raises(InputError, match=r"a_labels\.png would be overwritten"):
        predict(photos, photos)
    before = (photos / "a_labels.png").read_bytes()
    (photos / "a_labels.png").unlink()
    predict(photos, photos)
    names = sorted(p.name for p in photos.glob("*.png"))
    assert names == ["a.png", "a_labels.png", "a_overlay.png", "legend.png"]
    (again,), _ = predict(photos, photos)  # its own files are neither pictures nor in the way
    assert again.name == "a_labels.png"
    picture(photos / "legend_.png")
    (photos / "legend_.png").replace(photos / "b_overlay.png")
    picture(photos / "b.png")
    with pytest.raises(InputError, match=r"b_overlay\.png would be overwritten"):
        predict(photos, photos)
    assert before


def test_claimed_files_are_no_inputs(tmp_path):
    touch(tmp_path, "a.png")
    claim(tmp_path, ["b.png"], [])
    with pytest.raises(InputError, match=r"a\.png would be overwritten"):
        claim(tmp_path, ["a.png"], [])
    touch(tmp_path, "b.png")
    claim(tmp_path, ["b.png"], [])
    with pytest.raises(InputError, match=r"b\.png would be overwritten"):
        claim(tmp_path, ["b.png"], [tmp_path / "b.png"])


def test_probabilities_are_those_of_the_predictor(network, tmp_path):  # noqa: F811
    network(4)
    picture(tmp_path / "one.png")
    (file,), _ = predict(tmp_path / "one.png", tmp_path / "out", "probabilities")
    found = np.load(file)
    assert (file.name, found.dtype, found.shape) == (
        "one_probabilities.npy",
        np.float16,
        (24, 40, 4),
    )
    np.testing.assert_allclose(found.sum(-1, dtype=float), 1, atol=4e-3)
    (labels,), _ = predict(tmp_path / "one.png", tmp_path / "plain")
    same = np.asarray(Image.open(labels)) == found.argmax(-1)
    assert same.mean() > 0.99  # float16 has ties
    assert not (tmp_path / "out" / "legend.png").exists()


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
