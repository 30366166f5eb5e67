"""Losses: values that a configuration lists, and the functions of arrays behind them."""

from sdnjax.losses.cross_entropy import CrossEntropy, cross_entropy
from sdnjax.losses.maskformer import MaskMatching, maskformer_loss
from sdnjax.losses.objective import Mean, Objective, total_loss

__all__ = [
    "CrossEntropy",
    "MaskMatching",
    "Mean",
    "Objective",
    "cross_entropy",
    "maskformer_loss",
    "total_loss",
]
