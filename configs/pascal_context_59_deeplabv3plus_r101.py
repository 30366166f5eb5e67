"""DeepLabV3+ R101 on Pascal Context (59 classes) as E-CRF is trained.

    python convert.py from-torch configs/pascal_context_59_deeplabv3plus_r101.py \
        resnet101_v1c.pth --table torchvision_resnet --reinitialise decoder,classifier,auxiliary
    python train.py configs/pascal_context_59_deeplabv3plus_r101.py --data.dir FOLDER --resume
    python eval.py runs/pascal_context_59_deeplabv3plus_r101 --protocol pascal_context_ms

FOLDER holds VOC2010 with Pascal Context's labels, as they are or prepared. E-CRF (Zhu et al., ICLR
2023), Table 4: 56.1 mIoU with E-CRF, multi-scale and mirrored
(`pascal_context_59_deeplabv3plus_r101_ecrf.py`).

Recipe: crops of 480×480, scale 0.5 to 2, mirror; 80k steps of 16 images; SGD with momentum 0.9 and
weight decay 5e-4, 0.01 poly 0.9. mmsegmentation's baseline on these data differs: 0.004 and 1e-4.
Not run to the end by us.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import protocol
from sdnjax.models import Model
from sdnjax.training.optimizer import Optimizer


def config() -> Experiment:
    return Experiment(
        name="pascal_context_59_deeplabv3plus_r101",
        model=Model(name="deeplabv3plus_r101-d8"),
        data=Data(name="pascal_context_59", crop_size=(480, 480), base_size=(520, 520)),
        optimizer=Optimizer(kind="sgd", learning_rate=0.01, end_learning_rate=0.0, power=0.9),
        evaluation=protocol("pascal_context"),
        steps=80_000,
        batch_size=16,
        evaluate_every=8_000,
        checkpoint_every=2_000,
    )
