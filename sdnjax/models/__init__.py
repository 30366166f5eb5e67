"""Segmentation networks as Flax Linen modules."""

from sdnjax.models.context.ecrf import ECRF
from sdnjax.models.context.non_local import NonLocal
from sdnjax.models.difnet import DifNet, DifNetOptions
from sdnjax.models.edge_head import EdgeHead
from sdnjax.models.encoder_decoder import EncoderDecoder
from sdnjax.models.mask_classifier import MaskClassifier
from sdnjax.models.model_settings import Model, Neck
from sdnjax.models.refine.joint_crf import JointCRF
from sdnjax.models.segfix import SegFixNet
from sdnjax.models.zoo import MODELS, create_model

__all__ = [
    "ECRF",
    "MODELS",
    "DifNet",
    "DifNetOptions",
    "EdgeHead",
    "EncoderDecoder",
    "JointCRF",
    "MaskClassifier",
    "Model",
    "Neck",
    "NonLocal",
    "SegFixNet",
    "create_model",
]
