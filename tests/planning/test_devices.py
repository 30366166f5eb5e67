"""Targets as they are written, and what is said of those that are none."""

import pytest

from sdnjax.errors import InputError
from sdnjax.planning.devices import DEVICES, described_mesh, parse_target


@pytest.mark.parametrize(
    ("text", "count", "hosts", "shape"),
    [
        ("h100:1", 1, 1, (1, 1)),
        ("h100:8", 8, 1, (1, 8)),
        ("H100:4x8", 32, 4, (4, 8)),
        ("v5e:8x8", 64, 1, (8, 8)),
        ("v5p:2x2x4", 16, 1, (2, 2, 4)),
        ("cpu:2", 2, 1, (2,)),
    ],
)
def test_targets(text, count, hosts, shape):
    target = parse_target(text)
    assert (target.count, target.hosts, target.shape) == (count, hosts, shape)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("h10:8", "did you mean h100"),
        ("h100", "h100:SHAPE with 8 or 4x8"),
        ("h100:0", "h100:SHAPE"),
        ("h100:16", "h100:8x8 is eight hosts of eight"),
        ("v5e:4", "has 2 sides"),
        ("v5p:4x4", "has 3 sides, such as v5p:2x2x1"),
        ("cpu:2x2", "give a number"),
    ],
)
def test_what_is_no_target(text, says):
    with pytest.raises(InputError, match=says):
        parse_target(text)


def test_a_mesh_of_this_machine():
    assert described_mesh(parse_target("cpu:8")).shape == {"data": 8}
    with pytest.raises(InputError, match="device_count=9"):
        described_mesh(parse_target("cpu:9"))


@pytest.mark.parametrize("name", [name for name in DEVICES if name != "cpu"])
def test_every_device_has_figures_and_their_source(name):
    device = DEVICES[name]
    assert {"bfloat16", "float32", "float32_exact"} <= device.peak.keys()
    assert device.peak["bfloat16"] >= device.peak["float32"] > device.peak["float32_exact"]
    assert min(device.memory, device.bandwidth, device.link, device.link_between_hosts) > 0
    assert 0.5 < device.usable < 1 and device.usable_because and device.source
