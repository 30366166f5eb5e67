"""What a metric is, and what is done with every metric alike: adding, merging, checking.

@dataclasses.dataclass(frozen=True)
class NearClass:
    \"\"\"Share of the pixels that are at most `steps` classes off, for ordered classes.\"\"\"

    steps: int = 1
    near: np.ndarray = sum_field()
    pixels: np.ndarray = sum_field()

    def empty(self, num_classes):
        zeros = np.zeros(num_classes, np.int64)
        return dataclasses.replace(self, near=zeros, pixels=zeros)

    def update(self, pair):
        label = pair.label[~pair.void].astype(int)
        near = np.abs(pair.prediction[~pair.void] - label) <= self.steps
        count = functools.partial(np.bincount, minlength=pair.num_classes)
        return dataclasses.replace(
            self, near=self.near + count(label[near]), pixels=self.pixels + count(label)
        )

    def compute(self):
        share = quotient(self.near, self.pixels)
        return {"near_class": known_mean(share), "per_class": {"near_class": share}}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import numpy as np

from sdnjax.metrics.inputs import Pair

M = TypeVar("M", bound="Metric")


class Metric(Protocol):
    """A frozen dataclass of settings and sums.

    Its settings are ordinary fields that `==` compares; its sums are arrays, declared with
    `sum_field`. States of disjoint sets of images add up to the state of all of them, whatever
    the metric, so merging and summing over processes need nothing from it. An attribute `name`
    tells apart metrics of one class, whose name is used otherwise.
    """

    def empty(self: M, num_classes: int) -> M:
        """The metric with zeros for sums, before the first image."""

    def update(self: M, pair: Pair) -> M:
        """The state with one more image; `pair` is checked and must not be written to."""

    def compute(self) -> dict[str, Any]:
        """The scores by name, in 0…1; NaN where one is not defined.

        A score is a number or {name: number}, as for several thresholds. `per_class`, if there
        is any, holds scores of the classes in the same way, arrays [K] in place of numbers.
        """


def sum_field() -> Any:
    """A field of a metric that holds sums: None as a setting, an array once it is counting.

    Sums are no part of what makes two metrics equal.
    """
    return dataclasses.field(default=None, metadata={"sum": True}, compare=False, repr=False)


def sums_of(metric: Metric) -> dict[str, np.ndarray]:
    """The sums by field."""
    return {name: np.asarray(getattr(metric, name)) for name in _fields(metric, sums=True)}


def with_sums(metric: M, sums: Mapping[str, np.ndarray]) -> M:
    """The same metric with other sums."""
    return dataclasses.replace(metric, **sums)  # type: ignore[type-var]


def merged(a: M, b: M) -> M:
    """The state of both sets of images together. Raises ValueError if settings differ."""
    if type(a) is not type(b) or _settings(a) != _settings(b) or _shapes(a) != _shapes(b):
        raise ValueError(
            f"cannot merge {a!r} with {b!r}, sums of shapes {_shapes(a)} with {_shapes(b)}"
        )
    theirs = sums_of(b)
    return with_sums(a, {name: value + theirs[name] for name, value in sums_of(a).items()})


def counted(metric: M, pair: Pair) -> M:
    """`metric.update(pair)`, refused if anything but the values of sums has changed.

    A count that is no declared sum would be right in one process and wrong in several.
    """
    new = metric.update(pair)
    before = type(metric), _settings(metric), _shapes(metric)
    if (type(new), _settings(new), _shapes(new)) != before:
        raise ValueError(
            f"{type(metric).__name__}.update made {new!r} with sums {_shapes(new)} of {metric!r} "
            f"with {_shapes(metric)}: only the values of fields declared with sum_field() may "
            "change"
        )
    return new


def name_of(metric: Metric) -> str:
    """Its attribute `name`, or the name of its class."""
    return getattr(metric, "name", type(metric).__name__)


def started(metric: Metric, num_classes: int) -> Metric:
    """`metric.empty(num_classes)`. Raises ValueError unless that has sums, all of them arrays."""
    state = metric.empty(num_classes)
    sums: list[str] = _fields(state, sums=True) if dataclasses.is_dataclass(state) else []
    if not sums or not all(isinstance(getattr(state, name), np.ndarray) for name in sums):
        raise ValueError(
            f"{name_of(metric)}.empty must return a dataclass with arrays in its fields declared "
            f"with sum_field(), at least one, not {state!r}"
        )
    return state


def _fields(metric: Any, *, sums: bool) -> list[str]:
    return [f.name for f in dataclasses.fields(metric) if f.metadata.get("sum", False) == sums]


def _settings(metric: Metric) -> dict[str, Any]:
    return {name: getattr(metric, name) for name in _fields(metric, sums=False)}


def _shapes(metric: Metric) -> dict[str, tuple[tuple[int, ...], str]]:
    return {name: (value.shape, str(value.dtype)) for name, value in sums_of(metric).items()}
