"""Rows and arrangements: what each means, and that both directions undo each other."""

import numpy as np
import pytest

from sdnjax.convert import ARRANGEMENTS, Row, batch_norm, conv, depthwise, layer_norm, linear

THEIRS = {
    "same": (5,),
    "conv": (7, 5, 3, 1),
    "depthwise": (7, 1, 3, 5),
    "linear": (7, 5),
    "linear_as_conv": (7, 5),
    "conv_as_linear": (7, 5, 1, 1),
}


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_arrangements_undo_each_other_bit_for_bit(arrangement):
    x = np.random.default_rng(0).normal(size=THEIRS[arrangement]).astype(np.float32)
    ours = ARRANGEMENTS[arrangement].to_ours(x)
    back = ARRANGEMENTS[arrangement].to_theirs(ours)
    assert back.shape == x.shape and back.tobytes() == x.tobytes()


def test_arrangements_put_every_axis_in_its_place():
    x = np.arange(7 * 5 * 3 * 1).reshape(7, 5, 3, 1)
    assert ARRANGEMENTS["conv"].to_ours(x)[2, 0, 4, 6] == x[6, 4, 2, 0]
    x = np.arange(7 * 3 * 5).reshape(7, 1, 3, 5)
    assert ARRANGEMENTS["depthwise"].to_ours(x)[2, 4, 0, 6] == x[6, 0, 2, 4]
    x = np.arange(35).reshape(7, 5)
    assert ARRANGEMENTS["linear"].to_ours(x)[4, 6] == x[6, 4]
    assert ARRANGEMENTS["linear_as_conv"].to_ours(x)[0, 0, 4, 6] == x[6, 4]
    assert ARRANGEMENTS["conv_as_linear"].to_ours(x[:, :, None, None])[4, 6] == x[6, 4]


def test_rows_of_modules():
    assert conv("a/conv", "b.0") == [Row("params/a/conv/kernel", "b.0.weight", "conv")]
    assert conv("a", "b", bias=True)[1] == Row("params/a/bias", "b.bias")
    assert depthwise("a", "b") == [Row("params/a/kernel", "b.weight", "depthwise")]
    assert linear("a", "b") == [
        Row("params/a/kernel", "b.weight", "linear"),
        Row("params/a/bias", "b.bias"),
    ]
    assert layer_norm("a", "b") == [
        Row("params/a/scale", "b.weight"),
        Row("params/a/bias", "b.bias"),
    ]
    assert batch_norm("a", "b") == [
        *layer_norm("a", "b"),
        Row("batch_stats/a/mean", "b.running_mean"),
        Row("batch_stats/a/var", "b.running_var"),
    ]
