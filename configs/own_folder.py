"""FCN-R18 with the SDN neck on a data set of your own, from scratch.

    python train.py configs/own_folder.py --data.dir FOLDER --name mine

FOLDER holds images/train, images/val, labels/train, labels/val (PNG, of the same names) and
classes.csv, which lists class, value and color; docs/data.md goes through it step by step, and
through other layouts, --data.val_share 0.2 for pictures that are not divided, and imports.
For a short look on a CPU:

    python train.py configs/own_folder.py --data.dir FOLDER --name mine --steps 300 \
        --batch_size 4 --data.crop_size 128,128

A place to start from, no result: choose the crop as large as memory allows, and as many steps
as make some dozens of passes over the images (steps × batch_size / images).
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.models import Model, Neck
from sdnjax.training.optimizer import Optimizer


def config() -> Experiment:
    return Experiment(
        name="own_folder",
        model=Model(name="fcn_r18-d8", neck=Neck(operator="sdc", guidance_channels=64)),
        data=Data(name="folder", crop_size=(256, 256), scale_range=(0.5, 2.0)),
        # The paper's, with a larger rate: there are no pretrained weights to preserve.
        optimizer=Optimizer(kind="sgd", learning_rate=0.05),
        steps=4000,
        batch_size=8,
        evaluate_every=500,
    )
