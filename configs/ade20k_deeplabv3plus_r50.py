"""DeepLabV3+ R50 on ADE20K as E-CRF is trained: its data, its schedule, its baseline.

    python convert.py from-torch configs/ade20k_deeplabv3plus_r50.py resnet50_v1c.pth \
        --table torchvision_resnet --reinitialise decoder,classifier,auxiliary
    python train.py configs/ade20k_deeplabv3plus_r50.py --data.dir FOLDER --resume
    python eval.py runs/ade20k_deeplabv3plus_r50

FOLDER holds ADEChallengeData2016, as it is or prepared. E-CRF (Zhu et al., ICLR 2023), Table 1:
mIoU 42.72 and boundary F 14.25 for this baseline (mmsegmentation's at 80k steps), 44.20 and 16.45
with E-CRF (`ade20k_deeplabv3plus_r50_ecrf.py`); with `--model.name deeplabv3plus_r101-d8` 44.60 and
16.15, 46.02 and 18.32.

Recipe: crops of 512×512, scale 0.5 to 2, mirror; 80k steps of 16 images; SGD with momentum 0.9 and
weight decay 5e-4, 0.01 poly 0.9. Photometric distortion and the class rule are mmsegmentation's,
whose baseline it is; the paper names neither. Not run to the end by us.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import protocol
from sdnjax.models import Model
from sdnjax.training.optimizer import Optimizer


def config() -> Experiment:
    return Experiment(
        name="ade20k_deeplabv3plus_r50",
        model=Model(name="deeplabv3plus_r50-d8"),
        data=Data(name="ade20k", crop_size=(512, 512), base_size=(2048, 512)),
        optimizer=Optimizer(kind="sgd", learning_rate=0.01, end_learning_rate=0.0, power=0.9),
        evaluation=protocol("ade20k"),
        steps=80_000,
        batch_size=16,
        evaluate_every=8_000,
        checkpoint_every=2_000,
    )
