"""Statuses and lines of a command that ends badly, and options that the commands share."""

import dataclasses
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from sdnjax import __main__
from sdnjax.commands import command_line
from sdnjax.commands.command_line import add_code, add_distributed, add_protocol, from_workdir, run
from sdnjax.commands.workdir import open_workdir
from sdnjax.config_file import shipped
from sdnjax.errors import InputError, RunError
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import Evaluation, protocol
from sdnjax.options import OneLineParser
from tests.metrics.test_own_metric import NearClass


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("no such file"), 2, "error: no such file"),
        (RunError("not finite"), 1, "stopped: not finite"),
        (OSError(28, "No space left on device", "/data/x"), 1, "stopped: /data/x: No space left"),
        (OSError("odd"), 1, "stopped: odd"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_an_error_is_one_line_and_a_status(capsys, error, status, line):
    def main():
        raise error

    assert run(main) == status
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(line)


def test_an_error_of_a_buckets_client_is_one_line(capsys):
    error = type("NoCredentialsError", (Exception,), {"__module__": "botocore.exceptions"})

    def main():
        raise error("Unable to locate\ncredentials")

    assert run(main) == 1
    said = "stopped: the bucket cannot be reached: Unable to locate credentials\n"
    assert capsys.readouterr().err == said


def test_a_status_of_the_command_is_that_of_the_process():
    assert [run(lambda: None), run(lambda: 3)] == [0, 3]


def test_distributed_is_a_flag_that_says_what_it_needs():
    parser = OneLineParser()
    add_distributed(parser)
    assert not parser.parse_args([]).distributed
    assert parser.parse_args(["--distributed"]).distributed
    assert "JAX_COORDINATOR_ADDRESS" in parser.format_help()


@pytest.mark.parametrize("script", ["train.py", "eval.py"])
def test_distributed_joins_the_processes(call, monkeypatch, config, tmp_path, script):
    class Joined(Exception):
        pass

    def join(*where, **how):
        raise Joined

    for name, value in (
        ("COORDINATOR_ADDRESS", "a:1"),
        ("NUM_PROCESSES", "2"),
        ("PROCESS_ID", "1"),
    ):
        monkeypatch.setenv(f"JAX_{name}", value)

    monkeypatch.setattr(jax.distributed, "initialize", join)
    open_workdir(tmp_path / "run", Experiment())
    with pytest.raises(Joined):
        call(script, config if script == "train.py" else tmp_path / "run", "--distributed")


def test_a_protocol_leaves_the_runs_own_metrics_finish_and_batch_size(monkeypatch, tmp_path):
    own = Evaluation(batch_size=3, metrics=(NearClass(),), finish=np.argmax, trimap_widths=(1,))
    asked = []

    def load(path, **how):
        asked.append((path, how))
        return Experiment(evaluation=own)

    monkeypatch.setattr(command_line, "load_experiment", load)
    parser = OneLineParser()
    add_protocol(parser)
    add_code(parser)
    words = ["--protocol", "cityscapes_slide769", "--trust-code", "--config", "c.py"]
    found = from_workdir(parser.parse_args(words), tmp_path).evaluation
    assert asked == [(tmp_path, {"config": Path("c.py"), "trust_code": True})]
    kept = {"batch_size": 3, "metrics": own.metrics, "finish": np.argmax}
    assert found == dataclasses.replace(protocol("cityscapes_slide769"), **kept)
    assert from_workdir(parser.parse_args([]), tmp_path).evaluation == own


def test_one_command_for_all(monkeypatch, capsys):
    """`sdnjax NAME` is the script; its usage says so, and a shipped configuration has a name."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["sdnjax", *words])
        try:
            status = __main__.main()
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    status, out, _ = call()
    assert status == 2 and all(name in out for name in __main__.COMMANDS)
    status, _, err = call("trian")
    assert status == 2 and "did you mean train" in err
    status, out, _ = call("train", "camvid_fcn_r18_sdn", "--help")
    assert status == 0
    assert out.startswith("usage: sdnjax train CONFIG")
    assert "sdnjax train configs/shapes_fcn_r18_sdn.py" in out and "[camvid_fcn_r18_sdn]" in out
    status, _, err = call("check", "camvid_fcn_r18_snd", "--data.dir", "x")
    assert status == 2 and "no configuration of the library" in err
    assert "did you mean camvid_fcn_r18_sdn" in err
    status, out, _ = call("convert", "from-torch", "--help")
    assert "usage: sdnjax convert from-torch CONFIG" in out


def test_every_script_of_the_root_is_a_command(request):
    scripts = {path.stem for path in request.config.rootpath.glob("*.py")} - {"setup"}
    assert scripts <= __main__.COMMANDS.keys()
    package = request.config.rootpath / "sdnjax" / "scripts"
    assert scripts == {path.stem for path in package.glob("*.py")} - {"__init__"}


def test_the_wheel_has_every_configuration(request):
    """`sdnjax/configs` of a wheel is the folder beside the library, and all packages are found."""
    text = (request.config.rootpath / "setup.py").read_text()
    assert '"sdnjax.configs": "configs"' in text
    found = shipped(Path("camvid_fcn_r18_sdn"))
    assert found == request.config.rootpath / "configs" / "camvid_fcn_r18_sdn.py"
    assert shipped(Path("other.py")) == Path("other.py")
    assert shipped(Path("runs/mine")) == Path("runs/mine")


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, jax.errors.JaxRuntimeError])
def test_an_exchange_that_fails_means_another_process_is_gone(monkeypatch, kind):
    """Whatever kind of error JAX makes of it."""
    error = kind("UNKNOWN: Gloo AllGather failed: Connection closed by peer [127.0.0.1]:4711")
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    status, line = command_line.outcome(error)
    assert status == 75
    assert "another process of the run is gone" in line and "--resume" in line
    assert command_line.outcome(kind("a defect"))[0] == 1
    monkeypatch.setattr(jax, "process_count", lambda: 1)
    assert command_line.outcome(error)[0] == 1


def stopped_by(*causes):
    """A run that could not be saved, and why, the innermost cause first."""
    error = None
    for outer in (*causes, RunError("could not write checkpoint 3")):
        outer.__cause__ = error
        error = outer
    return error


def test_a_checkpoint_that_another_process_left_unwritten_is_no_failure_of_the_disk(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    gone = "UNKNOWN: Gloo AllGather failed: Connection closed by peer [127.0.0.1]:4711"
    for causes in ((ValueError(gone),), (RuntimeError(gone), ValueError("saving failed"))):
        status, line = command_line.outcome(stopped_by(*causes))
        assert status == 75 and "another process of the run is gone (UNKNOWN: Gloo" in line
    reset = type("ClientError", (Exception,), {"__module__": "botocore.errors"})
    for cause in (ConnectionResetError("Connection reset by peer"), reset("Connection reset")):
        status, line = command_line.outcome(stopped_by(cause))
        assert (status, line) == (1, "stopped: could not write checkpoint 3")
