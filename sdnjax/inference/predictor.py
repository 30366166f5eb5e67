"""`Predictor`: class maps of images of any size, with few compilations and bounded memory."""

from __future__ import annotations

import collections
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from sdnjax.inference import glue
from sdnjax.inference.geometry import bucket, scaled_size, strip_height, strips
from sdnjax.inference.protocols import Evaluation
from sdnjax.inference.views import Compiled, ScaledView
from sdnjax.ops import resize_bilinear


class Predictor:
    """Predicts with one network by one protocol.

    Every image is seen at each scale, as it is and mirrored; logits are resized to the image's
    own size, normalised, and the probabilities are averaged. Images are resized as floats by
    `resize_bilinear`: half-pixel centres, no antialiasing. OpenCV's bilinear resizing of uint8
    images, which mmsegmentation uses, is the same up to its rounding to whole grey levels.

    **Compilations.** The network is compiled once for each size of its input: padded image
    sizes, or the one size of a window. What resizes and averages works on sizes rounded up to
    `geometry.bucket`s, four for each doubling. For each pair of an image's and an input's bucket
    that occurs it has rows in, columns in, a ring, windows added, and the way back, each with and
    without a change of size if both occur; for each bucket of images zeros and a class map.
    `compilations` counts everything that is compiled.

    **Memory.** Output is made in strips of at most 128 rows and 32 MiB of probabilities. With
    sliding windows, each scale and mirror keeps `(window height + 2 strips) · scaled width · K`
    sums of logits: whatever the image's height. With whole images, one scale's logits are held at
    a time, and the probabilities of the image.

    Works on this process's devices: a batch that divides over them is split, any other
    runs on the first. Parameters are given at each call, so the compiled functions serve
    every validation of a run.
    """

    def __init__(self, model: nn.Module, protocol: Evaluation):
        self._protocol = protocol
        self._align_corners = getattr(model, "align_corners", False)
        self.compilations: collections.Counter[str] = collections.Counter()
        devices = jax.local_devices()
        split = protocol.batch_size % len(devices) == 0
        devices = devices if split else devices[:1]
        mesh = jax.make_mesh(
            (len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices
        )
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._by_image = NamedSharding(mesh, PartitionSpec("data"))

        def network(variables: Any, windows: jax.Array, size: tuple[int, int]) -> jax.Array:
            canvas = windows.shape[1:3]
            seen = windows[:, : size[0], : size[1]]
            logits = model.apply(variables, seen, train=False)["logits"].astype(jnp.float32)
            logits = resize_bilinear(logits, size, align_corners=self._align_corners)
            rest = [(0, a - b) for a, b in zip(canvas, size, strict=True)]
            logits = jnp.pad(logits, ((0, 0), *rest, (0, 0)))
            return logits.reshape(protocol.batch_size, -1, *logits.shape[1:])

        self._network = network
        self._classes: int | None = None  # K, known with the first image
        self._run = Compiled(
            network=self._compiled("network", network, static_argnums=2),
            zeros=self._compiled("glue", jnp.zeros, static_argnums=0),
            sample_rows=self._compiled("glue", glue.sample_rows),
            sample_columns=self._compiled("glue", glue.sample_columns),
            add_window=self._compiled("glue", glue.add_window, donate_argnums=0),
            add_probabilities=self._compiled("glue", glue.add_probabilities, donate_argnums=0),
            class_map=self._compiled("glue", glue.class_map),
            place=lambda images: jax.device_put(images, self._by_image),
        )

    def _compiled(self, kind: str, function: Callable, **how: Any) -> Callable:
        @functools.wraps(function)
        def counted(*arguments: Any) -> Any:
            self.compilations[kind] += 1  # runs while tracing: once for each set of shapes
            return function(*arguments)

        return jax.jit(counted, out_shardings=self._by_image, **how)

    def place(self, variables: Any) -> Any:
        """Copies `params` and `batch_stats` to this predictor's devices, once per network."""
        return jax.device_put(jax.device_get(variables), self._everywhere)

    def labels(self, variables: Any, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Class maps `uint8 [H, W]` of normalised images `float32 [H, W, 3]` of one size.

        Fewer images than the batch size are filled up with the last one. The maps are int32
        with more than 256 classes.
        """
        return self._gathered(variables, images, self._run.class_map)

    def probabilities(self, variables: Any, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """As `labels`, but `float32 [H, W, K]`, which is large: the means over all views."""
        views = np.float32(len(self._protocol.scales) * (1 + self._protocol.flip))
        return [p / views for p in self._gathered(variables, images, lambda total: total)]

    def _gathered(
        self, variables: Any, images: Sequence[np.ndarray], finish: Callable
    ) -> list[np.ndarray]:
        """What `finish` makes of the strips, put together for each image."""
        height, width = images[0].shape[:2]
        found: Any = None
        for top, bottom, total in self._strips(variables, images):
            strip = np.asarray(finish(total))[: len(images), : bottom - top, :width]
            if found is None:
                found = np.empty((len(images), height, *strip.shape[2:]), strip.dtype)
            found[:, top:bottom] = strip
        return list(found)

    def _strips(
        self, variables: Any, images: Sequence[np.ndarray]
    ) -> Iterator[tuple[int, int, jax.Array]]:
        """First row, row after the last, and the sums of all views' probabilities there,
        `[B, T, bucket of W, K]`, of which the first rows and columns are meant."""
        protocol = self._protocol
        images = [*images, *[images[-1]] * (protocol.batch_size - len(images))]
        height, width = images[0].shape[:2]
        sizes = [scaled_size((height, width), s, protocol.resize_to) for s in protocol.scales]
        k = self._num_classes(variables, self._window(sizes[0]))
        shape = (bucket(width), k)
        rows = strip_height(height, len(images) * shape[0] * k * 4)
        shape = (len(images), rows, *shape)
        slide = protocol.mode == "slide"
        spread = 2 * rows if slide else sys.maxsize

        def view(size: tuple[int, int]) -> ScaledView:
            return ScaledView(
                self._run,
                images,
                size,
                self._window(size),
                protocol.stride,
                canvas=self._canvas(self._window(size)),
                views=1 + protocol.flip,
                spread=spread,
                align_corners=self._align_corners,
            )

        if slide:  # every view moves down with the strips
            views = [view(size) for size in sizes]
            for top, bottom in strips(height, rows, [v.rows for v in views], spread):
                total = self._run.zeros(shape)
                for v in views:
                    total = v.add_to(total, variables, top, bottom)
                yield top, bottom, total
        else:  # one view after another: none is needed twice
            bounds = strips(height, rows, [], spread)
            totals = [self._run.zeros(shape) for _ in bounds]
            for size in sizes:
                v = view(size)
                for i, (top, bottom) in enumerate(bounds):
                    totals[i] = v.add_to(totals[i], variables, top, bottom)
            for (top, bottom), total in zip(bounds, totals, strict=True):
                yield top, bottom, total

    def _window(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the network's input for an image scaled to `size`."""
        protocol, m = self._protocol, self._protocol.size_multiple
        if protocol.mode == "whole":
            return size[0] + -size[0] % m, size[1] + -size[1] % m
        if m == 1:
            return min(size[0], protocol.window[0]), min(size[1], protocol.window[1])
        return protocol.window

    def _canvas(self, window: tuple[int, int]) -> tuple[int, int]:
        if self._protocol.mode == "slide":
            return window
        return bucket(window[0]), bucket(window[1])

    def _num_classes(self, variables: Any, window: tuple[int, int]) -> int:
        if self._classes is None:  # tracing a large network takes a second
            batch = self._protocol.batch_size * (1 + self._protocol.flip)
            windows = jax.ShapeDtypeStruct((batch, *window, 3), jnp.float32)
            network = functools.partial(self._network, size=window)
            self._classes = jax.eval_shape(network, variables, windows).shape[-1]
        return self._classes
