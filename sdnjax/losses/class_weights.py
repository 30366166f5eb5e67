"""Weights of classes by how often they occur."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sdnjax.errors import InputError


def shares_of(report: str | Path) -> tuple[float, ...]:
    """Each class's share of the labelled pixels, as `check.py` has counted and written it.

        CrossEntropy(class_weights=inverse_log(shares_of("runs/check/camvid/train.json")))

    Raises: InputError for a file that is not check.py's.
    """
    try:
        found = json.loads(Path(report).read_text())
        return tuple(float(row["share"]) for row in found["classes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{report} is not what check.py writes ({type(error).__name__}): run it on the split "
            "that is trained on, and name its SPLIT.json"
        ) from None


def inverse_log(shares: Sequence[float], offset: float = 1.02) -> tuple[float, ...]:
    """`1 / log(offset + share)` (ENet, Paszke et al., 2016): between 1.4 and 50 for 1.02."""
    _check(shares)
    return tuple((1 / np.log(offset + np.asarray(shares, np.float64))).tolist())


def effective_number(
    shares: Sequence[float], pixels: float, beta: float = 0.9999
) -> tuple[float, ...]:
    """`(1 − β) / (1 − β^n)` (Cui et al., 2019) of n = share · pixels, scaled to a mean of 1.

    A class that does not occur weighs 0.

    Args:
      shares: of the labelled pixels.
      pixels: how many there are; the paper counts examples.
      beta: in [0, 1); 0 weighs all classes alike, and so does any for which 1 / (1 − β) is far
        below the classes' pixels.
    """
    _check(shares)
    if not 0 <= beta < 1:
        raise InputError(f"beta must lie in [0, 1), not {beta}")
    counts = np.asarray(shares, np.float64) * pixels
    occurs = counts > 0
    effective = -np.expm1(counts * np.log(beta)) if beta > 0 else np.ones(counts.shape)
    weights = np.where(occurs, (1 - beta) / np.where(occurs, effective, 1), 0)
    return tuple((weights * occurs.sum() / weights.sum()).tolist())


def _check(shares: Sequence[float]) -> None:
    values = np.asarray(shares, np.float64)
    if values.ndim != 1 or not values.size or not ((values >= 0) & (values <= 1)).all():
        raise InputError(f"shares must be numbers between 0 and 1, one for each class: {shares}")
    if not values.any():
        raise InputError("no class occurs: all shares are 0")
