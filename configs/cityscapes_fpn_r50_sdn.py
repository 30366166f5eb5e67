"""SemanticFPN-R50 with an SDN on each stage on Cityscapes: two rows of the SDN paper's Table 1.

    python convert.py from-torch configs/cityscapes_fpn_r50_sdn.py resnet50_v1c.pth \
        --table torchvision_resnet --reinitialise decoder,classifier,neck
    python train.py configs/cityscapes_fpn_r50_sdn.py --data.dir FOLDER --resume
    python eval.py runs/cityscapes_fpn_r50_sdn --protocol cityscapes_ms_sdn

FOLDER holds leftImg8bit and gtFine, as they are or prepared. Paper, mIoU single- / multi-scale:
75.97 / 77.31; the baseline, `--model.neck.operator none`, 74.10 / 75.98 (mmsegmentation's 80k steps
give 74.52 / 76.08). The first command starts from ImageNet weights, as the paper does.

Recipe: mmsegmentation's for crops of 512×1024 out of 2048×1024 scaled by 0.5 to 2, whole images in
evaluation (a choice: the paper names neither); 80k steps of 8 images; SGD as in
`cityscapes_fcn_r50_sdn.py`. Computed in bfloat16 with float32 parameters, statistics and loss
(`--model.dtype float32` for all of it). Not run to the end by us.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import protocol
from sdnjax.models import Model, Neck
from sdnjax.training.optimizer import Optimizer


def config() -> Experiment:
    return Experiment(
        name="cityscapes_fpn_r50_sdn",
        model=Model(name="fpn_r50", dtype="bfloat16", neck=Neck(operator="sdc")),
        data=Data(name="cityscapes", crop_size=(512, 1024), base_size=(2048, 1024)),
        optimizer=Optimizer(kind="sgd", learning_rate=0.01, end_learning_rate=1e-4, power=0.9),
        evaluation=protocol("cityscapes"),
        steps=80_000,
        batch_size=8,
        evaluate_every=8_000,
        checkpoint_every=2_000,
    )
