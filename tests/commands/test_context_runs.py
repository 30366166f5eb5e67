"""Networks with a context, from a configuration: train, resume, evaluate, predict, devices."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from sdnjax.commands.evaluate import evaluate_run
from sdnjax.commands.predict import predict_pictures
from sdnjax.commands.train import train
from sdnjax.config_file import load_config
from sdnjax.data import Data
from sdnjax.data.preparing.prepare import prepare
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import Evaluation
from sdnjax.models import ECRF, JointCRF, Neck
from tests.training.devices import histories

pytest.importorskip("skimage")
pytestmark = pytest.mark.slow


def silent(line):
    pass


@pytest.fixture
def experiment(request, camvid, tmp_path):
    prepare("camvid", tmp_path, camvid, superpixels=9, partial=True, progress=False)
    shapes = load_config(
        request.config.rootpath / "configs" / "shapes_deeplabv3plus_r18_ecrf.py", Experiment
    )
    data = Data("camvid", dir=str(tmp_path), crop_size=(33, 40), superpixels=9, workers=2)
    neck = Neck(operator="sdc", reduction=8, guidance_channels=16)
    model = dataclasses.replace(shapes.model, context=ECRF(segments=9), neck=neck)
    return dataclasses.replace(
        shapes, model=model, data=data, steps=4, checkpoint_every=2, tensorboard=False
    )


def test_e_crf_with_sdn_in_one_network(experiment, camvid, tmp_path):
    """Resuming is bitwise; windows, scales and mirrors take the superpixels along."""
    whole = train(experiment, tmp_path / "whole", report=silent)
    # As it lay there when two steps were done.
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts" / "checkpoints" / "4")
    again = train(experiment, tmp_path / "parts", resume=True, report=silent)
    jax.tree.map(np.testing.assert_array_equal, again.variables, whole.variables)

    run = tmp_path / "whole"
    logged = evaluate_run(run, experiment, report=silent)
    for protocol in (
        Evaluation(scales=(0.75, 1.25), flip=True),
        Evaluation(mode="slide", window=(18, 20), stride=(9, 10), flip=True),
    ):
        changed = dataclasses.replace(experiment, evaluation=protocol)
        scores = evaluate_run(run, changed, report=silent)
        assert 0 <= scores["mIoU"] <= 1 and scores.keys() == logged.keys()
    files = predict_pictures(
        run, experiment, [camvid / "val" / "0.png"], tmp_path / "out", report=silent
    )
    assert np.asarray(Image.open(files[0])).shape == (24, 30)


def test_a_crf_that_is_trained_resumes_to_the_same_bits(request, camvid, tmp_path):
    """JointCRF, a refinement of the scores that reads the picture."""
    shapes = load_config(request.config.rootpath / "configs" / "shapes_fcn_r18_sdn.py", Experiment)
    own = dataclasses.replace(
        shapes,
        model=dataclasses.replace(shapes.model, refine=JointCRF()),
        data=Data("camvid", dir=str(camvid), crop_size=(17, 20), workers=2),
        steps=4,
        checkpoint_every=2,
        tensorboard=False,
    )
    whole = train(own, tmp_path / "whole", report=silent)
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts" / "checkpoints" / "4")
    again = train(own, tmp_path / "parts", resume=True, report=silent)
    jax.tree.map(np.testing.assert_array_equal, again.variables, whole.variables)
    scores = evaluate_run(tmp_path / "parts", own, report=silent)
    assert 0 <= scores["mIoU"] <= 1


def test_one_and_eight_devices_agree(experiment, x64):
    """In float64: in float32 roundings alone move the gradient of such a start by 0.3 %."""
    recipe = dataclasses.replace(experiment, batch_size=8).build(11, dtype=jnp.float64)
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.standard_normal((8, 33, 40, 3)),
        "label": rng.integers(0, 11, (8, 33, 40)).astype(np.int32),
        "superpixels": rng.integers(-1, 9, (8, 33, 40)).astype(np.int32),
    }
    one, eight = (seen[-1] for seen in histories(recipe, [batch] * 2))
    assert one == pytest.approx(eight, rel=1e-9)
    assert {"loss", "loss_auxiliary", "gradient_norm"} <= one.keys()
