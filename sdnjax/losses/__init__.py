"""Losses: over pixels, and over sets of masks."""

from sdnjax.losses.cross_entropy import cross_entropy
from sdnjax.losses.maskformer import maskformer_loss

__all__ = ["cross_entropy", "maskformer_loss"]
