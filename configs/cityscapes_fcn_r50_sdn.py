"""FCN-R50 with SDN on Cityscapes, the recipe of the SDN paper (Table 1).

    python train.py configs/cityscapes_fcn_r50_sdn.py --data.dir FOLDER

Reproduces: FCN R50 72.64 / 73.32 → with SDN 74.75 / 75.79 mIoU (single- / multi-scale) on
Cityscapes val. The baseline is mmseg's: crops of 769×769, align_corners, 80k steps of 8
images, sliding windows 769/513. SGD with momentum 0.9 and weight decay 5e-4 on everything,
learning rate 0.01 → 1e-4, poly power 0.9, batch norm over the global batch.

FOLDER holds leftImg8bit and gtFine, as their archives unpack. Not run yet: this documents the
recipe, and it starts from scratch unless ImageNet weights for the encoder are loaded. The neck
is the literal one (no reduction, Φ 2048 → 2048), 83.9 M parameters of its own.
"""

from sdnjax.data.config import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.config import Evaluation
from sdnjax.models import Model, Neck
from sdnjax.training.config import Optimizer


def config() -> Experiment:
    return Experiment(
        name="cityscapes_fcn_r50_sdn",
        model=Model(name="fcn_r50-d8", neck=Neck(operator="sdc"), align_corners=True),
        data=Data(name="cityscapes", crop_size=(769, 769), scale_range=(0.5, 2.0)),
        optimizer=Optimizer(kind="sgd", learning_rate=0.01, end_learning_rate=1e-4, power=0.9),
        evaluation=Evaluation(mode="slide", window=(769, 769), stride=(513, 513)),
        steps=80_000,
        batch_size=8,
        evaluate_every=8_000,
        checkpoint_every=2_000,
    )
