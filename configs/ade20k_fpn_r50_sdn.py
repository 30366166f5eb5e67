"""SemanticFPN-R50 with an SDN on each stage on ADE20K: two rows of the SDN paper's Table 1.

    python convert.py from-torch configs/ade20k_fpn_r50_sdn.py resnet50_v1c.pth \
        --table torchvision_resnet --reinitialise decoder,classifier,neck
    python train.py configs/ade20k_fpn_r50_sdn.py --data.dir FOLDER --resume
    python eval.py runs/ade20k_fpn_r50_sdn --protocol ade20k_ms_sdn

FOLDER holds ADEChallengeData2016, as it is or prepared. Paper, mIoU single- / multi-scale:
38.79 / 40.27; the baseline, `--model.neck.operator none`, 37.49 / 39.09, which is
mmsegmentation's at 160k steps. The first command starts from ImageNet weights, as the paper does.

Recipe as in `ade20k_fcn_r50_sdn.py`, without an auxiliary head. Stage i is guided by the raw stage
i + 1, the last by Φ; no parameters are shared. Computed in bfloat16 with float32 parameters,
statistics and loss (`--model.dtype float32` for all of it). Not run to the end by us.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import protocol
from sdnjax.models import Model, Neck
from sdnjax.training.optimizer import Optimizer


def config() -> Experiment:
    return Experiment(
        name="ade20k_fpn_r50_sdn",
        model=Model(name="fpn_r50", dtype="bfloat16", neck=Neck(operator="sdc")),
        data=Data(name="ade20k", crop_size=(512, 512), base_size=(2048, 512)),
        optimizer=Optimizer(kind="sgd", learning_rate=0.01, end_learning_rate=1e-4, power=0.9),
        evaluation=protocol("ade20k"),
        steps=160_000,
        batch_size=16,
        evaluate_every=16_000,
        checkpoint_every=2_000,
    )
