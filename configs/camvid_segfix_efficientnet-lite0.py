"""SegFix on EfficientNet-Lite0 on CamVid, minutes on a CPU: beside `studies/camvid_operators.py`.

    python convert.py from-torch configs/studies/camvid_operators.py FILE \\
        --reinitialise decoder,classifier --workdir runs/efficientnet-lite0_imagenet
    python train.py configs/camvid_segfix_efficientnet-lite0.py --data.dir FOLDER
    python eval.py RUN --segfix runs/camvid_segfix_efficientnet-lite0

FILE and FOLDER as in that study's file. The backbone is the study's, and its four stages take the
place of HRNet's branches, which SegFix's authors use (`cityscapes_segfix_hr18.py`).
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import Evaluation
from sdnjax.models import Model
from sdnjax.training.optimizer import Optimizer
from sdnjax.training.parameter_rules import ParameterRule


def config() -> Experiment:
    return Experiment(
        name="camvid_segfix_efficientnet-lite0",
        model=Model(name="segfix_efficientnet-lite0"),
        data=Data(
            name="camvid_segfix",
            crop_size=(160, 224),
            scale_range=(0.75, 1.5),
            max_class_share=1.0,
            photometric=False,
            mean=(127.0, 127.0, 127.0),
            std=(128.0, 128.0, 128.0),
        ),
        init_from="runs/efficientnet-lite0_imagenet",
        init_without=("decoder", "classifier", "boundary", "direction"),
        optimizer=Optimizer(
            kind="adamw",
            learning_rate=1e-3,
            weight_decay=0.01,
            warmup_steps=20,
            rules=(ParameterRule("^backbone/", learning_rate=0.2),),
        ),
        evaluation=Evaluation(batch_size=4),
        steps=960,
        batch_size=8,
        checkpoint_every=240,
        keep_checkpoints=1,
    )
