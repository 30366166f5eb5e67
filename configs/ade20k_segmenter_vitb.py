"""Segmenter ViT-B/16 (mask decoder) on ADE20K by mmsegmentation's recipe: 49.60 mIoU at one scale.

    python convert.py from-torch configs/ade20k_segmenter_vitb.py B_16-i21k-….npz \
        --table augreg_vit --reinitialise classifier
    python train.py configs/ade20k_segmenter_vitb.py --data.dir FOLDER --resume

FOLDER holds ADEChallengeData2016, as it is or prepared. Recipe, that of mmsegmentation's
segmenter_vit-b_mask_8xb1-160k_ade20k-512x512.py and of the authors: SGD with momentum 0.9 and
without decay, 1e-3 poly 0.9 to 1e-4, 160k steps of 8 images. Not run to the end by us.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import protocol
from sdnjax.models import Model
from sdnjax.training.optimizer import Optimizer


def config() -> Experiment:
    return Experiment(
        name="ade20k_segmenter_vitb",
        model=Model(name="segmenter_vit-b_mask"),
        data=Data(
            name="ade20k",
            crop_size=(512, 512),
            base_size=(2048, 512),
            mean=(127.5, 127.5, 127.5),
            std=(127.5, 127.5, 127.5),
        ),
        optimizer=Optimizer(
            kind="sgd", learning_rate=1e-3, end_learning_rate=1e-4, power=0.9, weight_decay=0.0
        ),
        evaluation=protocol("ade20k_slide512_mmseg"),
        steps=160_000,
        batch_size=8,
        evaluate_every=16_000,
        checkpoint_every=2_000,
    )
