"""DeepLabV3+ R50 on Cityscapes as E-CRF is trained: its data, its schedule, its baseline.

    python convert.py from-torch configs/cityscapes_deeplabv3plus_r50.py resnet50_v1c.pth \
        --table torchvision_resnet --reinitialise decoder,classifier,auxiliary
    python train.py configs/cityscapes_deeplabv3plus_r50.py --data.dir FOLDER --resume
    python eval.py runs/cityscapes_deeplabv3plus_r50

FOLDER holds leftImg8bit and gtFine, as they are or prepared. E-CRF (Zhu et al., ICLR 2023), Table
5: mIoU 79.54 for this baseline, 80.35 with E-CRF (`cityscapes_deeplabv3plus_r50_ecrf.py`); with
`--model.name deeplabv3plus_r101-d8` 80.85 and 81.77.

Recipe: crops of 832×832, scale 0.5 to 2, mirror; 180 epochs of 2,975 images in batches of 8; SGD
with momentum 0.9 and weight decay 5e-4, 0.01 poly 0.9. Whole images in evaluation, photometric
distortion and the class rule are choices: the paper names none. Not run to the end by us.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import protocol
from sdnjax.models import Model
from sdnjax.training.optimizer import Optimizer


def config() -> Experiment:
    return Experiment(
        name="cityscapes_deeplabv3plus_r50",
        model=Model(name="deeplabv3plus_r50-d8"),
        data=Data(name="cityscapes", crop_size=(832, 832), base_size=(2048, 1024)),
        optimizer=Optimizer(kind="sgd", learning_rate=0.01, end_learning_rate=0.0, power=0.9),
        evaluation=protocol("cityscapes"),
        steps=180 * 2975 // 8,
        batch_size=8,
        evaluate_every=7_438,
        checkpoint_every=2_000,
    )
