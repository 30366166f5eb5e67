"""What a run hands on to its data, loop and log, and what it refuses before it writes anything."""

import dataclasses
import os
import re
import signal

import jax
import pytest

import sdnjax.commands.train as module
from sdnjax.commands.train import train
from sdnjax.data.data_settings import Data
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import Evaluation
from sdnjax.losses import CrossEntropy
from sdnjax.models import Model
from sdnjax.models.layers import Classifier
from sdnjax.training import progress
from sdnjax.training.metrics_log import read_metrics
from tests.training.tiny import Tiny


def experiment(camvid, **changes):
    data = Data(name="camvid", dir=str(camvid), crop_size=(16, 16), workers=2)
    plain = {"model": Tiny, "data": data, "steps": 2, "tensorboard": False, "log_every": 1}
    return Experiment(**{**plain, **changes})


def test_a_loss_without_its_output_is_refused_before_the_work_directory_is_made(camvid, tmp_path):
    with pytest.raises(InputError, match="did you mean auxiliary"):
        train(experiment(camvid, losses=(CrossEntropy(on="auxilary"),)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@dataclasses.dataclass(frozen=True)
class Broken:
    """A metric that cannot begin."""

    def empty(self, num_classes):
        raise InputError("broken metric")


def test_what_evaluation_would_stumble_over_is_told_before_the_first_step(camvid, tmp_path):
    def refused(match, **changes):
        with pytest.raises(InputError, match=match):
            train(experiment(camvid, **changes), tmp_path / "run")
        assert not (tmp_path / "run").exists()

    small = Model(name="segformer_mit-b0")
    data = dataclasses.replace(experiment(camvid).data, crop_size=(64, 64))
    # Pictures of 20 × 24 pixels are fewer than the network can take; crops are not.
    refused("too few for a mix transformer", model=small, data=data)
    refused("broken metric", evaluation=Evaluation(metrics=(Broken(),)))
    bad = camvid / "val" / "0.png"
    bad.write_bytes(bad.read_bytes()[:100])
    refused(bad.name)


def test_each_process_asks_for_its_own_rows_of_the_runs_batches(camvid, tmp_path, monkeypatch):
    class Asked(Exception):
        pass

    def ask(data, **how):
        raise Asked(how)

    monkeypatch.setattr(module, "train_batches", ask)
    for meeting in (
        "open_workdir",
        "agree",
        "check_shared",
    ):  # where the others would be waited for
        monkeypatch.setattr(module, meeting, lambda *_, **__: None)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(Asked) as asked:
        train(experiment(camvid, seed=5, batch_size=16, steps=7), tmp_path / "run")
    assert asked.value.args[0] == {
        "seed": 5,
        "batch_size": 16,
        "start_step": 0,
        "stop_step": 7,
        "process_index": 1,
        "process_count": 2,
        "extras": (),
    }


def test_what_a_run_says(camvid, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "_TOLERABLE_WAIT", -1.0)
    lines = []

    def report(line):
        lines.append(line)
        if line.startswith("step 2/"):
            os.kill(os.getpid(), signal.SIGINT)

    bad = camvid / "val" / "1.png"
    bad.write_bytes(bad.read_bytes()[:100])
    own = experiment(camvid, steps=9, evaluate_every=1)
    own = dataclasses.replace(own, data=dataclasses.replace(own.data, on_bad_image="skip"))
    at = int(train(own, tmp_path / "run", report=report).step)
    assert at < 9
    assert re.match(r"experiment: Tiny, 0\.00 M .* 6 images .* 3 to .* 8 dev.* 0 to 9 in", lines[0])
    assert lines.pop(1) == "compiling the training step ..."
    assert re.match(r"step 1/9 .*waiting for data \d+% \(.*decoding \d+%.*; .*\)", lines[1])
    assert lines.pop(2) == "val: 3 images ..."
    assert bad.name in lines[2]
    assert lines[3] == "1 example(s) left out because of unreadable files"
    results = read_metrics(tmp_path / "run")[1]["val"]
    said = f"validation at step 1: mIoU {results['mIoU']:.4f}"
    assert lines[4].startswith(f"{said}  pixel accuracy {results['pixel_accuracy']:.4f}  F(")
    assert lines[-1] == f"stopped at step {at}, saved; --resume goes on from there"


@pytest.mark.slow
def test_what_large_training_needs_goes_through_a_run(camvid, tmp_path):
    """Each of them changes what is logged, or writes what it says; none of them ends the run."""
    plain = experiment(camvid, batch_size=16)
    plain = dataclasses.replace(plain, data=dataclasses.replace(plain.data, val_split=None))
    ways = {
        "plain": {},
        "parts": {"accumulate": 2},
        "groups": {"batch_norm_images": 2},
        "again": {"remat": lambda module: isinstance(module, Classifier)},
        "eight bits": {"data": dataclasses.replace(plain.data, transfer="uint8")},
        "traced": {"profile": (2, 2), "ema_decay": 0.9},
    }
    losses = {}
    for name, changes in ways.items():
        said = []
        train(dataclasses.replace(plain, **changes), tmp_path / name, report=said.append)
        losses[name] = [x["train"]["loss"] for x in read_metrics(tmp_path / name)]
        assert len(losses[name]) == 2
    for same in ("again", "traced"):
        assert losses[same] == pytest.approx(losses["plain"], rel=1e-6)
    for different in ("parts", "groups", "eight bits"):
        assert losses[different] != losses["plain"], different
    assert "profiler trace up to step 2" in "\n".join(said)
    assert list((tmp_path / "traced" / "profile").rglob("*.xplane.pb"))
