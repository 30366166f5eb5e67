"""FCN-R18 with the SDN neck on CamVid (SegNet's 480×360 version, 11 classes), from scratch.

    python train.py configs/camvid_fcn_r18_sdn.py --data.dir FOLDER

FOLDER is the data set in SegNet's layout: train/*.png with trainannot/*.png, val/*.png with
valannot/*.png. 80 epochs of 367 images; for a short look on a CPU:

    python train.py configs/camvid_fcn_r18_sdn.py --data.dir FOLDER --steps 300 \
        --batch_size 4 --data.crop_size 128,160

The paper has no CamVid results: this is a small real data set to work with.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.models import Model, Neck
from sdnjax.training.optimizer import Optimizer


def config() -> Experiment:
    return Experiment(
        name="camvid_fcn_r18_sdn",
        model=Model(name="fcn_r18-d8", neck=Neck(operator="sdc", guidance_channels=64)),
        data=Data(name="camvid", crop_size=(360, 480), scale_range=(0.5, 2.0)),
        # The paper's, with a larger rate: there are no pretrained weights to preserve.
        optimizer=Optimizer(kind="sgd", learning_rate=0.05),
        steps=3700,
        batch_size=8,
        evaluate_every=460,
    )
