"""A study of two variants and two seeds: pairs, interruptions, the same table."""

import dataclasses
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from sdnjax.commands import study as command
from sdnjax.commands.study import do_run, finished, run_study
from sdnjax.commands.study_tables import mixed
from sdnjax.commands.workdir import code_record
from sdnjax.data.pipeline.batches import train_batches
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.models import Model, Neck
from sdnjax.models.necks.controls import OracleNeck
from sdnjax.settings import to_dict
from sdnjax.studies.results import make_result, read_result, result_path
from sdnjax.studies.study import Study, load_study
from sdnjax.studies.table import interval, markdown, summary
from tests.commands.conftest import *  # noqa: F403 (the root's scripts as a user calls them)
from tests.studies import tiny_study
from tests.studies.in_process import FILE, Here, Killed, on


def numbers(folder):
    """The table without times and dates."""
    found = json.loads(folder.with_name(f"{folder.name}.json").read_text())
    return {
        name: (row["metrics"], [(run["seed"], run["scores"]) for run in row["runs"]])
        for name, row in found["variants"].items()
    }


class Told(Here):
    """Runs whose results are made up; those of `fails` end without one."""

    def __init__(self, study, folder, fails=()):
        super().__init__(study, folder)
        self.fails = fails

    def __call__(self, variant, seed, cores):
        self.started.append((variant, seed))
        self.status = int((variant, seed) in self.fails)
        path = result_path(self.folder, variant, seed)
        if self.status:
            path.with_suffix(".log").write_text("compiling\nerror: the disk is full\n")
            return self
        score = {"none": 0.5, "sdc": 0.52}[variant] + seed / 10
        scores = {"mIoU": score, "trimap_iou": {"1px": 0.1}, "error_inside": {"1px": None}}
        log = [
            *({"step": i, "train": {"seconds_per_step": s}} for i, s in enumerate((9.0, 1.0, 3.0))),
            {"step": 4, "val": scores, "val_seconds": 5.0},
        ]
        experiment = self.study.experiment(variant, seed)
        code = code_record(experiment)
        found = make_result(experiment, log, num_classes=11, seed=seed, code=code)
        path.write_text(json.dumps(found))
        return self


@pytest.mark.slow
def test_a_run_that_fails_stops_no_other_and_is_tried_again(tmp_path, camvid, monkeypatch, call):
    study, folder, lines = on(camvid), tmp_path / "made", []
    words = ["study.py", "tiny.py", "--data.dir", "/mnt/of mine/camvid", "--seeds", "0,1"]
    monkeypatch.setattr("sys.argv", [*words, "--init_from=/home/me/run"])
    first = Told(study, folder, fails={("sdc", 0)})
    assert not run_study(study, folder, first, report=lines.append)
    # Seed by seed: the first one can be compared when the second has not begun.
    assert first.started == [("none", 0), ("sdc", 0), ("none", 1), ("sdc", 1)]
    assert "sdc, seed 0: status 1: error: the disk is full" in lines
    found = json.loads((tmp_path / "made.json").read_text())
    assert found["missing"] == ["sdc 0"]
    # The table is for others.
    words[3] = "…/camvid"
    assert found["command"] == [*words, "--init_from=…/run"]
    second = Told(study, folder)
    assert run_study(study, folder, second, report=lines.append)
    assert second.started == [("sdc", 0)]
    found = json.loads((tmp_path / "made.json").read_text())
    assert found["missing"] == []
    entry = found["variants"]["sdc"]
    assert entry["metrics"]["mIoU"]["difference"] == pytest.approx(2.0)
    assert entry["metrics"]["error_inside.1px"]["difference"] is None
    assert entry["costs"]["seconds_per_step"] == 2.0  # the first line is left out
    assert entry["changes"][0].startswith("model is ")
    assert (tmp_path / "made.png").is_file()
    # Against another variant, with nothing left to run.
    turned = ("--baseline", "sdc", "--data.dir", camvid, "--workdir", folder)
    status, out, err = call("study.py", FILE, *turned)
    assert (status, err) == (0, "")
    assert "4 of 4 runs finished" in out
    found = json.loads((tmp_path / "made.json").read_text())
    assert found["variants"]["none"]["metrics"]["mIoU"]["difference"] == pytest.approx(-2.0)
    assert "difference" not in found["variants"]["sdc"]["metrics"]["mIoU"]
    # A table of somebody else is not written over.
    (tmp_path / "made.json").write_text("{}")
    with pytest.raises(InputError, match="is not a table of tiny"):
        run_study(study, folder, second, report=lines.append)


