"""FCN-R50 with SDN on Cityscapes: two rows of the SDN paper's Table 1.

    python convert.py from-torch configs/cityscapes_fcn_r50_sdn.py resnet50_v1c.pth \
        --table torchvision_resnet --reinitialise decoder,classifier,neck,auxiliary
    python train.py configs/cityscapes_fcn_r50_sdn.py --data.dir FOLDER --resume
    python eval.py runs/cityscapes_fcn_r50_sdn --protocol cityscapes_slide769_ms_sdn

FOLDER holds leftImg8bit and gtFine, as they are or prepared. Paper, mIoU single- / multi-scale on
the 500 validation images: 74.75 / 75.79; the baseline, `--model.neck.operator none`, 72.64 / 73.32,
which is mmsegmentation's at 80k steps. The first command starts from ImageNet weights, as the
paper does.

Recipe: mmsegmentation's for 769×769: images of 2049×1025 scaled by 0.5 to 2, align_corners, sliding
windows 769/513; 80k steps of 8 images; SGD with momentum 0.9 and weight decay 5e-4 on everything,
0.01 → 1e-4, poly power 0.9; batch norm over the global batch. The neck is the literal one (no
reduction, Φ 2048 → 2048), 83.9 M parameters of its own. Computed in bfloat16 with float32
parameters, statistics and loss (`--model.dtype float32` for all of it). Not run to the end by us.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import protocol
from sdnjax.models import Model, Neck
from sdnjax.training.optimizer import Optimizer


def config() -> Experiment:
    return Experiment(
        name="cityscapes_fcn_r50_sdn",
        model=Model(
            name="fcn_r50-d8", dtype="bfloat16", neck=Neck(operator="sdc"), align_corners=True
        ),
        data=Data(name="cityscapes", crop_size=(769, 769), base_size=(2049, 1025)),
        optimizer=Optimizer(kind="sgd", learning_rate=0.01, end_learning_rate=1e-4, power=0.9),
        evaluation=protocol("cityscapes_slide769"),
        steps=80_000,
        batch_size=8,
        evaluate_every=8_000,
        checkpoint_every=2_000,
    )
