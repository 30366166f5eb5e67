"""DifNet-101 on Pascal Context with background as a class (60), as in the paper's Table 2.

    python convert.py from-torch configs/pascal_context_60_difnet_r101.py resnet101.pth \
        --table torchvision_resnet --reinitialise \
        classifier,importance,psi1,psi2,psi3,psi4,psi5,walk1,walk2,walk3,walk4,walk5
    python train.py runs/pascal_context_60_difnet_r101 --data.dir FOLDER --resume
    python eval.py runs/pascal_context_60_difnet_r101

FOLDER holds VOC2010 with Pascal Context's labels, as they are or prepared. DifNet (Jiang et al.,
NeurIPS 2018), mIoU on val:

    Sim-Deeplab-101     43.6   --model.name sim-deeplab_r101-d8
    DifNet-50, no ASPP  44.7   --model.name difnet_r50-d8 --model.difnet.dilations 12
    DifNet-50           45.1   --model.name difnet_r50-d8
    DifNet-101          46.0

The table cites DeepLabV2's paper for its Sim-Deeplab. Recipe as in `voc2012_aug_difnet_r50.py`,
200 epochs of 4,998 images. Not run to the end by us.
"""

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import protocol
from sdnjax.models import Model
from sdnjax.training.optimizer import Optimizer


def config() -> Experiment:
    return Experiment(
        name="pascal_context_60_difnet_r101",
        model=Model(name="difnet_r101-d8"),
        data=Data(
            name="pascal_context_60",
            crop_size=(321, 321),
            recipe="difnet",
            mean=(122.67891434, 116.66876762, 104.00698793),
            std=(1.0, 1.0, 1.0),
        ),
        optimizer=Optimizer(kind="sgd", learning_rate=2.5e-3, end_learning_rate=0.0, power=0.9),
        evaluation=protocol("voc2012_difnet"),
        steps=200 * 313,  # 313 batches of 16 hold 4,998 images
        batch_size=16,
        evaluate_every=6_260,
        checkpoint_every=2_000,
    )
