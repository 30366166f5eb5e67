"""A run whose examples are augmented inside the step, on virtual devices."""

import numpy as np
import pytest

from sdnjax.commands.train import train
from sdnjax.data.data_settings import Data
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.training.metrics_log import read_metrics
from tests.data.conftest import make_camvid
from tests.training.test_checkpoints import assert_same
from tests.training.tiny import Tiny


@pytest.fixture(scope="module")
def camvid(tmp_path_factory):
    return make_camvid(tmp_path_factory.mktemp("data") / "camvid", taller=0)


def experiment(camvid, **changes):
    data = Data(name="camvid", dir=str(camvid), crop_size=(24, 32), augment_on="device", workers=2)
    return Experiment(
        **{"model": Tiny, "data": data, "steps": 4, "log_every": 1, "tensorboard": False, **changes}
    )


def run(experiment, workdir, **options):
    return train(experiment, workdir, report=print, **options)


def test_stopped_and_resumed_is_the_unbroken_run(camvid, tmp_path, capsys):
    whole = run(experiment(camvid), tmp_path / "whole")
    assert "waiting for data" in capsys.readouterr().out
    logged = read_metrics(tmp_path / "whole")
    assert all(np.isfinite(x["train"]["loss"]) for x in logged if "train" in x)
    spent = logged[0]["train"]["data_seconds"]
    assert set(spent) == {"reading", "decoding", "augmentation", "transfer"}
    assert spent["augmentation"] == 0

    class Stop(Exception):
        pass

    def stop(line):
        if line.startswith("step 2/"):
            raise Stop

    with pytest.raises(Stop):
        settings = experiment(camvid, checkpoint_every=1)
        train(settings, tmp_path / "parts", report=stop)
    assert_same(run(experiment(camvid), tmp_path / "parts", resume=True), whole)


def test_another_size_is_one_line(tmp_path):
    mixed = make_camvid(tmp_path / "camvid")
    with pytest.raises(InputError, match=r"train_00\d\.png is 48×\d+, .*augment_on=host") as error:
        run(experiment(mixed), tmp_path / "run")
    assert "\n" not in str(error.value)
