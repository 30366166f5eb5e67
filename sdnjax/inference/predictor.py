"""`Predictor`: class maps of images of any size, with few compilations."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from sdnjax.inference.config import Evaluation
from sdnjax.inference.sliding import sliding_logits
from sdnjax.ops import resize_bilinear


class Predictor:
    """Predicts with one network by one protocol; compiles once per padded size and scale.

    Works on this process's devices: a batch that divides over them is split, any other
    runs on the first. Parameters are given at each call, so the compiled functions serve
    every validation of a run.
    """

    def __init__(self, model: nn.Module, protocol: Evaluation):
        self._protocol = protocol
        self.compilations = 0
        devices = jax.local_devices()
        split = protocol.batch_size % len(devices) == 0
        devices = devices if split else devices[:1]
        mesh = jax.make_mesh(
            (len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices
        )
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._by_image = NamedSharding(mesh, PartitionSpec("data"))

        @functools.partial(jax.jit, static_argnames=("scale", "flip"))
        def probabilities(variables: Any, images: jax.Array, scale: float, flip: bool) -> jax.Array:
            self.compilations += 1  # runs while tracing: once for each size, scale and mirror
            return scaled_probabilities(model, variables, images, protocol, scale=scale, flip=flip)

        self._probabilities = probabilities
        self._labels = jax.jit(lambda p: jnp.argmax(p, axis=-1).astype(jnp.uint8))

    def place(self, variables: Any) -> Any:
        """Copies `params` and `batch_stats` to this predictor's devices, once per network."""
        return jax.device_put(jax.device_get(variables), self._everywhere)

    def labels(self, variables: Any, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Class maps `uint8 [H, W]` of normalised images `float32 [H, W, 3]` of one size.

        Probabilities are averaged over scales and mirrors. Fewer images than the batch
        size are filled up with the last one.
        """
        h, w, _ = images[0].shape
        filled = [*images, *[images[-1]] * (self._protocol.batch_size - len(images))]
        m = self._protocol.size_multiple
        padding = ((0, 0), (0, -h % m), (0, -w % m), (0, 0))
        batch = jax.device_put(np.pad(np.stack(filled), padding), self._by_image)
        mirrors = (False, True) if self._protocol.flip else (False,)
        total: Any = 0.0
        for scale in self._protocol.scales:
            for flip in mirrors:
                total = total + self._probabilities(variables, batch, scale=scale, flip=flip)
        found = np.asarray(self._labels(total))
        return [x[:h, :w] for x in found[: len(images)]]


def scaled_probabilities(
    model: nn.Module,
    variables: Any,
    images: jax.Array,
    protocol: Evaluation,
    *,
    scale: float = 1.0,
    flip: bool = False,
) -> jax.Array:
    """Class probabilities `[B, H, W, K]` of images seen at one scale, mirrored or not.

    The image is resized bilinearly, its logits are resized back and then normalised.
    """
    _, h, w, _ = images.shape

    def logits_of(x: jax.Array) -> jax.Array:
        return model.apply(variables, x, train=False)["logits"]

    x = images[:, :, ::-1] if flip else images
    x = resize_bilinear(x, (max(1, round(h * scale)), max(1, round(w * scale))))
    if protocol.mode == "slide":
        logits = sliding_logits(logits_of, x, protocol.window, protocol.stride)
    else:
        logits = logits_of(x)
    logits = resize_bilinear(logits, (h, w), align_corners=getattr(model, "align_corners", False))
    probabilities = jax.nn.softmax(logits, axis=-1)
    return probabilities[:, :, ::-1] if flip else probabilities
