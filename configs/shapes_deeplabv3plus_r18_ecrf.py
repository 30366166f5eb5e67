"""DeepLabV3+ R18 with E-CRF on `shapes`, some minutes on two CPU cores.

    python -m sdnjax.data.prepare shapes --data-dir PREPARED --superpixels 40
    python train.py configs/shapes_deeplabv3plus_r18_ecrf.py --data.dir PREPARED

A demonstration, not a result of the paper.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import Evaluation
from sdnjax.models import ECRF, Model
from sdnjax.training.optimizer import Optimizer


def config() -> Experiment:
    return Experiment(
        name="shapes_deeplabv3plus_r18_ecrf",
        model=Model(name="deeplabv3plus_r18-d8", context=ECRF(segments=40)),
        data=Data(
            name="shapes",
            crop_size=(64, 64),
            # Textures tell the classes apart by colour and frequency: leave both nearly alone.
            scale_range=(0.8, 1.25),
            photometric=False,
            superpixels=40,
        ),
        optimizer=Optimizer(kind="sgd", learning_rate=0.02),
        evaluation=Evaluation(batch_size=8),
        steps=200,
        batch_size=8,
        checkpoint_every=100,
    )
