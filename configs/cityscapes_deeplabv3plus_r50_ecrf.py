"""E-CRF on DeepLabV3+ R50, Cityscapes: Table 5 of the paper (Zhu et al., ICLR 2023).

    python -m sdnjax.data.prepare cityscapes --source FOLDER --data-dir PREPARED --superpixels 600
    python convert.py from-torch configs/cityscapes_deeplabv3plus_r50_ecrf.py resnet50_v1c.pth \
        --table torchvision_resnet --reinitialise decoder,context,classifier,auxiliary
    python train.py configs/cityscapes_deeplabv3plus_r50_ecrf.py --data.dir PREPARED --resume
    python eval.py runs/cityscapes_deeplabv3plus_r50_ecrf

Everything but the context is `cityscapes_deeplabv3plus_r50.py`, the baseline: mIoU 79.54, here
80.35; with `--model.name deeplabv3plus_r101-d8` 80.85 and 81.77. Not run to the end by us.
"""

import dataclasses

from cityscapes_deeplabv3plus_r50 import config as baseline

from sdnjax.experiment import Experiment
from sdnjax.models import ECRF


def config() -> Experiment:
    experiment = baseline()
    return dataclasses.replace(
        experiment,
        name="cityscapes_deeplabv3plus_r50_ecrf",
        model=dataclasses.replace(experiment.model, context=ECRF(segments=600)),
        data=dataclasses.replace(experiment.data, superpixels=600),
    )
