"""FCN-R50 with SDN on ADE20K: two rows of the SDN paper's Table 1.

    python convert.py from-torch configs/ade20k_fcn_r50_sdn.py resnet50_v1c.pth \
        --table torchvision_resnet --reinitialise decoder,classifier,neck,auxiliary
    python train.py configs/ade20k_fcn_r50_sdn.py --data.dir FOLDER --resume
    python eval.py runs/ade20k_fcn_r50_sdn --protocol ade20k_ms_sdn

FOLDER holds ADEChallengeData2016, as it is or prepared. Paper, mIoU single- / multi-scale on the
2,000 validation images: 38.12 / 39.36; the baseline, `--model.neck.operator none`, 36.10 / 38.08,
which is mmsegmentation's at 160k steps. The first command starts from ImageNet weights, as the
paper does; without it training starts from random ones and --resume is left out.

Recipe: crops of 512×512 out of images fitted into 2048×512 and scaled by 0.5 to 2; 160k steps of 16
images; SGD with momentum 0.9 and weight decay 5e-4 on everything, 0.01 → 1e-4, poly power 0.9;
batch norm over the global batch; cross-entropy plus 0.4 of the auxiliary head's. The neck is the
literal one (no reduction, Φ 2048 → 2048), 83.9 M parameters of its own. Computed in bfloat16 with
float32 parameters, statistics and loss (`--model.dtype float32` for all of it). Not run to the
end by us.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import protocol
from sdnjax.models import Model, Neck
from sdnjax.training.optimizer import Optimizer


def config() -> Experiment:
    return Experiment(
        name="ade20k_fcn_r50_sdn",
        model=Model(name="fcn_r50-d8", dtype="bfloat16", neck=Neck(operator="sdc")),
        data=Data(name="ade20k", crop_size=(512, 512), base_size=(2048, 512)),
        optimizer=Optimizer(kind="sgd", learning_rate=0.01, end_learning_rate=1e-4, power=0.9),
        evaluation=protocol("ade20k"),
        steps=160_000,
        batch_size=16,
        evaluate_every=16_000,
        checkpoint_every=2_000,
    )
