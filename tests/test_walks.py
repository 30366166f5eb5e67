"""docs/walks.md: the ways through the library are gone, and their functions called in its order."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "walks.md"

# Every call of a function of the library, in order, as (file, name).
RECORD = """
import json, sys, threading
from pathlib import Path
import tensorflow as tf
tf.data.experimental.enable_debug_mode()  # maps run as Python
import sdnjax
root = str(Path(sdnjax.__file__).parent) + "/"
calls = []

def record(frame, event, argument):
    file = frame.f_code.co_filename
    if event == "call" and file.startswith(root):
        calls.append((file[len(root):], frame.f_code.co_name))

def recorded(function):
    threading.setprofile(record)  # checkpoints are written by a thread
    sys.setprofile(record)
    try:
        function()
    finally:
        sys.setprofile(None)
    Path("calls.json").write_text(json.dumps(calls))

def numpy_function(function, *arguments, call=tf.numpy_function):
    def watched(*arrays):
        sys.setprofile(record)  # TensorFlow's threads are none of Python's
        return function(*arrays)

    return call(watched, *arguments)

tf.numpy_function = numpy_function
"""

TRAIN = """
import sys
from sdnjax.scripts.train import main
import sdnjax.commands.train
sys.argv = ["train.py", "small.py"]
recorded(main)
"""

SMALL = """
from flax import linen as nn
from sdnjax.data import Data
from sdnjax.experiment import Experiment


class Small(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x, *, train):
        return {"logits": nn.Conv(self.classes, (3, 3))(x)}


def config():
    data = Data(name="folder", dir=FOLDER, crop_size=(32, 32), workers=1)
    return Experiment(name="small", model=Small, data=data, steps=1, batch_size=8)
"""

PICTURE = """
import jax
from sdnjax.config_file import load_config
from sdnjax.data import train_batches
from sdnjax.models import Model, Neck
from sdnjax.experiment import Experiment
from sdnjax.training.sharding import data_mesh, to_global
data = load_config("small.py", Experiment).data
recipe = Experiment(model=Model("fcn_r18-d8", neck=Neck("sdc")), data=data).build(3)

def go():
    batches = train_batches(data, seed=0, batch_size=8)
    batch = to_global(next(batches), data_mesh(8))
    state = recipe.abstract_state()
    jax.eval_shape(recipe.step, state, batch)

recorded(go)
"""


def walks():
    """Title → the stops of each walk of the page, as (file, function)."""
    found = {}
    for part in PAGE.read_text().split("\n## ")[1:]:
        rows = [line.split("|") for line in part.splitlines() if line.startswith("| `")]
        found[part.splitlines()[0]] = [(r[1].strip(" `"), r[2].strip(" `")) for r in rows]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four pictures with labels, and a small network's configuration."""
    root = tmp_path_factory.mktemp("walks")
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / "data" / kind / split).mkdir(parents=True)
        for i in range(2):
            picture = rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)
            Image.fromarray(picture).save(root / f"data/images/{split}/{i}.jpg")
            labels = rng.integers(0, 3, (40, 50)).astype(np.uint8)
            Image.fromarray(labels).save(root / f"data/labels/{split}/{i}.png")
    (root / "data" / "classes.txt").write_text("a\nb\nc\n")
    (root / "small.py").write_text(SMALL.replace("FOLDER", repr(str(root / "data"))))
    return root


def calls(folder, code):
    command = [sys.executable, "-c", RECORD + code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [tuple(call) for call in json.loads((folder / "calls.json").read_text())]


def check(stops, called):
    """Every stop is called, each after the one before it."""
    assert len(stops) > 3
    at = 0
    for stop in stops:
        assert stop in called[at:], f"{stop} is not called there"
        at = called.index(stop, at) + 1


def test_an_experiment_and_a_picture_to_its_class_map(folder):
    _, experiment, to_classes = walks().values()
    called = calls(folder, TRAIN)
    check(experiment, called)
    check(to_classes, called)


def test_a_picture_from_the_disk_to_the_loss(folder):
    picture, *_ = walks().values()
    check(picture, calls(folder, PICTURE))


def test_they_are_short():
    """The sliding window is understood from three files."""
    picture, experiment, to_classes = ({file for file, _ in stops} for stops in walks().values())
    assert len(to_classes) == 3
    assert len(picture) <= 19
    assert len(experiment) <= 21
