"""`make demo`: what it says of its numbers, and once in whole."""

import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from examples import shapes_demo


def found(**halves):
    def entry(difference, half):
        return {"difference": difference, "half_width": half}

    scores = {
        "mIoU": entry(1.5, halves["miou"]),
        "boundary_f.1px": entry(-2.0, halves["one"]),
        "boundary_f.3px": entry(0.1, halves["three"]),
    }
    variants = {"none": {}, "sdc": {"metrics": scores}}
    return {"baseline": "none", "variants": variants}


def test_only_an_interval_without_zero_is_a_difference():
    lines = shapes_demo.conclusions(found(miou=1.4, one=1.9, three=0.2))
    assert lines == [
        "SDN, mIoU: +1.50 ± 1.40: better",
        "SDN, boundary_f.1px: -2.00 ± 1.90: worse",
        "SDN, boundary_f.3px: +0.10 ± 0.20: no difference can be seen at this size",
    ]
    (first, *_) = shapes_demo.conclusions(found(miou=None, one=1.0, three=1.0))
    assert first == "SDN, mIoU: one seed, +1.50, says nothing"


@pytest.mark.slow
def test_the_demo_runs_and_goes_on(tmp_path, request):
    root = request.config.rootpath
    words = [
        sys.executable,
        str(root / "examples" / "shapes_demo.py"),
        "--steps",
        "21",
    ]  # the warm-up takes 20
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for seeds in ("0", "0,1"):
        done = subprocess.run(
            [*words, "--seeds", seeds],
            cwd=tmp_path,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert "2 of 4 runs finished" in done.stdout  # the second goes on
    assert "SDN, mIoU: " in done.stdout
    table = json.loads((tmp_path / "runs" / "demo.json").read_text())
    assert table["missing"] == []
    assert [len(row["runs"]) for row in table["variants"].values()] == [2, 2]
    with Image.open(tmp_path / "runs" / "demo" / "comparison.png") as sheet:
        assert sheet.width > 800
