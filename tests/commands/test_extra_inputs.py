"""A network that reads superpixels and the picture, from the files to a prediction."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from sdnjax.commands.evaluate import evaluate_run
from sdnjax.commands.predict import predict_pictures
from sdnjax.commands.train import train
from sdnjax.data import Data, evaluation_examples
from sdnjax.data.preparing.prepare import prepare
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.training.metrics_log import read_metrics
from tests.training.tiny import Tiny

pytest.importorskip("skimage")


class Segments(Tiny):
    """Its scores say which segment a pixel is in, unless the picture is dark there."""

    inputs = ("superpixels", "picture")

    def __call__(self, x, *, train, superpixels, picture):
        outputs = super().__call__(x, train=train)
        assert superpixels.shape == x.shape[:3]
        assert picture.shape == x.shape
        segment = jax.nn.one_hot(superpixels % self.num_classes, self.num_classes)
        bright = jnp.mean(picture, axis=-1, keepdims=True) > 0.4
        return {**outputs, "logits": outputs["logits"] + 100 * segment * bright}


@pytest.fixture
def experiment(camvid, tmp_path):
    prepare("camvid", tmp_path, camvid, superpixels=9, partial=True, progress=False)
    data = Data(name="camvid", dir=str(tmp_path), crop_size=(16, 16), workers=2, superpixels=9)
    return Experiment(model=Segments, data=data, steps=2, tensorboard=False)


def test_they_reach_training_validation_and_prediction(experiment, camvid, tmp_path):
    run = tmp_path / "run"
    train(experiment, run, report=lambda line: None)
    logged = read_metrics(run)[-1]["val"]
    assert evaluate_run(run, experiment, report=lambda line: None) == logged

    example = next(evaluation_examples(experiment.data, "val", extras=("superpixels",)))
    files = predict_pictures(
        run, experiment, [camvid / "val" / "0.png"], tmp_path / "out", report=lambda line: None
    )
    labels = np.asarray(Image.open(files[0]))
    # For one's own picture superpixels are computed as they were for the data set.
    bright = example.image.mean(axis=-1) > 0.4 * 255
    assert bright.mean() > 0.3
    assert np.array_equal(labels[bright], example.superpixels[bright] % 11)


def test_what_nobody_reads_or_nobody_supplies_is_refused(experiment, camvid, tmp_path):
    unread = dataclasses.replace(experiment, model=Tiny)
    with pytest.raises(InputError, match=r"data.superpixels is 9, but Tiny\s+reads none"):
        train(unread, tmp_path / "run")
    folder = str(camvid)  # of the files, which have no superpixels
    without = dataclasses.replace(experiment.data, superpixels=None, dir=folder)
    with pytest.raises(InputError, match=r"superpixels are needed, but data\.superpixels is none"):
        train(dataclasses.replace(experiment, data=without), tmp_path / "run")
    assert not (tmp_path / "run").exists()
