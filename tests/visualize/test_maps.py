"""Colours of numbers and features, plots, and the sheets of a network's outputs."""

import numpy as np
import pytest

from sdnjax.visualize.figures import network_figures, transition_figure
from sdnjax.visualize.maps import enlarged, heat, principal_colours
from sdnjax.visualize.scatter import scatter_picture


def test_heat_is_lighter_for_more():
    light = heat(np.linspace(-3, 5, 50)[None]).astype(int).sum(-1)[0]
    assert (np.diff(light) >= 0).all() and light[-1] > light[0] + 400
    assert (heat(np.full((2, 2), 7.0)) == heat(np.zeros((2, 2)))).all()
    assert (heat(np.array([[0.5]]), 0, 1) == heat(np.array([[0, 0.5, 1]]))[:, 1]).all()


def test_equal_features_have_equal_colours_in_all_maps():
    x = np.random.default_rng(0).standard_normal((6, 5, 8))
    a, b = principal_colours([x, x[::-1]])
    assert a.shape == (6, 5, 3) and (a == b[::-1]).all() and len(np.unique(a.reshape(-1, 3), 0)) > 9
    (grey,) = principal_colours([x[..., :1]])  # one channel: red alone
    assert not grey[..., 1:].any() or grey[..., 1:].std() == 0


def test_enlarged_by_nearest():
    x = np.arange(6).reshape(2, 3)
    assert enlarged(x, (4, 6)).tolist() == x.repeat(2, 0).repeat(2, 1).tolist()
    assert enlarged(x, (5, 4)).shape == (5, 4)


def test_a_scatter_plot_has_a_point_for_each_value():
    one = scatter_picture(np.array([10, 2000]), [("a", np.array([0.1, 0.9]))], ("x", "y"))
    two = scatter_picture(
        np.array([10, 2000]),
        [("a", np.array([0.1, 0.9])), ("b", np.array([0.4, 0.4])), ("c", np.zeros(2))],
        ("x", "y"),
    )
    assert one.dtype == two.dtype == np.uint8 and two.shape[0] > one.shape[0]
    assert (one[..., 2] > one[..., 0].astype(int) + 60).sum() > 100  # blue
    with pytest.raises(ValueError, match=r"2 positions for \[1\]"):
        scatter_picture(np.array([1, 2]), [("a", np.zeros(1))], ("x", "y"))


def test_sheets_show_what_there_is():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (24, 30, 3), dtype=np.uint8)
    palette = rng.integers(0, 255, (4, 3))
    logits = rng.standard_normal((1, 24, 30, 4))
    assert network_figures({"logits": logits}, picture, palette) == {}

    def grid(channels):
        return rng.standard_normal((1, 6, 8, channels))

    walking = {name: grid(4) for name in ("scores", "seed", "walk1", "walk3")}
    walking |= {"logits": logits, "importance": rng.random((1, 6, 8, 1)), "mu": rng.random(2)}
    assert set(network_figures(walking, picture, palette)) == {"scores", "walks"}

    same = grid(6)
    context = {name: grid(6) for name in ("before_context", "messages", "context")}
    context |= {"logits": logits, "stage1": same, "neck1": same}
    assert set(network_figures(context, picture, palette)) == {"ecrf", "context"}
    necks = {"logits": logits, "stage2": grid(5), "neck2": grid(5)}
    assert set(network_figures(necks, picture, palette)) == {"neck"}


def test_rows_of_transitions_mark_their_pixel():
    picture, rows = np.zeros((20, 20, 3), np.uint8), np.random.default_rng(0).random((2, 3, 4, 4))
    sheet = transition_figure(picture, [(0, 19), (5, 5)], rows, list("abc"))
    assert ((sheet[..., 0] == 255) & (sheet[..., 1] == 40)).any()
