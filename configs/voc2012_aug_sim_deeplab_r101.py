"""Sim-Deeplab-101 on VOC 2012 (augmented), the baseline of DifNet's Table 1.

    python convert.py from-torch configs/voc2012_aug_sim_deeplab_r101.py resnet101.pth \
        --table torchvision_resnet --reinitialise classifier
    python train.py runs/voc2012_aug_sim_deeplab_r101 --data.dir FOLDER --resume
    python eval.py runs/voc2012_aug_sim_deeplab_r101

DifNet's seed branch alone, its ResNet and the sum of four dilated classifiers, trained as DifNet
is; see `voc2012_aug_difnet_r50.py`. mIoU on val (Jiang et al., NeurIPS 2018), in brackets what the
released logs say:

    Sim-Deeplab-18    66.33           --model.name sim-deeplab_r18-d8
    Sim-Deeplab-34    69.76           --model.name sim-deeplab_r34-d8
    Sim-Deeplab-50    70.78 (69.99)   --model.name sim-deeplab_r50-d8
    Sim-Deeplab-101   71.83 (71.00)

71.83 becomes 72.26 with a CRF. Not run to the end by us.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import protocol
from sdnjax.models import Model
from sdnjax.training.optimizer import Optimizer


def config() -> Experiment:
    return Experiment(
        name="voc2012_aug_sim_deeplab_r101",
        model=Model(name="sim-deeplab_r101-d8"),
        data=Data(
            name="voc2012_aug",
            crop_size=(321, 321),
            recipe="difnet",
            mean=(122.67891434, 116.66876762, 104.00698793),
            std=(1.0, 1.0, 1.0),
        ),
        optimizer=Optimizer(kind="sgd", learning_rate=2.5e-3, end_learning_rate=0.0, power=0.9),
        evaluation=protocol("voc2012_difnet"),
        steps=200 * 662,
        batch_size=16,
        evaluate_every=13_240,
        checkpoint_every=2_000,
    )
