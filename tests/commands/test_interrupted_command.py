"""The real command with a real network: Ctrl-C, kill, eight devices, two processes."""

import json
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

from sdnjax.commands.trained import load_network
from sdnjax.commands.workdir import load_experiment
from sdnjax.recipe import with_shardings
from sdnjax.training.checkpoints import find_checkpoint, finished_steps, restore_state
from sdnjax.training.metrics_log import read_metrics
from tests.data.conftest import make_camvid
from tests.training.test_checkpoints import assert_same

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def camvid(tmp_path_factory):
    return make_camvid(tmp_path_factory.mktemp("data") / "camvid")


@pytest.fixture
def command(request, camvid):
    def command(workdir, *words, devices=1, script="train.py", **variables):
        root = request.config.rootpath
        flags = f"--xla_force_host_platform_device_count={devices}"
        environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONUNBUFFERED": "1", **variables}
        training = [
            *(root / "configs" / "camvid_fcn_r18_sdn.py", "--workdir", workdir),
            *("--data.dir", camvid, "--steps=12", "--batch_size=8"),
            *("--data.crop_size=32,32", "--log_every=1", "--model.neck.guidance_channels=16"),
        ]
        words = [root / script, *(training if script == "train.py" else [workdir]), *words]
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
    recipe = experiment.build(len(network.classes))
    abstract = with_shardings(recipe.abstract_state(), SingleDeviceSharding(jax.devices()[0]))
    return restore_state(find_checkpoint(workdir / "checkpoints"), abstract)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_interrupted_command_resumes_to_the_same_bits(tmp_path, command, number):
    finish(command(tmp_path / "whole"))
    process = command(tmp_path / "parts")
    for line in process.stdout:
        if line.startswith("step 4/"):
            process.send_signal(number)
            break
    out, err = finish(process, status=130 if number == signal.SIGINT else 75)
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
    words = ("--checkpoint_every=3", "--keep_checkpoints=1")
    process = command(tmp_path / "run", *words)
    for line in process.stdout:
        # As soon as it is there: no later save has to follow.
        if line.startswith("step ") and finished_steps(tmp_path / "run" / "checkpoints"):
            process.kill()
            break
    process.communicate()
    saved = finished_steps(tmp_path / "run" / "checkpoints")
    out, _ = finish(command(tmp_path / "run", *words, "--resume"))
    assert find_step(out) == saved[-1] > 0
    finish(command(tmp_path / "whole"))
    assert_same(state_of(tmp_path / "run"), state_of(tmp_path / "whole"))


FEW = ("--steps=5", "--optimizer.learning_rate=1e-4")


def losses(workdir):
    return [x["train"]["loss"] for x in read_metrics(workdir) if "train" in x]


@pytest.fixture
def on_one_device(tmp_path, command):
    finish(command(tmp_path / "one", *FEW))
    assert len(losses(tmp_path / "one")) == 5
    return tmp_path / "one"


def test_eight_devices_log_the_same_losses(tmp_path, command, on_one_device):
    out, _ = finish(command(tmp_path / "eight", *FEW, devices=8))
    assert "8 device(s)" in out
    np.testing.assert_allclose(losses(tmp_path / "eight"), losses(on_one_device), atol=1e-5)


def both_processes(command, workdir, *words, **how):
    """What two processes of one command print."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    both = [
        command(
            workdir,
            *(*words, "--distributed"),
            JAX_COORDINATOR_ADDRESS=address,
            JAX_NUM_PROCESSES="2",
            JAX_PROCESS_ID=str(index),
            **how,
        )
        for index in (0, 1)
    ]
    return [finish(process)[0] for process in both]


def test_two_processes_log_the_same_losses_and_scores(tmp_path, command, on_one_device):
    out, silent = both_processes(command, tmp_path / "two", *FEW)
    assert "2 device(s)" in out
    assert "step" not in silent
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(on_one_device), atol=1e-5)
    one, two = (read_metrics(w)[-1]["val"] for w in (on_one_device, tmp_path / "two"))
    assert two["images"] == one["images"] == 4
    assert abs(two["mIoU"] - one["mIoU"]) < 0.01


def test_two_processes_evaluate_as_one(tmp_path, command, on_one_device):
    words = ("--evaluation.trimap_widths=2", "--evaluation.boundary_iou_ratio=.02")
    finish(command(on_one_device, *words, "--out", tmp_path / "one.json", script="eval.py"))
    words = (*words, "--out", tmp_path / "two.json")
    out, silent = both_processes(command, on_one_device, *words, script="eval.py")
    assert "mIoU" in out
    assert "mIoU" not in silent
    one, two = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("one", "two"))
    assert one["results"]["images"] == 4
    boundary = [r["results"].pop("boundary_f") for r in (one, two)]
    assert boundary[0] == pytest.approx(boundary[1], rel=1e-12)  # sums of floats
    for results in (one, two):
        for entry in results["results"]["per_class"]:
            entry.pop("boundary_f")
    assert one == two
    assert (tmp_path / "one_confusion.csv").read_text() == (
        tmp_path / "two_confusion.csv"
    ).read_text()
