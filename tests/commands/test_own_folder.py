"""A user's own folder through train.py, eval.py, predict.py and convert.py."""

import json

import pytest
from PIL import Image

from sdnjax.models.model_settings import Model
from tests.data.miniatures import make_own
from tests.training.tiny import Tiny


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch):
    monkeypatch.setattr(Model, "build", lambda self, num_classes, dtype=None: Tiny(num_classes))


def refused(result, *parts):
    status, _, err = result
    assert status == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    for part in parts:
        assert str(part) in err, err


def test_from_a_folder_to_a_prediction(call, request, tmp_path):
    config = request.config.rootpath / "configs" / "own_folder.py"
    folder = make_own(tmp_path / "mine", counts=(("train", 4), ("val", 2)), size=(24, 32))
    workdir = tmp_path / "run"
    short = ("--steps=2", "--batch_size=8", "--data.crop_size=16,16", "--tensorboard=false")
    words = (config, "--data.dir", folder, "--workdir", workdir, *short)
    refused(call("train.py", *(words[:1] + words[3:])), "folder needs --data.dir")
    status, out, err = call("train.py", *words)
    assert (status, err) == (0, "")
    assert "4 images to train, 2 to validate" in out

    status, out, err = call("eval.py", workdir)
    assert (status, err) == (0, "")
    found = json.loads((workdir / "evaluation" / "val_2_whole.json").read_text())
    assert found["classes"] == ["soil", "leaf", "stem"]
    assert all(name in out for name in found["classes"])
    status, _, err = call("predict.py", workdir, folder / "images" / "val" / "000.jpg")
    assert (status, err) == (0, "")
    labels = Image.open(workdir / "predictions" / "000_labels.png")
    labels.load()
    assert labels.getpalette()[:6] == [96, 64, 32, 32, 160, 64]

    status, out, err = call("convert.py", "inspect", config, "--data.dir", folder, "--size=32,32")
    assert (status, err) == (0, ""), err
    refused(call("convert.py", "inspect", config), "folder needs --data.dir")

    # Other classes than those of the network are noticed before anything is computed.
    classes = folder / "classes.csv"
    text = classes.read_text()
    lines = text.splitlines()
    classes.write_text("\n".join([lines[0], *lines[:0:-1]]))
    refused(call("eval.py", workdir), workdir, "has 'soil' as class 0, the data set has 'stem'")
    refused(call("train.py", *words, "--resume"), "'soil' as class 0, the data set has 'stem'")
    classes.write_text(text + "\nroot,30,#010203")
    refused(call("eval.py", workdir), "trained on 3 classes, the data set has 4")
