"""Segmenter ViT-B/16 (mask decoder) with SDN on ADE20K: two rows of the SDN paper's Table 1.

    python convert.py from-torch configs/ade20k_segmenter_vitb_sdn.py B_16-i21k-….npz \
        --table augreg_vit --reinitialise classifier,neck
    python train.py configs/ade20k_segmenter_vitb_sdn.py --data.dir FOLDER --resume
    python eval.py runs/ade20k_segmenter_vitb_sdn --protocol ade20k_slide512_ms_sdn

FOLDER holds ADEChallengeData2016, as it is or prepared. Paper, mIoU single- / multi-scale:
51.05 / 52.18; the baseline, `--model.neck.operator none`, 48.48 / 50.00, which is the official
Segmenter's (trained with SGD at 1e-3 and batches of 8). The first command starts from ImageNet-21k
weights, as the paper does (AugReg's file).

Recipe: crops of 512×512 out of images fitted into 2048×512 and scaled by 0.5 to 2, values brought
to -1…1; 160k steps of 16 images; AdamW without weight decay, 6e-5 → 0, poly power 1; windows of
512. Computed in bfloat16 with float32 parameters, statistics and loss (`--model.dtype float32` for
all of it). Not run to the end by us.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import protocol
from sdnjax.models import Model, Neck
from sdnjax.training.optimizer import Optimizer


def config() -> Experiment:
    return Experiment(
        name="ade20k_segmenter_vitb_sdn",
        model=Model(name="segmenter_vit-b_mask", dtype="bfloat16", neck=Neck(operator="sdc")),
        data=Data(
            name="ade20k",
            crop_size=(512, 512),
            base_size=(2048, 512),
            mean=(127.5, 127.5, 127.5),
            std=(127.5, 127.5, 127.5),
        ),
        optimizer=Optimizer(
            kind="adamw", learning_rate=6e-5, end_learning_rate=0.0, power=1.0, weight_decay=0.0
        ),
        evaluation=protocol("ade20k_slide512"),
        steps=160_000,
        batch_size=16,
        evaluate_every=16_000,
        checkpoint_every=2_000,
    )
