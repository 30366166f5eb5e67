"""E-CRF on DeepLabV3+ R101, Pascal Context: Table 4 of the paper (Zhu et al., ICLR 2023).

    python -m sdnjax.data.prepare pascal_context_59 --source FOLDER --data-dir PREPARED \
        --superpixels 200
    python convert.py from-torch configs/pascal_context_59_deeplabv3plus_r101_ecrf.py \
        resnet101_v1c.pth --table torchvision_resnet \
        --reinitialise decoder,context,classifier,auxiliary
    python train.py configs/pascal_context_59_deeplabv3plus_r101_ecrf.py --data.dir PREPARED \
        --resume
    python eval.py runs/pascal_context_59_deeplabv3plus_r101_ecrf --protocol pascal_context_ms

Everything but the context is `pascal_context_59_deeplabv3plus_r101.py`. The paper's mIoU, at
several scales and mirrored, is 56.1. Not run to the end by us.
"""

import dataclasses

from pascal_context_59_deeplabv3plus_r101 import config as baseline

from sdnjax.experiment import Experiment
from sdnjax.models import ECRF


def config() -> Experiment:
    experiment = baseline()
    return dataclasses.replace(
        experiment,
        name="pascal_context_59_deeplabv3plus_r101_ecrf",
        model=dataclasses.replace(experiment.model, context=ECRF(segments=200)),
        data=dataclasses.replace(experiment.data, superpixels=200),
    )
