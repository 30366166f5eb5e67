"""Segmenter ViT-B/16 (mask decoder) with SDN on Cityscapes: two rows of the SDN paper's Table 1.

    python convert.py from-torch configs/cityscapes_segmenter_vitb_sdn.py B_16-i21k-….npz \
        --table augreg_vit --reinitialise classifier,neck
    python train.py configs/cityscapes_segmenter_vitb_sdn.py --data.dir FOLDER --resume
    python eval.py runs/cityscapes_segmenter_vitb_sdn --protocol cityscapes_slide768_ms_sdn

FOLDER holds leftImg8bit and gtFine, as they are or prepared. Paper, mIoU single- / multi-scale:
79.42 / 81.38; the baseline, `--model.neck.operator none`, 77.97 / 80.07. The first command starts
from ImageNet-21k weights, as the paper does (AugReg's file).

Recipe: crops of 768×768 out of 2048×1024 scaled by 0.5 to 2 and windows of 768, the official
Segmenter's; values brought to -1…1; 80k steps of 8 images; AdamW without weight decay, 6e-5 → 0,
poly power 1. Computed in bfloat16 with float32 parameters, statistics and loss (`--model.dtype
float32` for all of it). Not run to the end by us.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import protocol
from sdnjax.models import Model, Neck
from sdnjax.training.optimizer import Optimizer


def config() -> Experiment:
    return Experiment(
        name="cityscapes_segmenter_vitb_sdn",
        model=Model(name="segmenter_vit-b_mask", dtype="bfloat16", neck=Neck(operator="sdc")),
        data=Data(
            name="cityscapes",
            crop_size=(768, 768),
            base_size=(2048, 1024),
            mean=(127.5, 127.5, 127.5),
            std=(127.5, 127.5, 127.5),
        ),
        optimizer=Optimizer(
            kind="adamw", learning_rate=6e-5, end_learning_rate=0.0, power=1.0, weight_decay=0.0
        ),
        evaluation=protocol("cityscapes_slide768"),
        steps=80_000,
        batch_size=8,
        evaluate_every=8_000,
        checkpoint_every=2_000,
    )
