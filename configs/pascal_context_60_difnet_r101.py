"""DifNet-101 on Pascal Context with background as a class (60), as in the paper's Table 2.

    python convert.py from-torch configs/pascal_context_60_difnet_r101.py resnet101.pth \
        --table torchvision_resnet --reinitialise \
        classifier,importance,psi1,psi2,psi3,psi4,psi5,walk1,walk2,walk3,walk4,walk5
    python train.py runs/pascal_context_60_difnet_r101 --data.dir FOLDER --resume
    python eval.py runs/pascal_context_60_difnet_r101

FOLDER holds VOC2010 with Pascal Context's labels, as they are or prepared. DifNet (Jiang et al.,
NeurIPS 2018), mIoU on val:

    Sim-Deeplab-101     43.6   --model.name sim-deeplab_r101-d8
    DifNet-50, no ASPP  44.7   --model.name difnet_r50-d8 --model.difnet.dilations 12
    DifNet-50           45.1   --model.name difnet_r50-d8
    DifNet-101          46.0

The table cites DeepLabV2's paper for its Sim-Deeplab. Recipe as in `voc2012_aug_difnet_r50.py`,
200 epochs of 4,998 images. Not run to the end by us.
"""

import dataclasses

from voc2012_aug_difnet_r50 import config as voc2012

from sdnjax.experiment import Experiment
from sdnjax.models import Model


def config() -> Experiment:
    experiment = voc2012()
    return dataclasses.replace(
        experiment,
        name="pascal_context_60_difnet_r101",
        model=Model(name="difnet_r101-d8"),
        data=dataclasses.replace(experiment.data, name="pascal_context_60"),
        steps=200 * 313,  # 313 batches of 16 hold 4,998 images
        evaluate_every=6_260,
    )
