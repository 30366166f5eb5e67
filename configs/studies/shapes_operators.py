"""Which operator earns its cost, where boundaries are hard to see? Generated scenes, from scratch.

    python study.py configs/studies/shapes_operators.py [--variants all]

Classes of `shapes` differ in texture and hardly in colour, and blend where they meet: edges inside
a class are stronger than those between classes, which an operator that finds edges takes for
boundaries. The network, a slim SemanticFPN on ResNet-18, reads stride 4. The data set is generated
on first use.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import Evaluation
from sdnjax.metrics import ErrorShares
from sdnjax.models import Model, Neck
from sdnjax.models.necks.controls import OracleNeck, out_of_place
from sdnjax.studies import Study
from sdnjax.training.optimizer import Optimizer


def config() -> Experiment:
    """The network without a neck."""
    return Experiment(
        name="shapes_operators",
        model=Model(name="fpn_r18", fpn_channels=(64, 48)),
        # Textures tell the classes apart by colour and frequency: leave both nearly alone.
        data=Data(name="shapes", crop_size=(64, 64), scale_range=(0.8, 1.25), photometric=False),
        optimizer=Optimizer(kind="adamw", learning_rate=1e-3, weight_decay=0.01, warmup_steps=20),
        evaluation=Evaluation(
            batch_size=8,
            boundary_absent="skip",
            trimap_widths=(1, 3, 10),
            metrics=(ErrorShares((3,)),),
        ),
        steps=400,
        batch_size=8,
        checkpoint_every=100,
        keep_checkpoints=1,
        tensorboard=False,
    )


def neck(operator, **options):
    """On a quarter of the channels, so that it does not outweigh the backbone."""
    return {"model.neck": Neck(operator, reduction=4, **options)}


def sdc(**options):
    return neck("sdc", guidance_channels=16, **options)


OPERATORS = {
    "none": {},
    "conv": neck("conv"),
    "cdc": neck("cdc"),
    "sdc": sdc(),
    "apdc": neck("apdc"),
    "rpdc": neck("rpdc"),
    "conv5": neck("conv", kernel_size=5),
}
GUIDANCE = {
    "sdc_constant": sdc(similarity="constant"),  # S = 1: central differences
    "sdc_shuffled": sdc(implementation=out_of_place),  # S of other pixels
    "oracle": {"model.neck": OracleNeck(reduction=4)},  # S from the labels: it cheats
}
FIRST = (1, 2)  # stages, of strides 4 and 8
MORE = {
    "sdc_relative": sdc(similarity="relative"),
    "relative_stages12": sdc(similarity="relative", stages=FIRST),
    "constant_stages12": sdc(similarity="constant", stages=FIRST),
    "conv_stages12": neck("conv", stages=FIRST),
    "sdc_lambda0.1": sdc(scale=0.1),
    "sdc_lambda10": sdc(scale=10.0),
    "sdc_stop_gradient": sdc(stop_guidance_gradient=True),
    "sdc_stage1": sdc(stages=(1,)),
    "sdc_plain_fusion": sdc(fusion="plain"),
    "conv_plain_fusion": neck("conv", fusion="plain"),
}


def study() -> Study:
    chosen = OPERATORS | GUIDANCE
    return Study("shapes_operators", config(), chosen | MORE, chosen=tuple(chosen))
