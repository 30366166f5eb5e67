"""The real command with a real network: Ctrl-C, kill, eight devices, two processes."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

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


@pytest.fixture(scope="module")
def command(request, camvid, compiled):
    def command(workdir, *words, devices=1, script="train.py", only=False, **variables):
        root = request.config.rootpath
        flags = f"--xla_force_host_platform_device_count={devices}"
        flags += " --xla_backend_optimization_level=0"
        environment = {**os.environ, **compiled, "XLA_FLAGS": flags, "PYTHONUNBUFFERED": "1"}
        environment |= variables
        training = [
            *(root / "configs" / "camvid_fcn_r18_sdn.py", "--workdir", workdir),
            *("--data.dir", camvid, "--steps=12", "--batch_size=8"),
            *("--data.crop_size=32,32", "--log_every=1", "--model.neck.guidance_channels=16"),
        ]
        usual = training if script == "train.py" else [workdir]
        words = [root / script, *([] if only else usual), *words]
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


@pytest.fixture(scope="module")
def whole(tmp_path_factory, command):
    """The work directory of a run that nothing interrupted."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    finish(command(workdir))
    return workdir


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_interrupted_command_resumes_to_the_same_bits(tmp_path, command, whole, number):
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
    assert_same(state_of(tmp_path / "parts"), state_of(whole))
    assert losses(tmp_path / "parts") == losses(whole)


def losses(workdir):
    return [x["train"]["loss"] for x in read_metrics(workdir) if "train" in x]


def find_step(out):
    return int(out.split("from step ")[1].split()[0])


def test_killed_command_loses_only_what_was_not_saved(tmp_path, command, whole):
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
    assert_same(state_of(tmp_path / "run"), state_of(whole))


FEW = ("--steps=5", "--optimizer.learning_rate=1e-4")


@pytest.fixture(scope="module")
def on_one_device(tmp_path_factory, command):
    workdir = tmp_path_factory.mktemp("one") / "run"
    finish(command(workdir, *FEW))
    assert len(losses(workdir)) == 5
    return workdir


def test_eight_devices_log_the_same_losses(tmp_path, command, on_one_device):
    out, _ = finish(command(tmp_path / "eight", *FEW, devices=8))
    assert "8 device(s)" in out
    np.testing.assert_allclose(losses(tmp_path / "eight"), losses(on_one_device), atol=1e-5)


def start_both(command, workdir, *words, own=((), ()), **how):
    """Two processes of one command, each with words of its own besides."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    return [
        command(
            workdir,
            *(*words, *own[index], "--distributed"),
            JAX_COORDINATOR_ADDRESS=address,
            JAX_NUM_PROCESSES="2",
            JAX_PROCESS_ID=str(index),
            **how,
        )
        for index in (0, 1)
    ]


def both_processes(command, workdir, *words, **how):
    """What two processes of one command print."""
    return [finish(process)[0] for process in start_both(command, workdir, *words, **how)]


LONG = ("--steps=4000", "--optimizer.learning_rate=1e-4", "--checkpoint_every=4000")


@pytest.mark.parametrize(
    ("number", "who"), [(signal.SIGTERM, 1), (signal.SIGINT, 0), (signal.SIGUSR1, 1)]
)
def test_a_signal_to_one_process_stops_both_at_the_same_step_saved(tmp_path, command, number, who):
    both = start_both(command, tmp_path / "two", *LONG)
    for line in both[0].stdout:
        if line.startswith("step 3/"):
            both[who].send_signal(number)
            break
    outs = [process.communicate(timeout=120) for process in both]
    codes = [process.returncode for process in both]
    assert codes[1 - who] == 75 and codes[who] == (130 if number == signal.SIGINT else 75), outs
    (step,) = finished_steps(tmp_path / "two" / "checkpoints")
    assert f"stopped at step {step}, saved" in outs[0][0]
    words = ("--resume", f"--steps={step + 2}", *LONG[1:])
    (out, _) = both_processes(command, tmp_path / "two", *words)
    assert f"from step {step} to {step + 2}" in out
    finish(command(tmp_path / "one", f"--steps={step + 2}", *LONG[1:]))
    mine, theirs = (state_of(tmp_path / name).step for name in ("two", "one"))
    assert int(mine) == int(theirs)


@pytest.mark.parametrize(
    ("who", "at", "said"),
    [
        (1, "step 3/", "is gone"),
        # While one compiles nothing is exchanged: the runtime notices, by heartbeats or at once.
        (1, "compiling", "process 1 is gone"),
        (0, "compiling", "process 0, where the others meet, is gone"),
    ],
)
def test_a_killed_process_ends_the_other_within_seconds(tmp_path, command, who, at, said):
    words = (*LONG, "--heartbeat=10")
    # Nothing is found that another test compiled.
    both = start_both(command, tmp_path / "two", *words, JAX_ENABLE_COMPILATION_CACHE="false")
    for line in both[0].stdout:
        if line.startswith(at):
            both[who].kill()
            break
    begin = time.monotonic()
    _, err = both[1 - who].communicate(timeout=120)
    assert time.monotonic() - begin < 45  # twice the heartbeat, and a machine that is busy
    assert both[1 - who].returncode == 75, err
    assert said in err.splitlines()[-1] and "--resume" in err.splitlines()[-1]
    both[who].communicate()


def test_what_differs_between_processes_is_named_by_all(tmp_path, command):
    both = start_both(command, tmp_path / "two", own=((), ("--seed=7",)))
    for process in both:
        _, err = finish(process, status=2)
        assert "seed is 0 in process 0 and 7 in process 1" in err
    assert not (tmp_path / "two").exists()


def test_an_error_of_one_process_is_the_line_of_all(tmp_path, command, camvid):
    """A truncated picture, which process 1 alone reads."""
    folder = tmp_path / "camvid"
    shutil.copytree(camvid, folder)
    for path in (folder / "train").iterdir():
        path.write_bytes(path.read_bytes()[:-40])
    words = ("--data.dir", folder)
    begin = time.monotonic()
    both = start_both(command, tmp_path / "two", own=((), words))
    for process in both:
        out, err = finish(process, status=2)
        assert ".png" in err and "truncated or damaged" in err, (out, err)
    assert time.monotonic() - begin < 90


def test_skipped_pictures_of_all_processes_are_counted_and_named(tmp_path, command, camvid):
    folder = tmp_path / "camvid"
    shutil.copytree(camvid, folder)
    second = sorted((folder / "val").iterdir())[1]  # process 1's first
    second.write_bytes(second.read_bytes()[:-40])
    words = ("--data.dir", folder, "--on-bad-image=skip", *FEW)
    out, _ = both_processes(command, tmp_path / "two", *words)
    assert f"left out: {second}" in out or second.name in out
    assert read_metrics(tmp_path / "two")[-1]["val"]["skipped_images"] == 1


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


def test_a_work_directory_that_is_not_shared_is_told_by_all(tmp_path, command):
    """Each process has a folder of its own behind one relative name, as on local disks."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    both = []
    for index, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        told = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
        told["JAX_PROCESS_ID"] = str(index)
        both.append(command(tmp_path / name / "x", "--workdir=run", "--distributed", **told))
    for process in both:
        _, err = finish(process, status=2)
        assert "work directory run is not one folder for all processes" in err
        assert socket.gethostname() in err
    assert not any((tmp_path / name / "run").exists() for name in "ab")
