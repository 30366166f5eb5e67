"""What is tried, and in which order it is put together."""

import dataclasses

import pytest

from sdnjax.experiment import Experiment
from sdnjax.models import Model
from sdnjax.planning.variations import Variation, tried, variations
from sdnjax.training.sharding import fully_sharded

EXPERIMENT = Experiment(batch_size=32)


def names(experiment, devices=8):
    return [v.name for v in variations(experiment, devices) if "remat" not in v.name]


def test_what_there_is_to_try():
    assert names(EXPERIMENT) == [
        "state_sharding fully_sharded",
        "accumulate 2",
        "model.dtype bfloat16",
        "--per-device 2",
    ]
    assert names(EXPERIMENT, 1)[0] == "accumulate 2"  # one device has nothing to share
    assert names(EXPERIMENT, 32) == ["state_sharding fully_sharded", "model.dtype bfloat16"]
    done = dataclasses.replace(EXPERIMENT, model=Model(dtype="bfloat16"), accumulate=2)
    assert names(dataclasses.replace(done, state_sharding=fully_sharded)) == ["--per-device 2"]


def test_a_setting_that_is_not_there_is_left_out():
    own = dataclasses.replace(EXPERIMENT, model=lambda k: None)
    assert not any("model." in name for name in [v.name for v in variations(own, 8)])


def test_they_change_what_they_name():
    by_name = {v.name: v.of(EXPERIMENT) for v in variations(EXPERIMENT, 8)}
    assert by_name["state_sharding fully_sharded"].state_sharding is fully_sharded
    assert by_name["accumulate 2"].accumulate == 2
    assert by_name["model.dtype bfloat16"].model.dtype == "bfloat16"
    assert by_name["--per-device 2"].batch_size == 16


# What each saves of 100.
SAVES = {"seed": 10, "steps": 30, "log_every": 20}
OPTIONS = [Variation(key, {key: 77}) for key in SAVES]


def total(experiment):
    return 100 - sum(SAVES[key] for key in SAVES if getattr(experiment, key) == 77)


@pytest.mark.parametrize(
    ("limit", "together"),
    [
        (75, []),
        (None, []),
        (55, [("steps, log_every", 50)]),
        (45, [("steps, log_every", 50), ("steps, log_every, seed", 40)]),
        (5, [("steps, log_every", 50), ("steps, log_every, seed", 40)]),
    ],
)
def test_what_fits_together(limit, together):
    found = [(v.name, taken) for v, taken in tried(EXPERIMENT, OPTIONS, total, limit)]
    assert found == [("seed", 90), ("steps", 70), ("log_every", 80), *together]


def test_what_does_not_go_together_is_passed_over():
    four = Experiment(batch_size=4)
    options = [Variation("accumulate", {"accumulate": 4}), Variation("fewer", {"batch_size": 2})]
    found = tried(four, options, lambda e: 100 - e.accumulate, 1)
    assert [v.name for v, _ in found] == ["accumulate", "fewer"]
