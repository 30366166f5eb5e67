"""DifNet from its small configuration to scores, predictions, and the start of another run."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

from sdnjax.commands.evaluate import evaluate_run
from sdnjax.commands.initial import first_state
from sdnjax.commands.predict import predict_pictures
from sdnjax.commands.train import train
from sdnjax.commands.workdir import load_experiment
from sdnjax.config_file import load_config
from sdnjax.data.sources import label_space_of
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import Evaluation
from sdnjax.models import DifNetOptions, Model
from sdnjax.training.metrics_log import read_metrics
from sdnjax.training.sharding import data_mesh

pytestmark = pytest.mark.slow
STEPS = 4


def silent(line):
    pass


def small(configs, name="difnet_r18-d8", **changes):
    own = load_config(configs / "shapes_difnet_r18.py", Experiment)
    data = dataclasses.replace(own.data, crop_size=(33, 41), workers=2)
    changes = {"steps": STEPS, "checkpoint_every": 2, "tensorboard": False, **changes}
    model = dataclasses.replace(own.model, name=name)
    return dataclasses.replace(own, data=data, model=model, log_every=1, **changes)


@pytest.fixture(scope="module")
def configs(request):
    return request.config.rootpath / "configs"


@pytest.fixture(scope="module")
def trained(configs, tmp_path_factory):
    """A work directory and the state at its end."""
    run = tmp_path_factory.mktemp("difnet") / "run"
    return run, train(small(configs), run, report=silent)


def test_stopped_and_resumed_is_the_unbroken_run(trained, configs, tmp_path):
    class Stop(Exception):
        pass

    def stop(line):
        if line.startswith("step 3/"):
            raise Stop

    with pytest.raises(Stop):
        train(small(configs), tmp_path / "parts", report=stop)
    resumed = train(small(configs), tmp_path / "parts", resume=True, report=silent)
    for a, b in zip(jax.tree.leaves(resumed), jax.tree.leaves(trained[1]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_training_moves_the_walks_and_keeps_the_first_ones_equal(trained):
    run, state = trained
    first, last = state.params["walk1"], state.params["walk5"]
    assert float(first["alpha"]) == pytest.approx(float(first["beta"]), rel=1e-4)
    assert float(first["alpha"]) != 0
    assert float(last["alpha"]) != pytest.approx(float(last["beta"]), rel=1e-2)
    losses = [x["train"]["loss"] for x in read_metrics(run) if "train" in x]
    assert len(losses) == STEPS and np.isfinite(losses).all()


def test_evaluation_whole_sliding_and_on_the_canvas(trained):
    run, _ = trained
    own = load_experiment(run)
    logged = [x["val"] for x in read_metrics(run) if "val" in x][-1]
    assert evaluate_run(run, own, report=silent) == logged
    protocols = {
        "slide": Evaluation(
            mode="slide",
            window=(65, 65),
            stride=(40, 40),
            scales=(0.75, 1.25),
            flip=True,
            batch_size=8,
        ),
        "canvas": Evaluation(canvas=(129, 129), batch_size=8),
    }
    scores = {"whole": logged["mIoU"]}
    for name, protocol in protocols.items():
        other = dataclasses.replace(own, evaluation=protocol)
        scores[name] = evaluate_run(run, other, report=silent)["mIoU"]
    assert len(set(scores.values())) == 3
    assert all(0 <= x <= 1 for x in scores.values())


def test_a_prediction_and_a_picture_that_the_canvas_does_not_hold(trained, tmp_path):
    run, _ = trained
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "street.png")
    own = dataclasses.replace(load_experiment(run), evaluation=Evaluation(canvas=(80, 80)))
    files = predict_pictures(run, own, [tmp_path / "street.png"], tmp_path / "out", report=silent)
    assert np.asarray(Image.open(files[0])).shape == (50, 70)
    less = dataclasses.replace(own, evaluation=Evaluation(canvas=(60, 60)))
    with pytest.raises(InputError, match=r"street.*70×50 pixels are more than"):
        predict_pictures(run, less, [tmp_path / "street.png"], tmp_path / "no", report=silent)


def test_the_run_is_written_down_and_starts_others(trained, configs):
    run, state = trained
    record = json.loads((run / "config.json").read_text())
    assert record["model"]["difnet"]["walks"] == [0, 1, 2, 3, 4]
    assert record["data"]["recipe"] == "difnet"
    classes = label_space_of(small(configs).data).classes

    def first(model):
        own = dataclasses.replace(small(configs, init_from=str(run)), model=model)
        return first_state(own, own.build(len(classes)), classes, data_mesh(8), silent)

    start = first(Model(name="difnet_r18-d8"))
    for a, b in zip(jax.tree.leaves(start.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_array_equal(a, b)
    released = Model(name="difnet_r18-d8", difnet=DifNetOptions(preprocessing="released"))
    with pytest.raises(InputError, match=r"difnet\.preprocessing rgb, here it is released"):
        first(released)


def test_sim_deeplab_trains_from_the_same_configuration(configs, tmp_path):
    train(small(configs, "sim-deeplab_r18-d8", steps=2), tmp_path / "run", report=silent)
    assert "val" in read_metrics(tmp_path / "run")[-1]
