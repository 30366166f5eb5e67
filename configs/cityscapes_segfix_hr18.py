"""SegFix on HRNet-W18 on Cityscapes: `cityscapes_segfix_hr48.py` with a smaller network.

    python train.py configs/cityscapes_segfix_hr18.py --data.dir PREPARED

Not run to the end by us.
"""

import dataclasses

from cityscapes_segfix_hr48 import config as larger

from sdnjax.experiment import Experiment
from sdnjax.models import Model


def config() -> Experiment:
    return dataclasses.replace(
        larger(), name="cityscapes_segfix_hr18", model=Model(name="segfix_hr18")
    )
