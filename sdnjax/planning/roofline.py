"""The least time that a step can take by the makers' figures (Williams et al., 2009)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdnjax.errors import InputError
from sdnjax.planning.devices import Target

# Shares of that speed which whole training steps are assumed to reach; nothing here measures them.
UTILISATION = (0.2, 0.5)


def roofline(
    target: Target,
    operations: Mapping[str, Any],
    collectives: Mapping[str, Mapping[str, Any]],
    steps: int,
) -> dict[str, Any] | None:
    """Seconds of one step, and device-hours of `steps` of them; None without the device's figures.

    A device computes its share at the peak for each type, or moves its bytes at the memory's
    speed, whichever takes longer. Collectives run on rings over all devices: a sum sends
    2(n − 1)/n of its bytes through each link, whatever is gathered or scattered half of that.
    `lower` has them under the computation, `upper` after it.

    Args:
      operations: of all devices, of `operations`.
      collectives: of each, of `totals`.

    Raises: InputError for a type whose peak is not known.
    """
    device, n = target.device, target.count
    if not device.peak:
        return None
    compute = 0.0
    for dtype, flops in operations["flops_by_dtype"].items():
        if dtype not in device.peak:
            raise InputError(f"{device.name}: no peak is known for products of {dtype}")
        compute += flops / n / device.peak[dtype]
    memory = operations["bytes"] / n / device.bandwidth
    sent = sum(
        (2 if kind == "all-reduce" else 1) * (n - 1) / n * one["bytes"]
        for kind, one in collectives.items()
    )
    link = link_bandwidth(target)
    exchange = sent / link
    lower = max(compute, memory, exchange)
    upper = max(compute, memory) + exchange
    hours = steps * n / 3600
    low, high = UTILISATION
    return {
        "compute": compute,
        "memory": memory,
        "collectives": exchange,
        "link": link,
        "lower": lower,
        "upper": upper,
        "device_hours": [hours * lower / high, hours * upper / low],
        "utilisation": list(UTILISATION),
    }


def link_bandwidth(target: Target) -> float:
    """Bytes/s around a ring over all devices: the narrower of links inside and between hosts.

    All ports of a host carry the ring's traffic together.
    """
    device = target.device
    if target.hosts == 1:
        return device.link
    return min(device.link, device.link_between_hosts * target.shape[1])
