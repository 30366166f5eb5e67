"""Every loss trains `shapes` from a configuration, on one and eight devices.

A loss sees scores, whatever made them: all of them train a network of one convolution, and some
of them FCN with SDN.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from sdnjax.commands.evaluate import evaluate_run
from sdnjax.commands.train import train
from sdnjax.config_file import load_config
from sdnjax.data import Data
from sdnjax.data.pipeline.batches import train_batches
from sdnjax.experiment import Experiment
from sdnjax.losses import (
    ActiveBoundary,
    BoundaryWeighted,
    CrossEntropy,
    Dice,
    Focal,
    Lovasz,
    Ohem,
    Tversky,
    inverse_log,
)
from sdnjax.models import Model
from sdnjax.training.metrics_log import read_metrics
from tests.data.miniatures import make_own
from tests.training.devices import histories

SHARES = (0.55, 0.15, 0.1, 0.1, 0.06, 0.04)
LOSSES = {
    "class weights, smoothing": CrossEntropy(
        class_weights=inverse_log(SHARES), label_smoothing=0.1
    ),
    "ohem": Ohem(kept=300),
    "ohem over the batch": Ohem(kept=300, over="batch"),
    "focal": Focal(),
    "dice": Dice(),
    "tversky": Tversky(),
    "lovasz": Lovasz(),
    "lovasz over the batch": Lovasz(over="batch"),
    "boundary weighted": BoundaryWeighted(),
    "active boundary": ActiveBoundary(),
    "active boundary as released": ActiveBoundary(budget="batch"),
}


class Tiny(nn.Module):
    """One convolution, in the type of its images."""

    classes: int

    @nn.compact
    def __call__(self, x, *, train):
        return {"logits": nn.Conv(self.classes, (3, 3))(x)}


@pytest.fixture(scope="module")
def batches(request):
    experiment = config(request.config.rootpath, "tiny")
    with train_batches(experiment.data, seed=0, batch_size=8, stop_step=3) as found:
        return [{k: np.asarray(v) for k, v in batch.items()} for batch in found]


def config(root, network):
    """`shapes` and its recipe with a network of the configurations, or with the tiny one."""
    found = load_config(root / "configs" / "shapes_fcn_r18_sdn.py", Experiment)
    found = dataclasses.replace(found, data=dataclasses.replace(found.data, crop_size=(33, 41)))
    return found if network == "sdn" else dataclasses.replace(found, model=Tiny)


# Of the kinds: a mean over pixels, and one that ranks the pixels of all devices.
CASES = [
    *((loss, "tiny") for loss in LOSSES),
    *((loss, "sdn") for loss in ("class weights, smoothing", "lovasz over the batch")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "network"), CASES)
def test_one_and_eight_devices_agree(loss, network, request, batches, x64):
    """In float64, where an order of summation moves a loss by 1e-12 and not by 1e-3."""
    losses = (LOSSES[loss],)
    if loss.startswith("active"):  # the distances of boundaries alone teach no classes
        losses = (CrossEntropy(), *losses)
    experiment = dataclasses.replace(config(request.config.rootpath, network), losses=losses)
    recipe = experiment.build(6, **({"dtype": jnp.float64} if network == "sdn" else {}))
    for one, eight in zip(*histories(recipe, batches), strict=True):
        assert one == pytest.approx(eight, rel=1e-8)
        assert np.isfinite(list(one.values())).all() and one["gradient_norm"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "network"), [*CASES, ("active boundary", "sdn")])
def test_from_the_command_to_the_log(loss, network, request, tmp_path):
    experiment = dataclasses.replace(
        config(request.config.rootpath, network),
        losses=(CrossEntropy(weight=0.5), LOSSES[loss]),
        steps=4,
        log_every=1,
        checkpoint_every=4,
        tensorboard=False,
    )
    train(experiment, tmp_path / "run", report=lambda line: None)
    rows = [x["train"] for x in read_metrics(tmp_path / "run") if "train" in x]
    assert len(rows) == 4
    for row in rows:
        terms = {k: v for k, v in row.items() if k.startswith("loss_")}
        (own,) = (v for k, v in terms.items() if k != "loss_decoder")
        assert row["loss"] == pytest.approx(0.5 * terms["loss_decoder"] + own, rel=1e-5)


@pytest.mark.slow
def test_one_logit_from_training_to_evaluation(tmp_path):
    """Two classes of one's own, `model.binary`: trained, evaluated, and by another threshold."""
    folder = make_own(tmp_path / "mine", counts=(("train", 4), ("val", 2)), size=(24, 32))
    classes = folder / "classes.csv"
    classes.write_text(classes.read_text().replace("stem", "leaf"))
    experiment = Experiment(
        model=Model("fcn_r18-d8", binary=True),
        data=Data("folder", dir=str(folder), crop_size=(33, 33), photometric=False, workers=1),
        losses=(CrossEntropy(), Dice(of_classes=(1,)), CrossEntropy(weight=0.4, on="auxiliary")),
        steps=2,
        batch_size=8,
        tensorboard=False,
    )
    trained = train(experiment, tmp_path / "run", report=lambda line: None)
    kernel = trained.variables["params"]["classifier"]["seg"]["kernel"]
    assert kernel.shape[-1] == 1
    scores = {}
    for finish in (None, "threshold"):
        changed = dataclasses.replace(experiment.evaluation, finish=finish)
        own = dataclasses.replace(experiment, evaluation=changed)
        scores[finish] = evaluate_run(tmp_path / "run", own, report=lambda line: None)
    assert scores[None].keys() == scores["threshold"].keys()
