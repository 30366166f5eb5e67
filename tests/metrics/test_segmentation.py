"""The bundle of all scores: its numbers, its sums across processes, its table."""

import functools
import json
import subprocess
import sys

import numpy as np
import pytest

from sdnjax.errors import InputError
from sdnjax.metrics import (
    BoundaryF,
    BoundaryIoU,
    MeanIoU,
    SegmentationMetrics,
    check_pair,
    format_table,
)
from tests.metrics.definitions import blobs

MAPS = [blobs(seed, 12 + seed, 15, 5, void=0.15, block=4) for seed in range(4)]


def run(metrics, maps=MAPS):
    for pair in maps:
        metrics = metrics.update(*pair)
    return metrics


def test_results_are_those_of_the_parts():
    results = run(SegmentationMetrics.empty(7, (1, 0.1), "skip", boundary_iou_ratio=0.05)).compute()
    regions, edges, bands = (
        functools.reduce(
            lambda state, pair: state.update(check_pair(*pair, 7)), MAPS, metric.empty(7)
        ).compute()
        for metric in (MeanIoU(), BoundaryF((1, 0.1), "skip"), BoundaryIoU(0.05))
    )
    assert results["images"] == 4
    for key in ("mIoU", "pixel_accuracy", "mean_accuracy"):
        assert results[key] == regions[key]
    assert results["boundary_f"] == edges["boundary_f"]
    assert list(edges["boundary_f"]) == ["1px", "0.1diagonal"]
    assert results["boundary_iou"] == bands["boundary_iou"]
    assert [entry["class"] for entry in results["per_class"]] == list(range(7))
    for index, entry in enumerate(results["per_class"][:5]):
        for key in ("iou", "accuracy", "share"):
            assert entry[key] == regions["per_class"][key][index]
        columns = edges["per_class"]["boundary_f"]
        assert entry["boundary_f"] == {name: column[index] for name, column in columns.items()}
        assert entry["boundary_iou"] == bands["per_class"]["boundary_iou"][index]
    assert results["per_class"][6] == {
        "class": 6,
        "iou": None,
        "accuracy": None,
        "share": 0.0,
        "boundary_f": {"1px": None, "0.1diagonal": None},
        "boundary_iou": None,
    }
    assert json.loads(json.dumps(results, allow_nan=False)) == results


def test_defaults_and_what_is_left_out():
    results = run(SegmentationMetrics.empty(5)).compute()
    assert list(results["boundary_f"]) == ["1px", "3px"]
    assert results["boundary_f"]["1px"] < results["boundary_f"]["3px"]
    assert "boundary_iou" not in results
    assert "boundary_iou" not in results["per_class"][0]
    bare = run(SegmentationMetrics.empty(5, boundary_thresholds=())).compute()
    assert bare["boundary_f"] == bare["per_class"][0]["boundary_f"] == {}
    assert bare["mIoU"] == results["mIoU"]


def test_other_ignore_value():
    usual = run(SegmentationMetrics.empty(5, boundary_iou_ratio=0.05))
    moved = [(np.where(label == 255, -1, label), prediction) for label, prediction in MAPS]
    other = run(SegmentationMetrics.empty(5, boundary_iou_ratio=0.05, ignore=-1), moved)
    assert other.compute() == usual.compute()


def test_nothing_seen():
    results = SegmentationMetrics.empty(2, boundary_iou_ratio=0.02).compute()
    assert results["mIoU"] is None
    assert results["boundary_f"] == {"1px": None, "3px": None}
    assert results["boundary_iou"] is None
    assert results["images"] == 0


