"""SemanticFPN-R18 with an SDN on each of its four stages on CamVid, from scratch.

    python train.py configs/camvid_fpn_r18_sdn.py --data.dir FOLDER

FOLDER as for `camvid_fcn_r18_sdn.py`. The multi-scale case of the neck: stage i is guided by
stage i + 1, the last one by Φ. The paper has no CamVid results.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.models import Model, Neck
from sdnjax.training.optimizer import Optimizer


def config() -> Experiment:
    return Experiment(
        name="camvid_fpn_r18_sdn",
        model=Model(name="fpn_r18", neck=Neck(operator="sdc", guidance_channels=64)),
        data=Data(name="camvid", crop_size=(360, 480), scale_range=(0.5, 2.0)),
        # The paper's. At 0.05 the loss rose to 9 in ten steps of two images.
        optimizer=Optimizer(kind="sgd", learning_rate=0.01),
        steps=3700,
        batch_size=8,
        evaluate_every=460,
    )
