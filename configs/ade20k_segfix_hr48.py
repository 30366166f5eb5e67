"""SegFix on HRNet-W48 on ADE20K (Yuan et al., ECCV 2020).

    python -m sdnjax.data.prepare ade20k_segfix --source FOLDER --data-dir PREPARED
    python convert.py from-torch configs/ade20k_segfix_hr48.py hrnetv2_w48.pth \
        --table hrnet --reinitialise boundary,direction
    python train.py configs/ade20k_segfix_hr48.py --data.dir PREPARED --resume
    python eval.py runs/NAME --segfix runs/ade20k_segfix_hr48

Recipe of the released configuration: 150k steps of 16 images; SGD with momentum 0.9 and weight
decay 1e-4, 0.02 poly 0.9. Crops of 512×512 at their own scale, colours that are distorted and whole
pictures in evaluation are choices. Not run to the end by us.
"""

import dataclasses

from cityscapes_segfix_hr48 import config as on_cityscapes

from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import Evaluation


def config() -> Experiment:
    base = on_cityscapes()
    return dataclasses.replace(
        base,
        name="ade20k_segfix_hr48",
        data=dataclasses.replace(base.data, name="ade20k_segfix"),
        optimizer=dataclasses.replace(base.optimizer, learning_rate=0.02, weight_decay=1e-4),
        evaluation=Evaluation(),
        steps=150_000,
    )
