import dataclasses

import pytest

from sdnjax.data.data_settings import Data
from sdnjax.errors import InputError
from sdnjax.settings import settings
from tests.data.conftest import one_line


def test_defaults_are_valid_and_documented():
    leaves = {s.key: s for s in settings(Data())}
    assert all(s.help for s in leaves.values())
    run_only = {key for key, s in leaves.items() if s.run_only}
    assert run_only == {"dir", "on_bad_image", "workers"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("crop_size", (0, 96)),
        ("crop_size", (96,)),
        ("base_size", (512, -1)),
        ("scale_range", (2.0, 0.5)),
        ("scale_range", (0.0, 1.0)),
        ("max_class_share", 0.0),
        ("max_class_share", 1.5),
        ("mean", (0.0, float("nan"), 0.0)),
        ("std", (1.0, 0.0, 1.0)),
        ("on_bad_image", "ignore"),
        ("workers", 0),
        ("train_split", ""),
    ],
)
def test_impossible_value_is_named(key, value):
    with pytest.raises(InputError) as error:
        dataclasses.replace(Data(), **{key: value})
    assert f"data.{key}" in one_line(error).lower()  # Data.key where the type is wrong
    assert repr(value) in one_line(error)


def test_unknown_data_set_suggests_the_nearest():
    with pytest.raises(InputError) as error:
        Data(name="canvid")
    assert "did you mean camvid?" in one_line(error)
