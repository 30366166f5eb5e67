"""Joint-CRF, a CRF trained with the network: Table 1 of E-CRF's paper (Zhu et al., ICLR 2023).

    python convert.py from-torch configs/ade20k_deeplabv3plus_r50_joint_crf.py resnet50_v1c.pth \
        --table torchvision_resnet --reinitialise decoder,classifier,refine,auxiliary
    python train.py configs/ade20k_deeplabv3plus_r50_joint_crf.py --data.dir FOLDER --resume

Everything but the refinement is `ade20k_deeplabv3plus_r50.py`. The paper's mIoU is 43.69 and its
boundary F 16.32, with `--model.name deeplabv3plus_r101-d8` 45.61 and 18.03; it says of the method
that it is similar to CRF-RNN (Zheng et al., 2015), and the rest is our choice: on the grid of the
scores, five iterations. All pairs of its 128×128 pixels are computed, which wants an accelerator.
Not run to the end by us.
"""

import dataclasses

from ade20k_deeplabv3plus_r50 import config as baseline

from sdnjax.experiment import Experiment
from sdnjax.models import JointCRF


def config() -> Experiment:
    experiment = baseline()
    return dataclasses.replace(
        experiment,
        name="ade20k_deeplabv3plus_r50_joint_crf",
        model=dataclasses.replace(experiment.model, refine=JointCRF()),
    )
