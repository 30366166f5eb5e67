"""SegFix on HRNet-W48 on Cityscapes (Yuan et al., ECCV 2020): directions that move any labels.

    python -m sdnjax.data.prepare cityscapes_segfix --source FOLDER --data-dir PREPARED
    python convert.py from-torch configs/cityscapes_segfix_hr48.py hrnetv2_w48.pth \
        --table hrnet --reinitialise boundary,direction
    python train.py configs/cityscapes_segfix_hr48.py --data.dir PREPARED --resume
    python eval.py runs/cityscapes_ocrnet_hr48_sdn --segfix runs/cityscapes_segfix_hr48

FOLDER holds leftImg8bit and gtFine; without the first line directions are computed anew for every
crop, seconds each. `cityscapes_ocrnet_hr48_sdn_segfix.py` has the two together.

Recipe: crops of 512×512 at their own scale, mirror; 80k steps of 16 images; SGD with momentum 0.9
and weight decay 5e-4, 0.04 poly 0.9; windows of 512 slid by 170. Colours are distorted as for other
networks, which is a choice. The validation here scores the 16 directions themselves. Not run to the
end by us.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import Evaluation
from sdnjax.models import Model
from sdnjax.training.optimizer import Optimizer


def config() -> Experiment:
    return Experiment(
        name="cityscapes_segfix_hr48",
        model=Model(name="segfix_hr48"),
        data=Data(
            name="cityscapes_segfix",
            crop_size=(512, 512),
            # Distances in pixels would not be what they are at another scale.
            scale_range=(1.0, 1.0),
            max_class_share=1.0,
        ),
        optimizer=Optimizer(kind="sgd", learning_rate=0.04, end_learning_rate=0.0, power=0.9),
        evaluation=Evaluation(mode="slide", window=(512, 512), stride=(170, 170)),
        steps=80_000,
        batch_size=16,
        evaluate_every=20_000,
        checkpoint_every=2_000,
    )
