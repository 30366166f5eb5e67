"""OCRNet-HR48 with SDN, its labels moved by SegFix: Table 3(c) of the SDN paper.

    python train.py configs/cityscapes_segfix_hr48.py --data.dir PREPARED
    python train.py configs/cityscapes_ocrnet_hr48_sdn_segfix.py --data.dir FOLDER

The network and its training are `cityscapes_ocrnet_hr48_sdn.py`; a run of that needs no second
one, `python eval.py runs/cityscapes_ocrnet_hr48_sdn --segfix runs/cityscapes_segfix_hr48` says the
same. Not run to the end by us.
"""

import dataclasses

from cityscapes_ocrnet_hr48_sdn import config as plain

from sdnjax.commands.directions import SegFix
from sdnjax.experiment import Experiment


def config() -> Experiment:
    experiment = plain()
    finish = SegFix(run="runs/cityscapes_segfix_hr48")
    return dataclasses.replace(
        experiment,
        name="cityscapes_ocrnet_hr48_sdn_segfix",
        evaluation=dataclasses.replace(experiment.evaluation, finish=finish),
    )
