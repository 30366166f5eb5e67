"""Metrics of one's own and what makes labels of probabilities, in training and afterwards."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from sdnjax.commands.evaluate import evaluate_run
from sdnjax.commands.predict import predict_pictures
from sdnjax.commands.train import train
from sdnjax.config_file import load_config
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import Evaluation
from sdnjax.models.model_settings import Model
from sdnjax.training.metrics_log import read_metrics
from tests.metrics.test_own_metric import NearClass
from tests.training.tiny import Tiny


def least(probabilities, picture):
    """The least probable class, and class 0 where the picture is dark."""
    return np.where(picture.mean(axis=-1) < 60, 0, probabilities.argmin(axis=-1))


@dataclasses.dataclass(frozen=True)
class Least:
    dark: int = 60

    def __call__(self, probabilities, picture):
        return least(probabilities, picture)


@pytest.fixture
def experiment(monkeypatch, config, camvid):
    monkeypatch.setattr(Model, "build", lambda self, num_classes, dtype=None: Tiny(num_classes))
    own = load_config(config, Experiment)
    data = dataclasses.replace(own.data, dir=str(camvid), crop_size=(16, 16))
    return dataclasses.replace(own, data=data, steps=2, batch_size=8, tensorboard=False)


def test_own_metrics_and_finish_from_training_to_prediction(experiment, camvid, tmp_path):
    workdir = tmp_path / "run"
    train(experiment, workdir, report=lambda _: None)
    evaluation = dataclasses.replace(experiment.evaluation, finish=least, metrics=(NearClass(),))
    own = dataclasses.replace(experiment, evaluation=evaluation)
    lines: list[str] = []
    results = evaluate_run(workdir, own, report=lines.append)
    (table,) = (line for line in lines if "\n" in line)
    assert "near class" in table.split("\n")[0]
    assert f"near class {100 * results['near_class']:.2f}" in table.split("\n")[-1]
    written = json.loads((workdir / "evaluation" / "val_2_whole_least.json").read_text())
    assert written["results"] == results
    assert all("near_class" in entry for entry in written["results"]["per_class"])
    assert "least" in json.dumps(written["evaluation"]["finish"])
    plain = evaluate_run(workdir, experiment, report=lambda _: None)
    assert plain["mIoU"] != results["mIoU"]
    assert "near_class" not in plain

    picture = camvid / "val" / "0.png"
    predict_pictures(workdir, own, [picture], tmp_path / "out", report=lambda _: None)
    labels = np.asarray(Image.open(tmp_path / "out" / "0_labels.png"))
    dark = np.asarray(Image.open(picture)).mean(axis=-1) < 60
    assert dark.any()
    assert not labels[dark].any()
    assert labels[~dark].any()


def test_validation_during_training_uses_them(experiment, tmp_path):
    evaluation = Evaluation(finish=Least(), metrics=(NearClass(),))
    own = dataclasses.replace(experiment, evaluation=evaluation)
    train(own, tmp_path / "own", report=lambda _: None)
    train(experiment, tmp_path / "plain", report=lambda _: None)
    ours, plain = (read_metrics(tmp_path / name)[-1]["val"] for name in ("own", "plain"))
    assert 0 <= ours["near_class"] <= 1
    results = evaluate_run(tmp_path / "plain", own, report=lambda _: None)
    assert ours == results
    assert ours["mIoU"] != plain["mIoU"]


@pytest.mark.slow
def test_dense_crf_by_name_in_evaluation_and_prediction(experiment, camvid, tmp_path):
    workdir = tmp_path / "run"
    train(experiment, workdir, report=lambda _: None)
    evaluation = dataclasses.replace(experiment.evaluation, finish="dense_crf")
    own = dataclasses.replace(experiment, evaluation=evaluation)
    results = evaluate_run(workdir, own, report=lambda _: None)
    written = json.loads((workdir / "evaluation" / "val_2_whole_DenseCRF.json").read_text())
    assert written["results"] == results
    assert written["evaluation"]["finish"]["bilateral_sigma_xy"] == 80
    assert evaluate_run(workdir, experiment, report=lambda _: None)["mIoU"] != results["mIoU"]
    predict_pictures(
        workdir, own, [camvid / "val" / "0.png"], tmp_path / "out", report=lambda _: None
    )
    assert (tmp_path / "out" / "0_labels.png").exists()
