"""`ade20k_segmenter_vitb_sdn.py` for a pod: 512 images in a step, two on each of 256 chips.

    python plan.py configs/ade20k_segmenter_vitb_sdn_pod.py --target v5e:16x16
    python train.py configs/ade20k_segmenter_vitb_sdn_pod.py --data.dir FOLDER --workdir PLACE \
        --resume --distributed

The first command says what it takes, before it is paid for; docs/launching.md has scripts for the
second. As many images are seen as in the recipe for 16, in 5,000 steps instead of 160,000. The rate
is that recipe's times √32, the rule for Adam, after a linear warm-up of 250 steps; `--batch_size
128 --steps 20000` is for 64 chips, with a rate that follows. LAMB is `--optimizer.kind lamb` and a
rate of its own. A choice of ours, not the paper's; not run by us.
"""

import dataclasses

from ade20k_segmenter_vitb_sdn import config as sdn

from sdnjax.experiment import Experiment
from sdnjax.training.optimizer import Optimizer


def config() -> Experiment:
    one = sdn()
    assert isinstance(one.optimizer, Optimizer)
    return dataclasses.replace(
        one,
        name="ade20k_segmenter_vitb_sdn_pod",
        batch_size=512,
        steps=5_000,
        optimizer=dataclasses.replace(
            one.optimizer, reference_batch=one.batch_size, warmup_steps=250
        ),
        evaluate_every=500,
        checkpoint_every=250,
    )
