"""Networks with values that nobody trained, for what is done with trained ones."""

import dataclasses

import jax
import numpy as np
from PIL import Image

from sdnjax.commands.trained import Trained
from sdnjax.config_file import load_config
from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import Evaluation
from sdnjax.models import Model

CLASSES = ("road", "tree", "sky")
PALETTE = ((128, 64, 128), (0, 128, 0), (70, 130, 180))
CONFIG = """
from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import Evaluation
from tests.training.tiny import Tiny

def network(num_classes):
    return Tiny(num_classes)

def config():
    data = Data(name="camvid", dir="/secret/camvid")
    # Padded, so that pictures of all sizes in these tests need one compilation.
    evaluation = Evaluation(batch_size=4, size_multiple=64)
    return Experiment(name="tiny", model=network, data=data, steps=7, evaluation=evaluation)
"""


def tiny(folder):
    """A network of few parameters, whose configuration lies in `folder`."""
    (folder / "tiny.py").write_text(CONFIG)
    return trained(load_config(folder / "tiny.py", Experiment).resolved())


def named(name, **model):
    """A network that has a name."""
    data, evaluation = Data(name="camvid", dir="/secret/camvid"), Evaluation()
    return trained(
        Experiment(name="named", model=Model(name, **model), data=data, evaluation=evaluation)
    )


def trained(experiment, num_classes=3):
    """A `Trained` of random values, whose labels depend on the picture."""
    recipe = experiment.build(num_classes)
    rng = np.random.default_rng(0)

    def value(path, x):
        if x.ndim > 1:
            scale = np.sqrt(2 / np.prod(x.shape[:-1]))
            return (scale * rng.normal(size=x.shape)).astype(x.dtype)
        return np.full(x.shape, float(path[-1].key in ("scale", "var")), x.dtype)

    variables = jax.tree_util.tree_map_with_path(value, recipe.abstract_state().variables)
    return Trained(experiment, recipe.network, variables, CLASSES, PALETTE, 7)


def seen(network, **evaluation):
    """The same network with other settings of `evaluation`."""
    own = dataclasses.replace(network.experiment.evaluation, **evaluation)
    return dataclasses.replace(
        network, experiment=dataclasses.replace(network.experiment, evaluation=own)
    )


def picture(size=(40, 56), seed=0):
    """uint8 `[H, W, 3]`, smooth enough to have regions."""
    noise = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize(size[::-1]))
