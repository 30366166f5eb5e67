"""Ctrl-C on the real command with a real network, and the same command on eight devices."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import optax
import pytest
from jax.sharding import SingleDeviceSharding

from sdnjax.runs.network import abstract_state, load_network
from sdnjax.runs.workdir import load_experiment
from sdnjax.training.checkpoints import find_checkpoint, restore_state
from sdnjax.training.metrics_log import read_metrics
from sdnjax.training.optimizer import make_optimizer
from tests.data.conftest import make_camvid
from tests.training.test_checkpoints import assert_same

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def camvid(tmp_path_factory):
    return make_camvid(tmp_path_factory.mktemp("data") / "camvid")


@pytest.fixture
def command(request, camvid):
    def command(workdir, *words, devices=1):
        root = request.config.rootpath
        flags = f"--xla_force_host_platform_device_count={devices}"
        environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONUNBUFFERED": "1"}
        words = [
            *(root / "train.py", root / "configs" / "camvid_fcn_r18_sdn.py"),
            *("--data.dir", camvid, "--workdir", workdir, "--steps=12", "--batch_size=8"),
            *("--data.crop_size=32,32", "--log_every=1", "--model.neck.guidance_channels=16"),
            *words,
        ]
        return subprocess.Popen(
            [sys.executable, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=workdir.parent,
        )

    return command


def finish(process, status=0):
    out, err = process.communicate(timeout=300)
    assert process.returncode == status, err
    return out, err


def state_of(workdir):
    import jax

    experiment, network = load_experiment(workdir), load_network(workdir)
    optimizer = make_optimizer(experiment.optimizer, experiment.steps)
    sharding = SingleDeviceSharding(jax.devices()[0])
    abstract = abstract_state(network.model, optimizer, experiment, sharding)
    assert isinstance(optimizer, optax.GradientTransformation)
    return restore_state(find_checkpoint(workdir / "checkpoints"), abstract)


def test_interrupted_command_resumes_to_the_same_bits(tmp_path, command):
    finish(command(tmp_path / "whole"))
    process = command(tmp_path / "parts")
    for line in process.stdout:
        if line.startswith("step 4/"):
            process.send_signal(signal.SIGINT)
            break
    out, err = finish(process, status=130)
    assert err == ""
    assert "--resume goes on from there" in out
    stopped = json.loads((tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()[-1])
    assert stopped["step"] < 12
    out, _ = finish(command(tmp_path / "parts", "--resume"))
    assert f"from step {find_step(out)} to 12" in out
    assert_same(state_of(tmp_path / "parts"), state_of(tmp_path / "whole"))
    ours, theirs = (
        [x["train"]["loss"] for x in read_metrics(tmp_path / name) if "train" in x]
        for name in ("parts", "whole")
    )
    assert ours == theirs


def find_step(out):
    return int(out.split("from step ")[1].split()[0])


def test_killed_command_loses_only_what_was_not_saved(tmp_path, command):
    process = command(tmp_path / "run", "--checkpoint_every=3")
    for line in process.stdout:
        if line.startswith("step 8/"):
            process.kill()
            break
    process.wait()
    time.sleep(0.5)
    out, _ = finish(command(tmp_path / "run", "--checkpoint_every=3", "--resume"))
    assert find_step(out) in (3, 6)
    finish(command(tmp_path / "whole"))
    assert_same(state_of(tmp_path / "run"), state_of(tmp_path / "whole"))


def test_one_and_eight_devices_log_the_same_losses(tmp_path, command):
    words = ("--steps=5", "--optimizer.learning_rate=1e-4")
    for name, devices in (("one", 1), ("eight", 8)):
        out, _ = finish(command(tmp_path / name, *words, devices=devices))
        assert f"{devices} device(s)" in out
    one, eight = (
        [x["train"]["loss"] for x in read_metrics(tmp_path / name) if "train" in x]
        for name in ("one", "eight")
    )
    assert len(one) == 5
    np.testing.assert_allclose(one, eight, atol=1e-5)
