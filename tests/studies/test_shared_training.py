"""Variants that differ in their evaluation alone: one network is trained for all of them."""

import dataclasses
import json
import shutil

from sdnjax.commands import study as command
from sdnjax.commands.study import finished, run_study
from sdnjax.studies.results import result_path
from sdnjax.studies.study import load_study
from tests.commands.conftest import *  # noqa: F403 (miniature pictures)
from tests.studies.in_process import FILE, Here, on


def test_variants_of_the_evaluation_alone_are_trained_once(tmp_path, camvid):
    flipped = {"evaluation.flip": True}
    study = dataclasses.replace(on(camvid), seeds=(0,), variants={"none": {}, "flip": flipped})
    first = Here(study, tmp_path / "one")
    assert run_study(study, tmp_path / "one", first, report=lambda line: None)
    assert "trained as none, seed 0" in first.lines
    one, two = (finished(study, tmp_path / "one")[v][0] for v in ("none", "flip"))
    assert not (tmp_path / "one" / "flip" / "seed0").exists()
    assert (two["trained_as"], two["variant"], two["parameters"]) == (
        "none",
        "flip",
        one["parameters"],
    )
    assert "trained_as" not in one
    assert two["scores"] != one["scores"]
    row = json.loads((tmp_path / "one.json").read_text())["variants"]["flip"]
    assert row["runs"][0]["trained_as"] == "none"

    # Where the network is gone it is trained, and that gives the same scores.
    result_path(tmp_path / "one", "flip", 0).unlink()
    shutil.rmtree(tmp_path / "one" / "none" / "seed0")
    again = Here(study, tmp_path / "one")
    assert run_study(study, tmp_path / "one", again, report=lambda line: None)
    found = finished(study, tmp_path / "one")["flip"][0]
    assert "trained_as" not in found and (tmp_path / "one" / "flip" / "seed0").is_dir()
    assert found["scores"] == two["scores"]


def test_runs_of_one_training_wait_for_each_other():
    study = load_study(FILE)
    base = dataclasses.replace(study.base, keep_best="mIoU", evaluate_every=2)
    variants = {"none": {}, "flip": {"evaluation.flip": True}, "long": {"steps": 5}}
    study = dataclasses.replace(study, base=base, variants=variants)
    assert study.same_training("none", "flip") and not study.same_training("none", "long")
    under_way = [(None, "none", 0, (), 0.0)]
    waiting = [("flip", 0), ("long", 0), ("none", 1), ("flip", 1)]
    assert command._ready(study, waiting, []) == ("flip", 0)
    assert command._ready(study, waiting, under_way) == ("long", 0)
    assert command._ready(study, waiting[:1], under_way) is None
    # Where scores decide when it ends, they are of one training no more.
    early = dataclasses.replace(study, base=dataclasses.replace(base, stop_after=2))
    assert not early.same_training("none", "flip")
