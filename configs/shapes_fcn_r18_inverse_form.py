"""FCN-R18 with InverseForm's joint loss on `shapes`, some minutes on two CPU cores.

    python -m sdnjax.commands.inverse_form configs/shapes_fcn_r18_inverse_form.py --hidden 256,32
    python train.py configs/shapes_fcn_r18_inverse_form.py

The first command trains the regressor of edge maps, which the loss reads from runs/. With an SDN
neck: `--model.neck.operator sdc`. A demonstration, not a result of the paper.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import Evaluation
from sdnjax.losses import inverse_form_losses
from sdnjax.models import EdgeHead, Model, Neck
from sdnjax.training.optimizer import Optimizer


def config() -> Experiment:
    return Experiment(
        name="shapes_fcn_r18_inverse_form",
        model=Model(name="fcn_r18-d8", neck=Neck(operator="none"), edge=EdgeHead(hidden=64)),
        # Textures tell the classes apart by colour and frequency: leave both nearly alone.
        data=Data(name="shapes", crop_size=(64, 64), scale_range=(0.8, 1.25), photometric=False),
        losses=inverse_form_losses(
            "runs/shapes_regressor.safetensors", size=(64, 64), tiles=(2, 2), auxiliary=True
        ),
        # The paper's, with a larger rate: there are no pretrained weights to preserve.
        optimizer=Optimizer(kind="sgd", learning_rate=0.05),
        evaluation=Evaluation(batch_size=8),
        steps=160,
        batch_size=8,
        checkpoint_every=80,
    )
