import dataclasses

import numpy as np
import pytest

from sdnjax.data.data_settings import Data, dataset_of
from sdnjax.data.sets import DATA_SETS
from sdnjax.data.sets.label_space import LabelSpace
from sdnjax.errors import InputError
from sdnjax.options import OneLineParser, add_overrides, apply_overrides
from sdnjax.settings import settings
from tests.data.conftest import one_line


def test_defaults_are_valid_and_documented():
    leaves = {s.key: s for s in settings(Data())}
    assert all(s.help for s in leaves.values())
    run_only = {key for key, s in leaves.items() if s.run_only}
    assert run_only == {"dir", "on_bad_image", "workers", "processes", "max_pixels"}


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


def test_name_is_a_name_or_a_record():
    with pytest.raises(InputError, match=r"Data\.name must be str or DataSet\(…\), not 3"):
        Data(name=3)
    for name, data_set in DATA_SETS.items():
        assert dataset_of(Data(name=name)) is data_set
        assert dataset_of(Data(name=data_set)) is data_set
        assert data_set.name == name
        if isinstance(data_set.label_space, LabelSpace):
            assert data_set.label_space.name == name


def test_on_the_command_line_it_is_a_name():
    parser = OneLineParser()
    add_overrides(parser, Data())
    assert apply_overrides(Data(), parser.parse_args(["--name", "camvid"])).name == "camvid"
    with pytest.raises(InputError, match="did you mean camvid"):
        apply_overrides(Data(), parser.parse_args(["--name", "canvid"]))


def test_normalization_is_that_of_mean_and_std():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    data = Data(mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 7.0))
    normalized = data.normalization(image)
    assert normalized.dtype == np.float32
    np.testing.assert_allclose(normalized, (image - [1.0, 2, 3]) / [4.0, 5, 7], rtol=1e-5)


def test_unknown_data_set_suggests_the_nearest():
    with pytest.raises(InputError) as error:
        Data(name="canvid")
    assert "did you mean camvid?" in one_line(error)
