"""MaskFormer R50 on ADE20K by mmsegmentation's recipe, where it has 44.29 mIoU at one scale.

    python convert.py from-torch configs/ade20k_maskformer_r50.py resnet50.pth \
        --table torchvision_resnet --reinitialise decoder
    python train.py configs/ade20k_maskformer_r50.py --data.dir FOLDER --resume

FOLDER holds ADEChallengeData2016, as it is or prepared. Recipe, that of mmsegmentation's
maskformer_r50-d32_8xb2-160k_ade20k-512x512.py: AdamW, 1e-4 poly 0.9 with a tenth of it in the
backbone, whose batch norms keep their statistics; decay 1e-4, gradients clipped to a norm of 0.01;
160k steps of 16 images. Not run to the end by us.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import protocol
from sdnjax.models import Model
from sdnjax.training.optimizer import Optimizer
from sdnjax.training.parameter_rules import ParameterRule


def config() -> Experiment:
    return Experiment(
        name="ade20k_maskformer_r50",
        model=Model(name="maskformer_r50-d32"),
        data=Data(name="ade20k", crop_size=(512, 512), base_size=(2048, 512)),
        optimizer=Optimizer(
            kind="adamw",
            learning_rate=1e-4,
            end_learning_rate=0.0,
            power=0.9,
            weight_decay=1e-4,
            clip_norm=0.01,
            rules=(ParameterRule("^backbone/", learning_rate=0.1, frozen_statistics=True),),
        ),
        evaluation=protocol("ade20k"),
        steps=160_000,
        batch_size=16,
        evaluate_every=16_000,
        checkpoint_every=2_000,
    )
