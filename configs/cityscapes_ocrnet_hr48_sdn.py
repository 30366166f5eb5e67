"""OCRNet-HR48 with an SDN on each branch on Cityscapes: Tables 2 and 3 of the SDN paper.

    python convert.py from-torch configs/cityscapes_ocrnet_hr48_sdn.py hrnetv2_w48.pth \
        --table hrnet --reinitialise decoder,classifier,neck
    python train.py configs/cityscapes_ocrnet_hr48_sdn.py --data.dir FOLDER --resume
    python eval.py runs/cityscapes_ocrnet_hr48_sdn

FOLDER holds leftImg8bit and gtFine, as they are or prepared. Paper, boundary F at 1 / 3 px on the
500 validation images: 69.5 / 78.2; the baseline, `--model.neck.operator none`, 65.2 / 76.7, and
mIoU 81.9 → 82.8. Table 3(a) replaces the operator (F at 1 px: `--model.neck.operator conv` 65.2,
`cdc` 60.1), 3(b) kernel and dilation (`--model.neck.kernel_size 5` 69.6, `--model.neck.dilation 3`
69.1, `5` 68.8), 3(c) adds DenseCRF (`cityscapes_ocrnet_hr48_sdn_crf.py` 69.7), SegFix
(`…_segfix.py` 70.1) or InverseForm (`…_inverse_form.py` 70.5).

Recipe: crops of 512×1024 out of 2048×1024 scaled by 0.5 to 2; 80k steps of 8 images; SGD with
momentum 0.9 and weight decay 5e-4, 0.01 → 1e-4, poly power 0.9; auxiliary loss 0.4. Crop, steps and
the place of the necks (the four branches before they are joined) are choices: the paper is silent.
Computed in bfloat16 with float32 parameters, statistics and loss (`--model.dtype float32` for all
of it). Not run to the end by us.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import protocol
from sdnjax.models import Model, Neck
from sdnjax.training.optimizer import Optimizer


def config() -> Experiment:
    return Experiment(
        name="cityscapes_ocrnet_hr48_sdn",
        model=Model(name="ocrnet_hr48", dtype="bfloat16", neck=Neck(operator="sdc")),
        data=Data(name="cityscapes", crop_size=(512, 1024), base_size=(2048, 1024)),
        optimizer=Optimizer(kind="sgd", learning_rate=0.01, end_learning_rate=1e-4, power=0.9),
        evaluation=protocol("cityscapes"),
        steps=80_000,
        batch_size=8,
        evaluate_every=8_000,
        checkpoint_every=2_000,
    )
