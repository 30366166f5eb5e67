"""SegFormer with MiT-B0 on ADE20K by mmsegmentation's recipe, where it has 37.41 mIoU at one scale.

    python convert.py from-torch configs/ade20k_segformer_mit-b0.py mit_b0.safetensors \
        --table hf_segformer --reinitialise decoder,classifier
    python train.py configs/ade20k_segformer_mit-b0.py --data.dir FOLDER --resume

FOLDER holds ADEChallengeData2016, as it is or prepared. Recipe, that of mmsegmentation's
segformer_mit-b0_8xb2-160k_ade20k-512x512.py: AdamW, 6e-5 after a warm-up of 1500 steps, poly power
1, whose decay of 0.01 leaves the norms inside stages alone (its key "norm", which the stages' last
norms and the head's batch norm do not have in their names), and ten times the rate in the head.
The other sizes are `--model.name segformer_mit-b5`. Not run to the end by us.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import protocol
from sdnjax.losses import CrossEntropy
from sdnjax.models import Model
from sdnjax.training.optimizer import Optimizer
from sdnjax.training.parameter_rules import ParameterRule

RULES = (
    # norm1, norm2 of the blocks, of the embeddings, and of the reduced keys.
    ParameterRule(r"^backbone/.*(block\d+/norm\d|embedding\d/norm|reduce_norm)/", weight_decay=0.0),
    ParameterRule(r"^(decoder|classifier)/", learning_rate=10.0),
)


def config() -> Experiment:
    return Experiment(
        name="ade20k_segformer_mit-b0",
        model=Model(name="segformer_mit-b0"),
        data=Data(name="ade20k", crop_size=(512, 512), base_size=(2048, 512)),
        losses=(CrossEntropy(normalize_by="all_pixels"),),
        optimizer=Optimizer(
            kind="adamw",
            learning_rate=6e-5,
            end_learning_rate=0.0,
            power=1.0,
            warmup_steps=1500,
            weight_decay=0.01,
            rules=RULES,
        ),
        evaluation=protocol("ade20k"),
        steps=160_000,
        batch_size=16,
        evaluate_every=16_000,
        checkpoint_every=2_000,
        log_every=50,
    )
