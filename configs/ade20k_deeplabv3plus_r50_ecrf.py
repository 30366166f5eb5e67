"""E-CRF on DeepLabV3+ R50, ADE20K: Tables 1 to 3 of the paper (Zhu et al., ICLR 2023).

    python -m sdnjax.data.prepare ade20k --source FOLDER --data-dir PREPARED --superpixels 200
    python convert.py from-torch configs/ade20k_deeplabv3plus_r50_ecrf.py resnet50_v1c.pth \
        --table torchvision_resnet --reinitialise decoder,context,classifier,auxiliary
    python train.py configs/ade20k_deeplabv3plus_r50_ecrf.py --data.dir PREPARED --resume
    python eval.py runs/ade20k_deeplabv3plus_r50_ecrf

Everything but the context is `ade20k_deeplabv3plus_r50.py`, the baseline, whose mIoU is 42.72; with
`--model.name deeplabv3plus_r101-d8` it is 44.60, and the paper's results are, in % mIoU,

    E-CRF, both terms                    this file                                44.20, 46.02
    pairwise messages alone              --model.context.superpixel_weight 0      43.91, 45.47
                                         --data.superpixels none
    superpixels alone                    --model.context.message_weight 0         43.83, 45.85
    100, 300, 400 superpixels            --data.superpixels N                     44.02, 44.13,
                                         --model.context.segments N               43.96 (R50)
    Non-local in its place               ade20k_deeplabv3plus_r50_nonlocal.py     43.52, 45.34
    Joint-CRF                            ade20k_deeplabv3plus_r50_joint_crf.py    43.69, 45.61
    Vanilla-CRF, after the baseline      --evaluation.finish dense_crf            43.18, 45.14
                                         of eval.py on the baseline's run

Boundary F: 14.25 and 16.15 for the baselines, 16.45 and 18.32 with E-CRF. Not run to the end by us.
"""

import dataclasses

from ade20k_deeplabv3plus_r50 import config as baseline

from sdnjax.experiment import Experiment
from sdnjax.models import ECRF


def config() -> Experiment:
    experiment = baseline()
    return dataclasses.replace(
        experiment,
        name="ade20k_deeplabv3plus_r50_ecrf",
        model=dataclasses.replace(experiment.model, context=ECRF(segments=200)),
        data=dataclasses.replace(experiment.data, superpixels=200),
    )