@pytest.mark.parametrize("ratio", [None, 0.02])
def test_processes_that_add_their_arrays_get_the_whole(ratio):
    start = SegmentationMetrics.empty(5, boundary_absent="skip", boundary_iou_ratio=ratio)
    parts = [run(start, MAPS[:1]), run(start, MAPS[1:]), start]
    whole = run(start)
    sums = {
        name: np.sum([part.arrays()[name] for part in parts], axis=0) for name in whole.arrays()
    }
    added = start.with_arrays(sums)
    merged = parts[0].merge(parts[1]).merge(parts[2])
    for together in (added, merged):
        for name, value in whole.arrays().items():
            np.testing.assert_allclose(together.arrays()[name], value, rtol=1e-14, err_msg=name)
    assert added.compute()["mIoU"] == whole.compute()["mIoU"]
    assert whole.arrays()["MeanIoU.confusion"].sum() == sum(
        (label != 255).sum() for label, _ in MAPS
    )
    assert all(not value.any() for value in start.arrays().values())


def test_sums_that_lost_precision_or_belong_elsewhere_are_refused():
    metrics = SegmentationMetrics.empty(5)
    arrays = metrics.arrays()
    confusion, scores = "MeanIoU.confusion", "BoundaryF.scores"
    with pytest.raises(ValueError, match="int32"):
        metrics.with_arrays({**arrays, confusion: arrays[confusion].astype(np.int32)})
    with pytest.raises(ValueError, match="float32"):
        metrics.with_arrays({**arrays, scores: arrays[scores].astype(np.float32)})
    with pytest.raises(ValueError, match="sums must be"):
        metrics.with_arrays({confusion: arrays[confusion]})
    with pytest.raises(ValueError, match="sums must be"):
        metrics.with_arrays(SegmentationMetrics.empty(6).arrays())


def test_mistakes():
    metrics = SegmentationMetrics.empty(5)
    flat = np.zeros((3, 3), int)
    with pytest.raises(InputError, match=r"labels/x\.png: found label 9"):
        metrics.update(flat + 9, flat, "labels/x.png")
    with pytest.raises(ValueError, match="real class"):
        SegmentationMetrics.empty(5, ignore=0)
    with pytest.raises(ValueError, match="BoundaryIoU"):
        metrics.merge(SegmentationMetrics.empty(5, boundary_iou_ratio=0.02))
    with pytest.raises(ValueError, match="cannot merge"):
        metrics.merge(SegmentationMetrics.empty(6))


def test_table():
    label = np.zeros((4, 8), np.uint8)
    label[:, 4:] = 1
    prediction = label.copy()
    prediction[:, 4] = 0
    metrics = SegmentationMetrics.empty(3, (1,), "skip").update(label, prediction)
    lines = format_table(metrics.compute(), ["road", "a long name", "sky"]).split("\n")
    assert lines == [
        "class          IoU  accuracy  share   F 1px",
        "-------------------------------------------",
        "road         80.00    100.00  50.00  100.00",
        "a long name  75.00     75.00  50.00  100.00",
        "sky              -         -   0.00       -",
        "-------------------------------------------",
        "mIoU 77.50  pixel accuracy 87.50  mean accuracy 87.50  boundary F 1px 100.00  (1 image)",
    ]
    with pytest.raises(ValueError, match="2 class names for 3 classes"):
        format_table(metrics.compute(), ["road", "sky"])


def test_table_with_boundary_iou():
    metrics = run(SegmentationMetrics.empty(5, boundary_iou_ratio=0.02))
    results = metrics.compute()
    lines = format_table(results, list("abcde")).split("\n")
    assert lines[0].endswith("F 1px  F 3px  boundary IoU")
    for line, entry in zip(lines[2:7], results["per_class"], strict=True):
        assert line.endswith(f"  {100 * entry['boundary_iou']:.2f}")
        assert len(line) == len(lines[0])
    assert lines[-1].endswith(f"boundary IoU {100 * results['boundary_iou']:.2f}  (4 images)")


def test_needs_numpy_only():
    code = (
        "import sys, sdnjax.metrics\n"
        "found = {'jax', 'flax', 'tensorflow', 'torch', 'PIL'} & set(sys.modules)\n"
        "sys.exit(', '.join(found) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