@pytest.mark.slow
def test_a_study_that_was_killed_goes_on_to_the_same_table(tmp_path, camvid):
    study, quiet = on(camvid), lambda line: None
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run_study(study, whole, Here(study, whole), report=quiet)
    shutil.copytree(whole, parts)  # killed when the first seed was done
    for variant in study.variants:
        (parts / variant / "seed1.json").unlink()
        shutil.rmtree(parts / variant / "seed1")
    with pytest.raises(Killed):
        run_study(study, parts, Here(study, parts, kill=1), report=quiet)
    assert {v: list(seeds) for v, seeds in finished(study, parts).items()} == {
        "none": [0],
        "sdc": [0],
    }
    again = Here(study, parts)
    assert run_study(study, parts, again, report=quiet)
    assert again.started == [("none", 1), ("sdc", 1)]
    assert any("from step 2 to 4" in line for line in again.lines)  # not from the beginning
    assert numbers(parts) == numbers(whole)

    # Nothing is left to do; nothing is done.
    idle, lines = Here(study, parts), []
    assert run_study(study, parts, idle, report=lines.append)
    assert idle.started == []
    table = parts.with_name("parts.md").read_text()
    assert "| sdc | 2 |" in table
    assert table in lines
    run = json.loads((parts / "sdc" / "seed1.json").read_text())
    assert run["parameters"] > json.loads((parts / "none/seed1.json").read_text())["parameters"]
    assert run["seconds_per_step"] > 0
    assert run["evaluation_seconds"] > 0
    shares = run["scores"]
    wrong = shares["error_inside"]["1px"] + shares["error_outside"]["1px"]
    assert wrong == pytest.approx(1 - shares["pixel_accuracy"], abs=1e-12)

    # Other settings are no runs of this study.
    other = dataclasses.replace(study, base=dataclasses.replace(study.base, batch_size=16))
    with pytest.raises(InputError, match=r"another configuration \(batch_size is 8 there, 16 here"):
        run_study(other, parts, Here(other, parts), report=quiet)
    with pytest.raises(InputError, match="no longer what"):
        do_run(other, "none", 2, parts, report=quiet)


def test_a_result_lacks_the_settings_that_came_after_it(tmp_path):
    """They are what their defaults say, and what is recorded otherwise is another run's."""
    sdc = dataclasses.replace(Experiment(), model=Model(neck=Neck("sdc", reduction=4)))
    recorded = to_dict(sdc)
    del recorded["model"]["neck"]["guidance"], recorded["ema_decay"]
    path = tmp_path / "seed0.json"
    path.write_text(json.dumps({"experiment": recorded, "code": None}))
    assert read_result(path, sdc, None)
    for other in (Neck("sdc", reduction=4, guidance="own"), Neck("sdc"), OracleNeck()):
        with pytest.raises(InputError, match="another configuration"):
            read_result(path, dataclasses.replace(sdc, model=Model(neck=other)), None)
    # Objects are known by what they print.
    oracle = dataclasses.replace(sdc, model=Model(neck=OracleNeck()))
    path.write_text(json.dumps({"experiment": to_dict(oracle), "code": None}))
    assert read_result(path, oracle, None)
    coarse = dataclasses.replace(sdc, model=Model(neck=OracleNeck(coarser=2)))
    with pytest.raises(InputError, match="another configuration"):
        read_result(path, coarse, None)


def test_a_table_says_that_its_runs_are_of_several_codes():
    def run(commit="1111111aaa", jax="0.10.2"):
        return {"git_commit": commit, "versions": {"python": "3.11.7", "jax": jax}}

    assert mixed({"none": {0: run(), 1: run("1111111aaa+changes")}, "sdc": {}}) == []
    (line,) = mixed({"none": {0: run()}, "sdc": {0: run("2222222bbb")}})
    assert line.startswith("ATTENTION: the runs have several commits (1111111, 2222222)")
    (line,) = mixed({"none": {0: run(), 1: run(jax="0.11.0")}})
    assert "several versions of jax (0.10.2, 0.11.0)" in line


