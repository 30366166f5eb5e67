"""Losses over pixels."""

from sdnjax.losses.cross_entropy import cross_entropy

__all__ = ["cross_entropy"]
