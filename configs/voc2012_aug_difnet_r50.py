"""DifNet-50 on VOC 2012 (augmented), and by options the other rows of the paper's Table 1.

    python convert.py from-torch configs/voc2012_aug_difnet_r50.py resnet50.pth \
        --table torchvision_resnet --reinitialise \
        classifier,importance,psi1,psi2,psi3,psi4,psi5,walk1,walk2,walk3,walk4,walk5
    python train.py runs/voc2012_aug_difnet_r50 --data.dir FOLDER --resume
    python eval.py runs/voc2012_aug_difnet_r50

FOLDER holds VOC2012 with the augmented labels, as they are or prepared. DifNet (Jiang et al.,
NeurIPS 2018), mIoU on val, in brackets what the released logs say, whose spread is about 0.8:

    DifNet-18            70.17           --model.name difnet_r18-d8
    DifNet-34            71.84           --model.name difnet_r34-d8
    DifNet-50            72.57 (72.48)
    DifNet-50-noASPP     72.52           --model.difnet.dilations 12   (a choice)
    DifNet-101           73.22 (73.44)   --model.name difnet_r101-d8
    without walks 2, 4   one point less  --model.difnet.walks 0,2,4
    Sim-Deeplab          voc2012_aug_sim_deeplab_r101.py

Table 3 is the network's outputs `mu` and `beta` after training: μ₁ = β₁ by construction. The
released code's hybrid of 18 and 50 is `--model.name difnet_r18-r50-d8`.

Recipe, the released code's: ImageNet weights in both branches (the paper says "from scratch");
mirror, one of ten scales from 0.5 to 1.4, crops of 321×321 with black and background beyond small
pictures; 200 epochs of 10,582 images in batches of 16; SGD with momentum 0.9, one rate for all
parameters, 2.5e-3, poly 0.9, weight decay 5e-4 on everything; values 0-255 less a mean. That code
steps its schedule first, so its n-th update has the rate of the n+1-th here. It feeds blue first,
although torchvision's weights were made for red first; here red comes first
(`--model.difnet.preprocessing released` for the authors' own checkpoints, whose table, `difnet`,
sets it). Evaluated on a canvas of 505×505 at one scale. Not run to the end by us.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import protocol
from sdnjax.models import Model
from sdnjax.training.optimizer import Optimizer


def config() -> Experiment:
    return Experiment(
        name="voc2012_aug_difnet_r50",
        model=Model(name="difnet_r50-d8"),
        data=Data(
            name="voc2012_aug",
            crop_size=(321, 321),
            recipe="difnet",
            mean=(122.67891434, 116.66876762, 104.00698793),
            std=(1.0, 1.0, 1.0),
        ),
        optimizer=Optimizer(kind="sgd", learning_rate=2.5e-3, end_learning_rate=0.0, power=0.9),
        evaluation=protocol("voc2012_difnet"),
        steps=200 * 662,  # 662 batches of 16 hold 10,582 images
        batch_size=16,
        evaluate_every=13_240,
        checkpoint_every=2_000,
    )