def test_one_seed_gives_every_variant_the_same_values_and_batches(camvid):
    study = on(camvid)
    runs = {(v, s): study.experiment(v, s) for v in study.variants for s in study.seeds}

    def initial(run):
        state = runs[run].build(11).init_state()
        return {k: np.asarray(x) for k, x in flatten_dict(state.params, sep="/").items()}

    none, sdc, other = initial(("none", 0)), initial(("sdc", 0)), initial(("none", 1))
    assert none.keys() < sdc.keys()
    assert all(np.array_equal(value, sdc[path]) for path, value in none.items())
    kernels = [path for path in none if path.endswith("kernel")]
    assert kernels
    assert not any(np.array_equal(none[path], other[path]) for path in kernels)

    def batches(run):
        experiment = runs[run]
        with train_batches(
            experiment.data, seed=experiment.seed, batch_size=8, stop_step=2
        ) as found:
            return [batch["image"] for batch in found]

    assert np.array_equal(batches(("none", 0)), batches(("sdc", 0)))
    assert not np.array_equal(batches(("none", 0)), batches(("none", 1)))


def test_operators_begin_alike_too():
    """Of the library's network: whatever has one path in two necks, the kernel of the operator."""

    def initial(operator):
        model = Model("fcn_r18-d8", neck=Neck(operator, reduction=8))
        neck = model.build(3).neck
        stage = jax.numpy.zeros((1, 4, 4, 16))
        made = neck.init({"params": jax.random.key(5)}, (stage,), train=False)["params"]
        return flatten_dict(made, sep="/")

    conv, sdc = initial("conv"), initial("sdc")
    assert conv.keys() < sdc.keys()
    assert all(np.array_equal(value, sdc[path]) for path, value in conv.items())


def test_an_interval_is_students():
    # Student's t of three degrees of freedom at 97.5 %: 3.182446.
    values = [1.0, 2.0, 4.0, 5.0]
    mean, half = interval(values)
    assert mean == 3.0
    assert half == pytest.approx(3.182446 * np.std(values, ddof=1) / 2, rel=1e-6)
    assert interval([2.0]) == (2.0, None)
    assert interval([2.0, math.nan]) == (2.0, None)
    assert math.isnan(interval([])[0])


def test_differences_are_taken_in_pairs():
    """Seed 2 of the baseline is missing, so it counts for no difference, but for the mean."""
    study = dataclasses.replace(load_study(FILE), metrics=("mIoU",), seeds=(0, 1, 2))

    def run(score, seconds=1.0):
        return {"scores": {"mIoU": score}, "seconds_per_step": seconds, "parameters": 3}

    results = {
        "none": {0: run(0.5), 1: run(0.7)},
        "sdc": {0: run(0.51, 2.0), 1: run(0.73, 2.0), 2: run(0.9, 2.0)},
    }
    rows = summary(study, results)
    entry = rows["sdc"]["metrics"]["mIoU"]
    assert entry["difference"] == pytest.approx(2.0)
    assert entry["pairs"] == 2
    # Of 1 and 3 points: t(1) · √2 / √2.
    assert entry["half_width"] == pytest.approx(12.7062, rel=1e-4)
    assert entry["mean"] == pytest.approx(100 * (0.51 + 0.73 + 0.9) / 3)
    assert "difference" not in rows["none"]["metrics"]["mIoU"]
    text = markdown(study, rows)
    assert "| sdc | 2 | +2.00 ± 12.71 |" in text
    assert text.rstrip().endswith("| 2.00 |")  # twice the time
    undefined = summary(study, {"none": {0: run(None)}, "sdc": {0: run(0.5)}})
    assert undefined["sdc"]["metrics"]["mIoU"]["difference"] is None


def test_variants_change_the_base_and_nothing_else():
    base = dataclasses.replace(tiny_study.study().base, model=Model("fpn_r18"))
    sdc = Neck("sdc", guidance_channels=4)
    study = Study(
        "s",
        base,
        {
            "none": {},
            "sdc": {"model.neck": sdc},
            "large": lambda b: dataclasses.replace(b, batch_size=b.batch_size * 2),
        },
    )
    assert study.experiment("sdc", 3).model.neck == sdc
    assert study.experiment("sdc", 3).seed == 3
    assert study.experiment("large", 0).batch_size == 16
    assert study.changes("large") == ["batch_size is 8 there, 16"]
    assert study.unpaired() == {"large": ["batch_size is 8 there, 16"]}
    longer = dataclasses.replace(study, base=dataclasses.replace(base, steps=9))
    assert longer.experiment("sdc", 0).steps == 9

    def wrong(match, **changes):
        with pytest.raises(InputError, match=match):
            dataclasses.replace(study, **changes)

    wrong("variants none and same are the same", variants={"none": {}, "same": {"steps": 4}})
    wrong("there is no setting model.nek", variants={"none": {}, "x": {"model.nek": sdc}})
    wrong("there is no setting batchsize", variants={"none": {}, "x": {"batchsize": 8}})
    wrong("variant x: steps must be at least 1", variants={"none": {}, "x": {"steps": 0}})
    wrong("no variant 'non'", baseline="non")
    wrong("chosen: there is no variant 'sdk'; did you mean sdc", chosen=("none", "sdk"))
    wrong("seeds must be different", seeds=(1, 1))
    wrong("'a/b' is no name", variants={"none": {}, "a/b": {"steps": 5}})
    wrong("val_split is none", base=dataclasses.replace(base, data=_without_validation(base.data)))


