"""DeepLabV2 R101, on mmseg's ResNet, on VOC 2012 (augmented), by DifNet's schedule.

    python convert.py from-torch configs/voc2012_aug_deeplabv2_r101.py resnet101.pth \
        --table torchvision_resnet --reinitialise classifier --model.stem v1
    python train.py configs/voc2012_aug_deeplabv2_r101.py --data.dir FOLDER --resume
    python eval.py runs/voc2012_aug_deeplabv2_r101

FOLDER holds VOC2012 with the augmented labels, as they are or prepared. This is not the
"Sim-Deeplab" of DifNet's Table 1 (Jiang et al., NeurIPS 2018), whose ResNet has other strides and
dilations and whose classifier has another start: that is `voc2012_aug_sim_deeplab_r101.py`. There
is no published number for this file.

Recipe: crops of 321×321, scale 0.5 to 1.4, mirror, no other distortion; 200 epochs of 10,582 images
in batches of 16; SGD with momentum 0.9 and weight decay 5e-4; DifNet's rate, 2.5e-3 on every
parameter, poly 0.9; values 0-255 less a mean. Pictures are padded with the mean and labels with
void, mmsegmentation's way, where DifNet's own recipe (`data.recipe difnet`) has black and
background. Not run to the end by us.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import protocol
from sdnjax.models import Model
from sdnjax.training.optimizer import Optimizer


def config() -> Experiment:
    return Experiment(
        name="voc2012_aug_deeplabv2_r101",
        model=Model(name="deeplabv2_r101-d8", stem="v1"),
        data=Data(
            name="voc2012_aug",
            crop_size=(321, 321),
            scale_range=(0.5, 1.4),
            max_class_share=1.0,
            photometric=False,
            mean=(122.67891, 116.66877, 104.00699),
            std=(1.0, 1.0, 1.0),
        ),
        optimizer=Optimizer(kind="sgd", learning_rate=2.5e-3, end_learning_rate=0.0, power=0.9),
        evaluation=protocol("voc2012"),
        steps=200 * 10_582 // 16,
        batch_size=16,
        evaluate_every=13_227,
        checkpoint_every=2_000,
    )
