"""Metrics of one's own beside the library's, and what is asked of them."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from sdnjax.metrics import (
    SegmentationMetrics,
    format_table,
    known_mean,
    merged,
    quotient,
    segmentation,
    sum_field,
)
from sdnjax.metrics import inputs as metric_inputs
from sdnjax.ops.labels import IGNORE
from tests.metrics.definitions import blobs


@dataclasses.dataclass(frozen=True)
class NearClass:
    """Share of the pixels that are at most `steps` classes off."""

    steps: int = 1
    name: str = "near_class"
    near: np.ndarray = sum_field()
    pixels: np.ndarray = sum_field()

    def empty(self, num_classes):
        zeros = np.zeros(num_classes, np.int64)
        return dataclasses.replace(self, near=zeros, pixels=zeros)

    def update(self, pair):
        label, prediction = (x[~pair.void].astype(int) for x in (pair.label, pair.prediction))
        near = label[np.abs(prediction - label) <= self.steps]
        counts = (np.bincount(x, minlength=pair.num_classes) for x in (near, label))
        near, pixels = counts
        return dataclasses.replace(self, near=self.near + near, pixels=self.pixels + pixels)

    def compute(self):
        share = quotient(self.near, self.pixels)
        return {self.name: known_mean(share), "per_class": {self.name: share}}


MAPS = [blobs(seed, 12 + seed, 15, 5, void=0.15, block=4) for seed in range(3)]


def run(metrics, maps=MAPS):
    for pair in maps:
        metrics = metrics.update(*pair)
    return metrics


def test_own_scores_stand_beside_the_others():
    plain = run(SegmentationMetrics.empty(6, trimap_widths=(2,))).compute()
    own = (NearClass(), NearClass(2, "nearer"))
    results = run(SegmentationMetrics.empty(6, trimap_widths=(2,), metrics=own)).compute()
    for steps, key in ((1, "near_class"), (2, "nearer")):
        expected = []
        for k in range(6):
            truth = [(lb == k, np.abs(pr - lb) <= steps) for lb, pr in MAPS]
            pixels = sum(of_class.sum() for of_class, _ in truth)
            near = sum((of_class & close).sum() for of_class, close in truth)
            expected.append(near / pixels if pixels else None)
        assert [entry[key] for entry in results["per_class"]] == expected
        assert expected[5] is None
        assert results[key] == pytest.approx(np.mean(expected[:5]), rel=1e-14)
    shown = list(results)
    assert shown == [*list(plain)[:-2], "near_class", "nearer", "images", "per_class"]
    for key in ("near_class", "nearer"):
        del results[key]
        for entry in results["per_class"]:
            del entry[key]
    assert results == plain


def test_own_scores_are_printed():
    results = run(SegmentationMetrics.empty(5, metrics=(NearClass(),))).compute()
    lines = format_table(results | {"skipped_images": 7}, list("abcde")).split("\n")
    assert lines[0].endswith("  F 3px  near class")
    for line, entry in zip(lines[2:7], results["per_class"], strict=True):
        assert line.endswith(f"  {100 * entry['near_class']:.2f}")
    assert lines[-1].endswith(f"  near class {100 * results['near_class']:.2f}  (3 images)")


def test_own_sums_are_merged_and_added_up():
    start = SegmentationMetrics.empty(5, metrics=(NearClass(),))
    a, b, whole = run(start, MAPS[:1]), run(start, MAPS[1:]), run(start)
    sums = {name: a.arrays()[name] + b.arrays()[name] for name in start.arrays()}
    assert {"near_class.near", "near_class.pixels"} < set(sums)
    for together in (a.merge(b), start.with_arrays(sums)):
        assert together["near_class"].near.tolist() == whole["near_class"].near.tolist()
        assert together.compute()["near_class"] == whole.compute()["near_class"]
    assert not start["near_class"].pixels.any(), "an update must not write into its state"
    with pytest.raises(ValueError, match="cannot merge"):
        merged(NearClass(1).empty(5), NearClass(2).empty(5))
    with pytest.raises(ValueError, match="cannot merge"):
        a.merge(run(SegmentationMetrics.empty(5)))


def test_an_image_is_checked_once_for_all_metrics(monkeypatch):
    calls = {"_outside": 0, "class_codes": 0}

    def counted(name):
        function = getattr(metric_inputs, name)

        def call(*arguments):
            calls[name] += 1
            return function(*arguments)

        monkeypatch.setattr(metric_inputs, name, call)

    for name in calls:
        counted(name)
    metrics = SegmentationMetrics.empty(
        5, boundary_iou_ratio=0.02, trimap_widths=(1, 3), metrics=(NearClass(),)
    )
    metrics.update(*MAPS[0])
    assert calls == {"_outside": 2, "class_codes": 2}  # a pass each for label and prediction


def test_one_more_metric_of_the_library_is_one_line(monkeypatch):
    chosen = segmentation.library_metrics()
    monkeypatch.setattr(segmentation, "library_metrics", lambda *_: [*chosen, NearClass()])
    assert run(SegmentationMetrics.empty(5)).compute()["near_class"] > 0


@dataclasses.dataclass(frozen=True)
class Undeclared:
    """Counts in a field that processes would not add up."""

    pixels: np.ndarray = sum_field()
    images: int = 0

    def empty(self, num_classes):
        return dataclasses.replace(self, pixels=np.zeros((), np.int64))

    def update(self, pair):
        return dataclasses.replace(self, pixels=self.pixels + 1, images=self.images + 1)

    def compute(self):
        return {"pixels": self.pixels}


@dataclasses.dataclass(frozen=True)
class Gives:
    """Whatever it is told."""

    scores: Any
    count: np.ndarray = sum_field()

    def empty(self, num_classes):
        return dataclasses.replace(self, count=np.zeros((), np.int64))

    def update(self, pair):
        return dataclasses.replace(self, count=self.count + 1)

    def compute(self):
        return self.scores


class NoSums:
    def empty(self, num_classes):
        return self


def test_mistakes():
    with pytest.raises(ValueError, match=r"Undeclared\.update .* declared with sum_field"):
        run(SegmentationMetrics.empty(5, metrics=(Undeclared(),)))
    with pytest.raises(ValueError, match=r"NoSums\.empty must return a dataclass"):
        SegmentationMetrics.empty(5, metrics=(NoSums(),))
    with pytest.raises(ValueError, match="two metrics are named 'near_class'"):
        SegmentationMetrics.empty(5, metrics=(NearClass(1), NearClass(2)))
    for scores, message in (
        ({"mIoU": 1.0}, "Gives: there is another score 'mIoU'"),
        ({"images": 1.0}, "Gives: there is another score 'images'"),
        ({"per_class": {"iou": np.zeros(5)}}, "Gives: there is another column 'iou'"),
        ({"per_class": {"class": np.zeros(5)}}, "Gives: there is another column 'class'"),
        ({"per_class": {"x": np.zeros(4)}}, "Gives: x must have a value for each of 5 classes"),
        ({"per_class": {"x": {"1px": np.zeros(6)}}}, r"each of 5 classes, got shape \(6,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            run(SegmentationMetrics.empty(5, metrics=(Gives(scores),))).compute()


def test_scores_without_a_meaning_are_none_and_several_of_a_name_are_kept():
    given = {"x": {"1px": np.nan, "2px": np.float32(0.5)}, "per_class": {"x": {"1px": np.ones(2)}}}
    results = SegmentationMetrics.empty(2, (), metrics=(Gives(given),)).compute()
    assert results["x"] == {"1px": None, "2px": 0.5}
    assert [entry["x"] for entry in results["per_class"]] == [{"1px": 1.0}] * 2
    assert "x 1px" in format_table(results, ["a", "b"]).split("\n")[0]


def test_the_label_that_counts_nowhere_is_the_libraries():
    assert metric_inputs.IGNORE == IGNORE
