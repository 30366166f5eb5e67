"""DenseCRF as a post-processing: labels from probabilities and the picture."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from sdnjax.errors import InputError
from sdnjax.ops.crf import (
    Filter,
    PermutohedralIndex,
    bilateral_features,
    bucket,
    build_index,
    exact_filter,
    mean_field,
    permutohedral_filter,
    position_features,
    separable_filter,
)
from sdnjax.settings import check_types, setting


@dataclass(frozen=True)
class DenseCRF:
    """Mean field in a dense CRF (Krähenbühl and Koltun, 2011) on a picture's own grid.

    An `Evaluation.finish`. E-CRF's comparison "Vanilla-CRF" (Zhu et al., 2023) names no
    parameters: the defaults are those of the public code's example. Unary energies are
    `−log(max(p, 1e-5))`; kernels are normalised symmetrically; Potts compatibilities.

    `lattice` is the permutohedral approximation of the public code, equal to it in float32;
    `exact` computes all (H·W)² pairs, for small pictures or an accelerator.
    """

    iterations: int = setting(5, "mean field iterations", least=0)
    position_sigma: float = setting(3.0, "σ in pixels of the smoothness kernel", above=0)
    position_weight: float = setting(3.0, "weight of the smoothness kernel")
    bilateral_sigma_xy: float = setting(80.0, "σ in pixels of the appearance kernel", above=0)
    bilateral_sigma_rgb: float = setting(
        13.0, "σ in grey levels, 0–255, of the appearance kernel", above=0
    )
    bilateral_weight: float = setting(10.0, "weight of the appearance kernel")
    implementation: Literal["lattice", "exact"] = setting(
        "lattice", "the public code's approximation, or all pairs of pixels"
    )

    def __post_init__(self) -> None:
        check_types(self)

    @classmethod
    def voc(cls) -> DenseCRF:
        """DeepLabV2's parameters for PASCAL VOC 2012 (Chen et al., 2018)."""
        return cls(
            iterations=10,
            position_sigma=1.0,
            position_weight=3.0,
            bilateral_sigma_xy=67.0,
            bilateral_sigma_rgb=3.0,
            bilateral_weight=4.0,
        )

    def __call__(self, probabilities: np.ndarray, picture: np.ndarray) -> np.ndarray:
        """Labels int32 `[H, W]`; see `marginals`."""
        return np.asarray(self._solved(probabilities, picture, labels=True))

    def marginals(self, probabilities: np.ndarray, picture: np.ndarray) -> np.ndarray:
        """Q, float32 `[H, W, K]`.

        Args:
          probabilities: float32 `[H, W, K]`.
          picture: `[H, W, C]`, 0–255; any number of channels, of which each is a feature.

        Raises:
          InputError: shapes that do not fit; see also `build_index`.
        """
        return np.asarray(self._solved(probabilities, picture, labels=False))

    def _solved(
        self, probabilities: np.ndarray, picture: np.ndarray, *, labels: bool
    ) -> np.ndarray:
        probabilities, picture = np.asarray(probabilities, np.float32), np.asarray(picture)
        if probabilities.ndim != 3 or picture.ndim != 3:
            shapes = f"{probabilities.shape} and {picture.shape}"
            raise InputError(f"DenseCRF takes [H, W, K] and [H, W, C], not {shapes}")
        h, w, k = probabilities.shape
        if picture.shape[:2] != (h, w):
            raise InputError(f"DenseCRF: picture {picture.shape} does not fit {(h, w, k)}")
        bilateral = bilateral_features(picture, self.bilateral_sigma_xy, self.bilateral_sigma_rgb)
        flat = probabilities.reshape(-1, k)
        weights = self.position_weight, self.bilateral_weight
        how: dict[str, Any] = {"iterations": self.iterations, "labels": labels}
        if self.implementation == "exact":
            grid = h, w, self.position_sigma
            found = _with_all_pairs(flat, bilateral, weights, grid=grid, **how)
        else:
            points = bucket(h * w)
            indices = [
                build_index(features, points=points)
                for features in (position_features(h, w, self.position_sigma), bilateral)
            ]
            filled = np.empty((points, k), np.float32)
            filled[: h * w], filled[h * w :] = flat, 1
            found = _with_lattices(filled, indices, weights, **how)
        return np.asarray(found)[: h * w].reshape(h, w, *found.shape[1:])


@functools.partial(jax.jit, static_argnames=("iterations", "labels"))
def _with_lattices(
    probabilities: jax.Array,
    indices: Sequence[PermutohedralIndex],
    weights: Sequence[jax.Array],
    *,
    iterations: int,
    labels: bool,
) -> jax.Array:
    filters = [permutohedral_filter(index) for index in indices]
    return _result(probabilities, filters, weights, iterations, labels)


@functools.partial(jax.jit, static_argnames=("grid", "iterations", "labels"))
def _with_all_pairs(
    probabilities: jax.Array,
    features: jax.Array,
    weights: Sequence[jax.Array],
    *,
    grid: tuple[int, int, float],
    iterations: int,
    labels: bool,
) -> jax.Array:
    filters = [separable_filter(*grid), exact_filter(features)]
    return _result(probabilities, filters, weights, iterations, labels)


def _result(
    probabilities: jax.Array,
    filters: Sequence[Filter],
    weights: Sequence[jax.Array],
    iterations: int,
    labels: bool,
) -> jax.Array:
    unary = -jnp.log(jnp.clip(probabilities, 1e-5, 1))
    q = mean_field(unary, filters, weights, iterations=iterations)
    return jnp.argmax(q, axis=-1).astype(jnp.int32) if labels else q
