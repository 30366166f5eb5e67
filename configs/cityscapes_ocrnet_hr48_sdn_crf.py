"""SDN with DenseCRF after it on Cityscapes: Table 3(c) of the SDN paper.

    python train.py configs/cityscapes_ocrnet_hr48_sdn_crf.py --data.dir FOLDER --resume
    python eval.py runs/cityscapes_ocrnet_hr48_sdn_crf

The network is that of `cityscapes_ocrnet_hr48_sdn.py`, whose weights serve as well: `python eval.py
runs/cityscapes_ocrnet_hr48_sdn --evaluation.finish dense_crf`. Paper, boundary F at 1 px on the 500
validation images: 69.5 → 69.7; the CRF's parameters are not given, ours are those of the public
code's example. With it training is validated once, at its end: it takes much longer. Not run to
the end by us.
"""

import dataclasses

from cityscapes_ocrnet_hr48_sdn import config as sdn

from sdnjax.experiment import Experiment
from sdnjax.inference.dense_crf import DenseCRF


def config() -> Experiment:
    experiment = sdn()
    return dataclasses.replace(
        experiment,
        name="cityscapes_ocrnet_hr48_sdn_crf",
        evaluation=dataclasses.replace(experiment.evaluation, finish=DenseCRF()),
        evaluate_every=0,
    )
