"""What a run hands on to its data, loop and log, and what it refuses before it writes anything."""

import dataclasses
import os
import re
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import sdnjax.commands.train as module
from sdnjax.commands.evaluate import evaluate_run
from sdnjax.commands.predict import predict_pictures
from sdnjax.commands.train import train
from sdnjax.data.data_settings import Data
from sdnjax.data.preparing.prepare import prepare
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.losses import CrossEntropy
from sdnjax.training import progress
from sdnjax.training.metrics_log import read_metrics
from tests.data.conftest import make_camvid, png
from tests.training.tiny import Tiny


class Segments(Tiny):
    """Also reads superpixels: the parity of a segment's number counts for its pixels."""

    inputs = ("superpixels",)

    def __call__(self, x, *, train, superpixels):
        assert superpixels.shape == x.shape[:3]
        parity = jnp.where(superpixels < 0, 0, superpixels % 2)[..., None]
        return super().__call__(x + 3.0 * parity, train=train)


def experiment(camvid, **changes):
    data = Data(name="camvid", dir=str(camvid), crop_size=(16, 16), workers=2)
    plain = {"model": Tiny, "data": data, "steps": 2, "tensorboard": False, "log_every": 1}
    return Experiment(**{**plain, **changes})


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The files of a miniature CamVid whose pictures have superpixels, and these prepared."""
    pytest.importorskip("skimage")
    folder = tmp_path_factory.mktemp("segments")
    files = make_camvid(folder / "camvid", (("train", 2), ("val", 2)), taller=0)
    for file in (*files.glob("train/*"), *files.glob("val/*")):
        coarse = Image.open(file).resize((6, 5))
        file.write_bytes(png(np.asarray(coarse.resize((96, 72), Image.Resampling.BICUBIC))))
        labels = file.parent.with_name(f"{file.parent.name}annot") / file.name
        Image.open(labels).resize((96, 72), Image.Resampling.NEAREST).save(labels)
    prepare("camvid", folder, files, superpixels=20, partial=True, progress=False)
    data = Data(name="camvid", dir=str(folder), superpixels=20, crop_size=(64, 64), workers=2)
    return files, data


def test_superpixels_reach_the_network_in_training_evaluation_and_prediction(prepared, tmp_path):
    files, data = prepared
    own, quiet = experiment("", data=data, model=Segments), {"report": lambda line: None}
    train(own, tmp_path / "run", **quiet)
    results = evaluate_run(tmp_path / "run", own, **quiet)
    assert results == read_metrics(tmp_path / "run")[-1]["val"]
    predict_pictures(tmp_path / "run", own, [files / "val"], tmp_path / "out", **quiet)
    right = valid = 0
    for file in (files / "valannot").iterdir():
        label = np.asarray(Image.open(file))
        found = np.asarray(Image.open(tmp_path / "out" / f"{file.stem}_labels.png"))
        right, valid = right + np.sum(found == label), valid + np.sum(label < 11)
    assert results["pixel_accuracy"] == pytest.approx(right / valid, rel=1e-12)


def test_what_does_not_fit_is_refused_before_the_work_directory_is_made(prepared, camvid, tmp_path):
    workdir = tmp_path / "run"
    with pytest.raises(InputError, match="superpixels is 20, but Tiny reads none: leave it out"):
        train(experiment("", data=prepared[1]), workdir)
    with pytest.raises(InputError, match="did you mean auxiliary"):
        train(experiment(camvid, losses=(CrossEntropy(on="auxilary"),)), workdir)
    assert not workdir.exists()


def test_each_process_asks_for_its_own_rows_of_the_runs_batches(camvid, tmp_path, monkeypatch):
    class Asked(Exception):
        pass

    def ask(data, **how):
        raise Asked(how)

    monkeypatch.setattr(module, "train_batches", ask)
    monkeypatch.setattr(module, "open_workdir", lambda *_, **__: None)  # others wait for it there
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
    assert re.match(r"step 1/9 .*waiting for data \d+% \(.*decoding \d+%.*; .*\)", lines[1])
    assert bad.name in lines[2]
    assert lines[3] == "1 example(s) left out because of unreadable files"
    results = read_metrics(tmp_path / "run")[1]["val"]
    said = f"validation at step 1: mIoU {results['mIoU']:.4f}"
    assert lines[4].startswith(f"{said}  pixel accuracy {results['pixel_accuracy']:.4f}  F(")
    assert lines[-1] == f"stopped at step {at}, saved; --resume goes on from there"
