"""DeepLabV2 R101, on mmseg's ResNet, on Pascal Context (60 classes), by DifNet's schedule.

    python train.py configs/pascal_context_60_deeplabv2_r101.py --data.dir FOLDER
    python eval.py runs/pascal_context_60_deeplabv2_r101

FOLDER holds VOC2010 with Pascal Context's labels, as they are or prepared. Recipe, start and how
this network differs from DifNet's "Sim-Deeplab" as in `voc2012_aug_deeplabv2_r101.py`, 200 epochs
of 4,998 images; the rows of DifNet's Table 2 are in `pascal_context_60_difnet_r101.py`. There is no
published number for this file. Not run to the end by us.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import protocol
from sdnjax.models import Model
from sdnjax.training.optimizer import Optimizer


def config() -> Experiment:
    return Experiment(
        name="pascal_context_60_deeplabv2_r101",
        model=Model(name="deeplabv2_r101-d8", stem="v1"),
        data=Data(
            name="pascal_context_60",
            crop_size=(321, 321),
            scale_range=(0.5, 1.4),
            max_class_share=1.0,
            photometric=False,
            mean=(122.67891, 116.66877, 104.00699),
            std=(1.0, 1.0, 1.0),
        ),
        optimizer=Optimizer(kind="sgd", learning_rate=2.5e-3, end_learning_rate=0.0, power=0.9),
        evaluation=protocol("voc2012"),
        steps=200 * 4_998 // 16,
        batch_size=16,
        evaluate_every=6_247,
        checkpoint_every=2_000,
    )