def test_the_command_runs_what_the_study_chooses_or_what_it_is_told(tmp_path, monkeypatch):
    """`chosen` of a study is no more than what `--variants` is by default."""
    file = tmp_path / "three.py"
    file.write_text(
        "import dataclasses\n"
        "from tests.studies import tiny_study\n"
        "def study():\n"
        "    found = tiny_study.study()\n"
        "    variants = {**found.variants, 'long': {'steps': 50}}\n"
        "    return dataclasses.replace(found, variants=variants, chosen=('none', 'sdc'))\n"
    )

    runs = []
    monkeypatch.setattr(command, "_check_metrics", lambda study: None)
    monkeypatch.setattr(command, "run_study", lambda study, *_, **__: runs.append(study) or True)

    def variants(*words):
        assert command.main(None, [str(file), *words]) == 0
        return list(runs[-1].variants)

    assert variants() == ["none", "sdc"]
    assert variants("--variants=all") == ["none", "sdc", "long"]
    assert variants("--variants=none,long") == ["none", "long"]


def _without_validation(data):
    return dataclasses.replace(data, val_split=None)


def test_the_command_refuses_before_it_begins(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies" / "tiny").mkdir(parents=True)

    def refused(match, *words):
        status, _, err = call("study.py", FILE, *words)
        assert status == 2, err
        assert match in err

    refused("--seed has no effect on a study: use --seeds", "--seed=3")
    refused("--variants: there is none called 'sdk'; did you mean sdc", "--variants=none,sdk")
    refused("baseline: there is no variant 'sdk'; did you mean sdc", "--baseline=sdk")
    refused("there is no score 'trimap_iou.1px'", "--evaluation.trimap_widths=3")
    (tmp_path / "studies" / "tiny" / "notes").write_text("mine")
    refused("is not empty and holds no study")
    (tmp_path / "studies" / "tiny" / "notes").unlink()
    (tmp_path / "studies" / "tiny.md").write_text("mine")
    (tmp_path / "studies" / "tiny" / "none").mkdir()
    status, _, err = call("study.py", FILE.with_name("test_study.py"))
    assert status == 2
    assert "defines no study()" in err
    status, _, err = call("train.py", FILE)
    assert (status, "which study.py takes" in err) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_command_goes_on_after_a_signal(tmp_path, request, camvid, number):
    """Two runs at once; all that they started is gone soon, and nothing is lost."""
    words = [sys.executable, request.config.rootpath / "study.py", FILE, "--steps=40", "--jobs=2"]
    words += ["--data.dir", camvid]
    environment = {**os.environ, "XLA_FLAGS": ""}

    def start(name):
        return subprocess.Popen(
            [*map(str, words), "--workdir", str(tmp_path / name)],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    out, err = (whole := start("whole")).communicate(timeout=600)
    assert whole.returncode == 0, out + err
    process = start("parts")
    log = tmp_path / "parts" / "none" / "seed0.log"
    while not (log.is_file() and "step 5/" in log.read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    out, err = (again := start("parts")).communicate(timeout=600)
    assert again.returncode == 0, out + err
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")


@pytest.mark.parametrize("name", ["camvid_operators", "shapes_operators"])
def test_the_studies_of_the_library_can_be_made(request, name):
    """All variants, and without code of their own: their runs can be evaluated from their work
    directories alone."""
    study = load_study(request.config.rootpath / "configs" / "studies" / f"{name}.py")
    assert set(study.chosen) < set(study.variants)
    assert all(study.experiment(v, 0).code is None for v in study.variants)
    assert study.unpaired() == {}
