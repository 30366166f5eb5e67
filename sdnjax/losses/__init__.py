"""Losses: values that a configuration lists, and the functions of arrays behind them."""

from sdnjax.losses.active_boundary import ActiveBoundary
from sdnjax.losses.boundary_weighted import BoundaryWeighted
from sdnjax.losses.class_weights import effective_number, inverse_log, shares_of
from sdnjax.losses.cross_entropy import CrossEntropy, cross_entropy
from sdnjax.losses.dice import Dice, Tversky
from sdnjax.losses.edges import EdgeCrossEntropy
from sdnjax.losses.focal import Focal
from sdnjax.losses.image_cross_entropy import EdgeAttention, ImageCrossEntropy
from sdnjax.losses.inverse_form import InverseForm, inverse_form_losses
from sdnjax.losses.lovasz import Lovasz
from sdnjax.losses.maskformer import MaskMatching, maskformer_loss
from sdnjax.losses.objective import Mean, Objective, constants_of, total_loss
from sdnjax.losses.ohem import Ohem
from sdnjax.losses.segfix import SegFixLoss

__all__ = [
    "ActiveBoundary",
    "BoundaryWeighted",
    "CrossEntropy",
    "Dice",
    "EdgeAttention",
    "EdgeCrossEntropy",
    "Focal",
    "ImageCrossEntropy",
    "InverseForm",
    "Lovasz",
    "MaskMatching",
    "Mean",
    "Objective",
    "Ohem",
    "SegFixLoss",
    "Tversky",
    "constants_of",
    "cross_entropy",
    "effective_number",
    "inverse_form_losses",
    "inverse_log",
    "maskformer_loss",
    "shares_of",
    "total_loss",
]
