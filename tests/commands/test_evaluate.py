"""What eval.py asks of the data set, and what it leaves behind for others to say."""

import jax
import numpy as np
import pytest

import sdnjax.commands.evaluate as module
from sdnjax.commands.evaluate import score_split
from sdnjax.data.data_settings import Data
from sdnjax.data.sources import label_space_of
from sdnjax.experiment import Experiment
from sdnjax.inference.predictor import Predictor
from tests.inference.fake import NORMALIZATION, Fake


def score(experiment, report=print, **how):
    predictor = Predictor(Fake(11), experiment.evaluation, NORMALIZATION)
    how = {"space": label_space_of(experiment.data), "split": "val", "report": report, **how}
    return score_split(predictor, {}, experiment, **how)


def test_each_process_asks_for_its_own_images(camvid, monkeypatch):
    class Asked(Exception):
        pass

    def ask(data, split, **how):
        raise Asked(split, how)

    monkeypatch.setattr(module, "evaluation_examples", ask)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(Asked) as asked:
        score(Experiment(data=Data(name="camvid", dir=str(camvid))), split="test")
    split, how = asked.value.args
    assert split == "test"
    assert how == {"process_index": 1, "process_count": 2, "extras": ()}


def test_images_left_out_are_in_the_results(camvid):
    bad = camvid / "val" / "1.png"
    bad.write_bytes(bad.read_bytes()[:100])
    lines = []
    data = Data(name="camvid", dir=str(camvid), on_bad_image="skip")
    metrics, results = score(Experiment(data=data), lines.append)
    assert (results["images"], results["skipped_images"], len(lines)) == (2, 1, 3)
    assert np.sum(metrics["MeanIoU"].confusion) > 0
