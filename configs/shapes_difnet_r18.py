"""DifNet-18 on `shapes`, small enough for a CPU: Sim-Deeplab of the same depth beside it.

    python train.py configs/shapes_difnet_r18.py
    python train.py configs/shapes_difnet_r18.py --name shapes_sim_deeplab_r18 \
        --model.name sim-deeplab_r18-d8

The data recipe is DifNet's own, with a larger rate, because there are no ImageNet weights to keep.
It shows that everything works; from scratch so few steps only begin to learn.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import Evaluation
from sdnjax.models import Model
from sdnjax.training.optimizer import Optimizer


def config() -> Experiment:
    return Experiment(
        name="shapes_difnet_r18",
        model=Model(name="difnet_r18-d8"),
        data=Data(
            name="shapes",
            crop_size=(65, 65),
            recipe="difnet",
            mean=(122.67891434, 116.66876762, 104.00698793),
            std=(1.0, 1.0, 1.0),
        ),
        optimizer=Optimizer(kind="sgd", learning_rate=0.01, end_learning_rate=0.0),
        evaluation=Evaluation(batch_size=8),
        steps=160,
        batch_size=8,
        checkpoint_every=80,
    )
