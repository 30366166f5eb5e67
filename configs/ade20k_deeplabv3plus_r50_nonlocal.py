"""A non-local block in the place of E-CRF: Table 2 of E-CRF's paper (Zhu et al., ICLR 2023).

    python convert.py from-torch configs/ade20k_deeplabv3plus_r50_nonlocal.py resnet50_v1c.pth \
        --table torchvision_resnet --reinitialise decoder,context,classifier,auxiliary
    python train.py configs/ade20k_deeplabv3plus_r50_nonlocal.py --data.dir FOLDER --resume

Everything but the context is `ade20k_deeplabv3plus_r50.py`. The paper's mIoU is 43.52, with
`--model.name deeplabv3plus_r101-d8` 45.34; it does not say which form of the block it is. Not run
to the end by us.
"""

import dataclasses

from ade20k_deeplabv3plus_r50 import config as baseline

from sdnjax.experiment import Experiment
from sdnjax.models import NonLocal


def config() -> Experiment:
    experiment = baseline()
    return dataclasses.replace(
        experiment,
        name="ade20k_deeplabv3plus_r50_nonlocal",
        model=dataclasses.replace(experiment.model, context=NonLocal()),
    )
