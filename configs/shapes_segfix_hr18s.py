"""SegFix on the small HRNet-W18 on `shapes`, minutes on two free CPU cores.

    python train.py configs/shapes_segfix_hr18s.py
    python eval.py runs/shapes_fcn_r18 --segfix runs/shapes_segfix_hr18s

The second line moves the labels of a run of `shapes_fcn_r18.py`: mIoU 65.35 became 70.77,
boundary F at 1 px 43.76 became 58.35. With `--steps 300` both are worse than without. A
demonstration, not a result of the paper.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import Evaluation
from sdnjax.models import Model
from sdnjax.training.optimizer import Optimizer


def config() -> Experiment:
    return Experiment(
        name="shapes_segfix_hr18s",
        model=Model(name="segfix_hr18s"),
        data=Data(
            name="shapes_segfix",
            crop_size=(64, 64),
            scale_range=(1.0, 1.0),
            max_class_share=1.0,
            photometric=False,
        ),
        optimizer=Optimizer(kind="sgd", learning_rate=0.04, end_learning_rate=0.0),
        evaluation=Evaluation(batch_size=8),
        steps=1500,
        batch_size=8,
        checkpoint_every=500,
    )
