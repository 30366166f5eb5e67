"""A work directory that another run has, and side files that are damaged."""

import dataclasses
import importlib.util
import json
import shutil
import signal
import subprocess
import sys

import pytest

from sdnjax.commands.evaluate import evaluate_run
from sdnjax.commands.train import train
from sdnjax.commands.workdir import held, load_experiment
from sdnjax.errors import InputError
from sdnjax.training.checkpoints import finished_steps
from sdnjax.training.metrics_log import read_metrics
from tests.commands.conftest import make_camvid
from tests.commands.test_train import experiment
from tests.training.test_checkpoints import assert_same


def silent(line):
    pass


HOLD = """
import sys
from sdnjax.commands.workdir import held
with held(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_work_directory_is_for_one_run_at_a_time(camvid, tmp_path):
    """Also for a resume, which would drop metrics, and an overwrite; the system frees it."""
    own, run = experiment(camvid), tmp_path / "run"
    train(own, run, report=silent)
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout.readline() == b"held\n"
    before = (run / "metrics.jsonl").read_bytes()
    for how in ({"resume": True}, {"overwrite": True}, {}):
        with pytest.raises(InputError, match=f"in use by another .*process {other.pid} on "):
            train(dataclasses.replace(own, steps=4), run, report=silent, **how)
    assert (run / "metrics.jsonl").read_bytes() == before
    evaluate_run(run, own, report=silent)  # who only reads may
    other.send_signal(signal.SIGKILL)
    other.communicate()
    state = train(dataclasses.replace(own, steps=4), run, resume=True, report=silent)
    assert int(state.step) == 4


def test_a_directory_that_was_made_for_nothing_goes_again(tmp_path):
    with held(tmp_path / "a" / "run"):
        assert (tmp_path / "a" / "run").is_dir()
    assert not (tmp_path / "a" / "run").exists()
    (tmp_path / "file").write_text("x")
    with held(tmp_path / "file"):
        pass
    with held(tmp_path):
        pass
    assert (tmp_path / ".lock").exists()  # not empty, so it stays


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of four steps, with all the files that a run may have."""
    folder = tmp_path_factory.mktemp("finished")
    own = experiment(
        make_camvid(folder),
        steps=4,
        evaluate_every=1,
        checkpoint_every=1,
        keep_checkpoints=4,
        keep_best="mIoU",
        stop_after=9,
    )
    return own, folder / "run", train(own, folder / "run", report=silent)


@pytest.fixture
def stopped(finished, tmp_path):
    """The same, as if only two steps had been saved."""
    own, run, whole = finished
    shutil.copytree(run, tmp_path / "run")
    for step in (3, 4):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / str(step))
    return own, tmp_path / "run", whole


@pytest.mark.parametrize(
    "content",
    [b"{", *(pytest.param(x, marks=pytest.mark.slow) for x in (b"[" * 5000, b"\xff\x00", b"null"))],
)
def test_damaged_side_files_stop_no_run(stopped, content):
    own, run, whole = stopped
    scores = (run / "best" / "scores.json").read_text()
    lines = (run / "metrics.jsonl").read_bytes().splitlines()
    (run / "metrics.jsonl").write_bytes(b"\n".join([*lines, content, b"", b'{"step": "x"}']))
    (run / "runs.json").write_bytes(content)
    (run / "best" / "scores.json").write_bytes(content)
    assert_same(train(own, run, resume=True, report=silent), whole)
    assert [x["step"] for x in read_metrics(run) if "val" in x] == [1, 2, 3, 4]
    assert (run / "runs.damaged.json").read_bytes() == content
    assert (run / "best" / "scores.json").read_text() == scores


def test_a_damaged_checkpoint_is_left_out_with_a_loud_line(stopped):
    own, run, whole = stopped
    for file in (run / "checkpoints" / "2" / "params").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:-1])
    lines = []
    assert_same(train(own, run, resume=True, report=lines.append), whole)
    (warning,) = (line for line in lines if line.startswith("WARNING"))
    assert "2 is damaged" in warning and "from step 1 to 4" in " ".join(lines)


def test_a_validation_that_was_cut_off_is_made_up_for(stopped):
    """Also the last one, without which a run is not finished."""
    own, run, whole = stopped
    lines = (run / "metrics.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    kept = [
        line for line, x in zip(lines, entries, strict=True) if (x["step"], "val") != (2, [*x][1])
    ]
    (run / "metrics.jsonl").write_text("\n".join(kept) + "\n")
    shutil.copytree(run, run.with_name("last"))
    assert_same(train(own, run, resume=True, report=silent), whole)
    assert [x["step"] for x in read_metrics(run) if "val" in x] == [1, 2, 3, 4]
    two = dataclasses.replace(own, steps=2)
    train(two, run.with_name("last"), resume=True, report=silent)
    assert [x["step"] for x in read_metrics(run.with_name("last")) if "val" in x] == [1, 2]
    before = finished_steps(run.with_name("last") / "checkpoints")
    said = []
    train(two, run.with_name("last"), resume=True, report=said.append)
    assert any("is finished" in line for line in said)
    assert finished_steps(run.with_name("last") / "checkpoints") == before


@pytest.mark.parametrize("url", ["hdfs://bucket/run", "gs://bucket/run"])
def test_a_url_never_becomes_a_folder_here(camvid, tmp_path, monkeypatch, url):
    """One that is not served, or whose package is missing, would be a folder called hdfs:."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None)
    with pytest.raises(InputError, match=r"a place is a folder|needs gcsfs"):
        train(experiment(camvid), url, report=silent)
    with pytest.raises(InputError, match=r"a place is a folder|needs gcsfs"):
        load_experiment(url)
    assert not list(tmp_path.glob("*:*"))
