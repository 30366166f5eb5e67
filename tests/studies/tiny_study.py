"""A study of two variants and two seeds, small enough for every test."""

from flax import linen as nn

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import Evaluation
from sdnjax.metrics import ErrorShares
from sdnjax.models import EncoderDecoder
from sdnjax.models.layers import Classifier, conv
from sdnjax.models.necks.controls import OracleNeck
from sdnjax.models.necks.sdn import SDNNeck
from sdnjax.studies import Study
from sdnjax.training.optimizer import Optimizer


class Backbone(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
        del train
        return (nn.relu(conv(8, 3, stride=4, name="stem")(images)),)


def network(num_classes, neck=None):
    return EncoderDecoder(Backbone(), Classifier(num_classes), neck=neck, decoder_stages=(0,))


def with_sdc(num_classes):
    return network(num_classes, SDNNeck())


def with_oracle(num_classes):
    return network(num_classes, OracleNeck())


def study():
    base = Experiment(
        name="tiny",
        model=network,
        data=Data(name="camvid", crop_size=(16, 16), photometric=False, workers=1),
        optimizer=Optimizer(learning_rate=0.05),
        evaluation=Evaluation(batch_size=8, trimap_widths=(1,), metrics=(ErrorShares((1,)),)),
        steps=4,
        batch_size=8,
        checkpoint_every=2,
        log_every=1,
        tensorboard=False,
    )
    return Study(
        "tiny",
        base,
        {"none": {}, "sdc": {"model": with_sdc}},
        seeds=(0, 1),
        metrics=("mIoU", "trimap_iou.1px", "error_inside.1px"),
    )
