"""The least time of a step against figures worked out by hand."""

import dataclasses

import pytest

from sdnjax.errors import InputError
from sdnjax.planning.devices import DEVICES, Target, parse_target
from sdnjax.planning.roofline import UTILISATION, link_bandwidth, roofline

DEVICE = dataclasses.replace(
    DEVICES["h100"], peak={"float32": 100.0, "bfloat16": 200.0}, bandwidth=10.0, link=5.0
)
TARGET = Target("h100:4", DEVICE, (1, 4))
WORK = {"flops_by_dtype": {"float32": 1200, "bfloat16": 800}, "bytes": 80}


def test_by_hand():
    sent = {"all-reduce": {"bytes": 10}, "all-gather": {"bytes": 20}}
    found = roofline(TARGET, WORK, sent, steps=3600)
    compute = 1200 / 4 / 100 + 800 / 4 / 200
    exchange = (2 * 10 + 20) * (3 / 4) / 5
    assert (found["compute"], found["memory"]) == (compute, 80 / 4 / 10)
    assert found["collectives"] == exchange
    assert (found["lower"], found["upper"]) == (exchange, compute + exchange)
    low, high = UTILISATION
    assert found["device_hours"] == pytest.approx([4 * exchange / high, 4 * found["upper"] / low])


def test_memory_or_computation_whichever_takes_longer():
    slow = {**WORK, "bytes": 8000}
    found = roofline(TARGET, slow, {}, steps=1)
    assert found["lower"] == found["upper"] == found["memory"] == 200


def test_one_device_sends_nothing():
    one = Target("h100:1", DEVICE, (1, 1))
    assert roofline(one, WORK, {"all-reduce": {"bytes": 10}}, steps=1)["collectives"] == 0


def test_between_hosts_all_ports_of_a_host_share_the_ring():
    h100 = DEVICES["h100"]
    assert link_bandwidth(parse_target("h100:8")) == h100.link
    assert link_bandwidth(parse_target("h100:8x8")) == 8 * h100.link_between_hosts
    assert link_bandwidth(parse_target("h100:8x2")) == 2 * h100.link_between_hosts


def test_what_is_not_known_is_not_guessed():
    assert roofline(parse_target("cpu:2"), WORK, {}, steps=1) is None
    with pytest.raises(InputError, match="no peak is known for products of float64"):
        roofline(TARGET, {**WORK, "flops_by_dtype": {"float64": 1}}, {}, steps=1)
