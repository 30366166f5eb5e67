"""MaskFormer with Swin-T on ADE20K by mmsegmentation's recipe: 46.69 mIoU there at one scale.

    python train.py configs/ade20k_maskformer_swin-t.py --data.dir FOLDER

FOLDER holds ADEChallengeData2016, as it is or prepared. Recipe, that of mmsegmentation's
maskformer_swin-t_upernet_8xb2-160k_ade20k-512x512.py: AdamW, 6e-5 after a warm-up of 1500 steps,
poly power 1, whose decay of 0.01 leaves the backbone's norms and position biases and the queries
alone; gradients clipped to a norm of 0.01; 160k steps of 16 images. Not run to the end by us.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import protocol
from sdnjax.models import Model
from sdnjax.training.optimizer import Optimizer
from sdnjax.training.parameter_rules import ParameterRule

NO_DECAY = (
    r"^backbone/.*norm\d?/",
    r"relative_position_bias$",
    r"^decoder/query",
)


def config() -> Experiment:
    return Experiment(
        name="ade20k_maskformer_swin-t",
        model=Model(name="maskformer_swin-t"),
        data=Data(name="ade20k", crop_size=(512, 512), base_size=(2048, 512)),
        optimizer=Optimizer(
            kind="adamw",
            learning_rate=6e-5,
            end_learning_rate=0.0,
            power=1.0,
            warmup_steps=1500,
            weight_decay=0.01,
            clip_norm=0.01,
            rules=tuple(ParameterRule(pattern, weight_decay=0.0) for pattern in NO_DECAY),
        ),
        evaluation=protocol("ade20k"),
        steps=160_000,
        batch_size=16,
        evaluate_every=16_000,
        checkpoint_every=2_000,
    )
