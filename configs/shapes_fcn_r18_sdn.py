"""FCN-R18 with the SDN neck on `shapes`, a few minutes on two CPU cores.

    python train.py configs/shapes_fcn_r18_sdn.py

The data set is generated on first use. `shapes_fcn_r18.py` differs from it in the neck's operator
and the name alone. A demonstration, not a result of the paper.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import Evaluation
from sdnjax.models import Model, Neck
from sdnjax.training.optimizer import Optimizer


def config() -> Experiment:
    return Experiment(
        name="shapes_fcn_r18_sdn",
        model=Model(name="fcn_r18-d8", neck=Neck(operator="sdc", guidance_channels=64)),
        # Textures tell the classes apart by colour and frequency: leave both nearly alone.
        data=Data(name="shapes", crop_size=(64, 64), scale_range=(0.8, 1.25), photometric=False),
        # The paper's, with a larger rate: there are no pretrained weights to preserve.
        optimizer=Optimizer(kind="sgd", learning_rate=0.05),
        evaluation=Evaluation(batch_size=8),
        steps=160,
        batch_size=8,
        checkpoint_every=80,
    )
