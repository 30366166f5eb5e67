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

import dataclasses

from voc2012_aug_difnet_r50 import config as difnet

from sdnjax.experiment import Experiment
from sdnjax.models import Model


def config() -> Experiment:
    return dataclasses.replace(
        difnet(), name="voc2012_aug_sim_deeplab_r101", model=Model(name="sim-deeplab_r101-d8")
    )
