"""`Predictor`: class maps of pictures of any size, with few compilations and bounded memory."""

from __future__ import annotations

import collections
import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from sdnjax.errors import InputError
from sdnjax.inference import resampling
from sdnjax.inference.canvas import canvas_offset, on_canvas
from sdnjax.inference.protocols import Evaluation, finish_name
from sdnjax.inference.resampling import bucket, strip_height, strips
from sdnjax.inference.windows import Compiled, ScaledLogits, enlarged_size, scaled_size
from sdnjax.models.inputs import inputs_of
from sdnjax.ops import resize_bilinear
from sdnjax.ops.normalization import Normalization

Extras = Sequence[Mapping[str, np.ndarray]]


class Predictor:
    """Predicts with one network by one protocol.

    A picture is put on the protocol's canvas first, if there is one, and its middle is taken out
    last. It is seen at each scale, as it is and mirrored; logits are resized to the picture's
    own size, normalised, and the probabilities are averaged. Pictures are resized as floats by
    `resize_bilinear`: half-pixel centres, no antialiasing. OpenCV's bilinear resizing of uint8
    images, which mmsegmentation uses, is the same up to its rounding to whole grey levels.

    **Inputs.** What the network asks for besides the image (`sdnjax.models.inputs`) it gets for
    every window: labels such as `superpixels` resized and mirrored by nearest, −1 beyond the
    picture; `picture` made from the image.

    **Compilations.** `compilations` counts them: `network` once for each size of its input, a
    whole picture's or the one size of a window, and `resampling`, all that happens around it.
    A few functions are compiled for each size of picture, but sizes are first rounded up to
    `bucket`s, four for each doubling; where a scale does not change the size they are others.

    **Memory.** Output is made in strips of at most 128 rows and 32 MiB of probabilities. With
    sliding windows, each scale and mirror keeps `(window height + 2 strips) · scaled width · K`
    sums of logits: whatever the picture's height. Of whole pictures, one scale's `scores` are held
    at a time, on the network's own grid (the output that the network's `logits_from` names, or its
    `logits` if there is none), and at several scales the probabilities of the picture.

    Works on this process's devices: a batch that divides over them is split, any other
    runs on the first. Parameters are given at each call, so the compiled functions serve
    every validation of a run.

    Args:
      network: takes `[B, h, w, C]` normalised and `train`, and returns at least `logits`.
      protocol: how pictures are seen, and what makes labels of probabilities.
      normalization: of the pictures, that of training.
      mirrored: class → what it is in the mirror image, in which `flip` predicts it; None: the same.

    Raises: InputError if the network asks for an input that nobody supplies.
    """

    def __init__(
        self,
        network: nn.Module,
        protocol: Evaluation,
        normalization: Normalization,
        mirrored: tuple[int, ...] | None = None,
    ):
        self._protocol, self._normalization = protocol, normalization
        self._network_name = type(network).__name__
        self._align_corners = getattr(network, "align_corners", False)
        self._logits_from = getattr(network, "logits_from", "scores")
        inputs = inputs_of(network)
        self.extras = tuple(name for name in inputs if name != "picture")
        self.compilations: collections.Counter[str] = collections.Counter()
        devices = jax.local_devices()
        split = protocol.batch_size % len(devices) == 0
        devices = devices if split else devices[:1]
        mesh = jax.make_mesh(
            (len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices
        )
        self._mesh = mesh
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._by_image = NamedSharding(mesh, PartitionSpec("data"))

        def logits_of(
            variables: Any, windows: dict[str, jax.Array], size: tuple[int, int]
        ) -> jax.Array:
            # Whole pictures have many sizes, of which the network must see the exact ones; the
            # arrays that go in have a canvas's, so that resampling has few.
            seen = {name: x[:, : size[0], : size[1]] for name, x in windows.items()}
            image = seen.pop("image")
            given = {name: labels - 1 for name, labels in seen.items()}
            if "picture" in inputs:
                given["picture"] = normalization.picture(image)
            apply: Callable[..., Any] = network.apply
            outputs = apply(variables, image, train=False, **given)
            logits = outputs["logits"]
            if protocol.mode == "slide":
                logits = resize_bilinear(
                    logits.astype(jnp.float32), size, align_corners=self._align_corners
                )
            else:
                # What they are resized from, if the network tells, takes a fraction of the memory.
                logits = outputs.get(self._logits_from, logits).astype(jnp.float32)
            return logits.reshape(protocol.batch_size, -1, *logits.shape[1:])

        self._logits_of = logits_of
        self._classes: int | None = None  # K, known with the first picture
        self._run = Compiled(
            network=self._compiled("network", logits_of, static_argnums=2),
            zeros=self._compiled("resampling", jnp.zeros, static_argnums=0),
            sample_rows=self._compiled("resampling", resampling.sample_rows),
            sample_columns=self._compiled("resampling", resampling.sample_columns),
            padded=self._compiled("resampling", resampling.padded, static_argnums=1),
            add_window=self._compiled("resampling", resampling.add_window, donate_argnums=0),
            add_probabilities=self._compiled(
                "resampling",
                functools.partial(resampling.add_probabilities, mirrored=mirrored),
                donate_argnums=0,
            ),
            class_map=self._compiled("resampling", resampling.class_map),
            likeliest=self._compiled("resampling", resampling.likeliest, static_argnums=(1, 2)),
            place=lambda inputs: jax.device_put(inputs, self._by_image),
        )

    def _compiled(self, kind: str, function: Callable, **how: Any) -> Callable:
        @functools.wraps(function)
        def counted(*arguments: Any) -> Any:
            self.compilations[kind] += 1  # runs while tracing: once for each set of shapes
            return function(*arguments)

        compiled = jax.jit(counted, out_shardings=self._by_image, **how)

        @functools.wraps(function)
        def run(*arguments: Any) -> Any:
            with jax.set_mesh(self._mesh):  # kernels ask it how batches are split
                return compiled(*arguments)

        return run

    def place(self, variables: Any) -> Any:
        """Brings `params` and `batch_stats` to this predictor's devices, once per network.

        They may be sharded over the devices of this process or, if every process calls this, of
        several; each device gets them whole.
        """
        return jax.device_put(jax.tree.map(_within_reach, variables), self._everywhere)

    def labels(
        self, variables: Any, pictures: Sequence[np.ndarray], extras: Extras = ()
    ) -> list[np.ndarray]:
        """Class maps `uint8 [H, W]` of pictures of one size; int32 with more than 256 classes.

        Args:
          variables: see `place`.
          pictures: at most a batch, uint8 `[H, W, C]` as they were read. A smaller batch is filled
            up with the last one.
          extras: for each picture the inputs that the network asks for (`self.extras`) by name,
            integers `[H, W]`; others are left alone.

        Raises:
          InputError: a picture is no uint8 array of that size, an input of the network is missing
            or does not fit its picture.
          ValueError: what `protocol.finish` returned is no class map.
        """
        if self._protocol.finish is None:
            return self._gathered(variables, pictures, extras, self._run.class_map)
        return [labels for labels, _ in self.both(variables, pictures, extras)]

    def probabilities(
        self, variables: Any, pictures: Sequence[np.ndarray], extras: Extras = ()
    ) -> list[np.ndarray]:
        """As `labels`, but `float32 [H, W, K]`, which is large: the means over scales and mirrors,
        without `protocol.finish`."""
        return [own for _, own in self._means(variables, pictures, extras)]

    def both(
        self, variables: Any, pictures: Sequence[np.ndarray], extras: Extras = ()
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """`labels` and `probabilities` of each picture, at once."""
        finish = self._protocol.finish
        assert not isinstance(finish, str)  # `Evaluation` has put its value in place of a name

        def labels(total: np.ndarray, own: np.ndarray, picture: np.ndarray) -> np.ndarray:
            # Of the sums, as on the device: a quotient may make equal what was not.
            found = total.argmax(-1) if finish is None else finish(own, picture)
            return _checked(found, own.shape, "argmax" if finish is None else finish_name(finish))

        found = self._means(variables, pictures, extras)
        return [
            (labels(total, own, picture), own)
            for (total, own), picture in zip(found, pictures, strict=True)
        ]

    def likeliest(
        self,
        variables: Any,
        pictures: Sequence[np.ndarray],
        extras: Extras = (),
        *,
        count: int,
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """`labels`, and uint16 `[H, W, 2, count]`: the likeliest classes of each pixel in falling
        order, and their probabilities in whole percent, before any `protocol.finish`.

        There are K where K is less than `count`. Without a `finish` probabilities never leave the
        device, so memory does not grow with K.
        """
        if self._protocol.finish is None:
            found = self._gathered(
                variables,
                pictures,
                extras,
                lambda total: self._run.likeliest(total, self._views, count),
            )
            narrow = np.uint8 if self._classes is not None and self._classes <= 256 else np.int32
            return [(x[..., 0, 0].astype(narrow), x) for x in found]
        both = self.both(variables, pictures, extras)
        return [
            (labels, np.asarray(resampling.likeliest(jnp.asarray(own), 1.0, count)))
            for labels, own in both
        ]

    def _means(
        self, variables: Any, pictures: Sequence[np.ndarray], extras: Extras
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """The sums of probabilities over scales and mirrors, and their means."""
        found = self._gathered(variables, pictures, extras, lambda total: total)
        return [(total, total / np.float32(self._views)) for total in found]

    @property
    def _views(self) -> int:
        """How many probabilities are averaged: scales, mirrored or not."""
        return len(self._protocol.scales) * (1 + self._protocol.flip)

    def check(self, variables: Any, size: tuple[int, int]) -> None:
        """Traces the network for a picture `[H, W]` at every scale; nothing is compiled.

        Raises:
          InputError: from the network, of a picture that it cannot take, and from
            `protocol.finish`, if that has a `check()`, of what it lacks.
        """
        check = getattr(self._protocol.finish, "check", None)
        if check is not None:
            check()
        size = self._protocol.canvas or size
        for scale in self._protocol.scales:
            seen = scaled_size(size, scale, self._protocol.resize_to)
            if self._protocol.mode == "slide" and self._protocol.small == "enlarge":
                seen = enlarged_size(seen, self._protocol.window)
            self._traced(variables, self._window(seen))

    def _gathered(
        self,
        variables: Any,
        pictures: Sequence[np.ndarray],
        extras: Extras,
        of_strip: Callable[[jax.Array], jax.Array],
    ) -> list[np.ndarray]:
        """What `of_strip` makes of the strips, put together for each picture."""
        inputs = self._inputs(pictures, extras)
        own = height, width = pictures[0].shape[:2]
        above, left = 0, 0
        if self._protocol.canvas is not None:
            height, width = self._protocol.canvas
            above, left = canvas_offset(own, self._protocol.canvas)
            inputs = {
                name: [on_canvas(x, (height, width), 0 if name == "image" else -1) for x in arrays]
                for name, arrays in inputs.items()
            }
        found: Any = None
        for top, bottom, total in self._strips(variables, inputs):
            strip = np.asarray(of_strip(total))[: len(pictures), : bottom - top, :width]
            if found is None:
                found = np.empty((len(pictures), height, *strip.shape[2:]), strip.dtype)
            found[:, top:bottom] = strip
        return list(found[:, above : above + own[0], left : left + own[1]])

    def _inputs(
        self, pictures: Sequence[np.ndarray], extras: Extras
    ) -> dict[str, list[np.ndarray]]:
        """Name → a whole batch of arrays, checked."""
        batch, channels = self._protocol.batch_size, len(self._normalization.mean)
        if not 1 <= len(pictures) <= batch:
            raise InputError(f"{len(pictures)} pictures for a batch of {batch}")
        shape = (*np.shape(pictures[0])[:2], channels)
        for picture in pictures:
            if np.shape(picture) != shape or getattr(picture, "dtype", None) != np.uint8:
                raise InputError(
                    f"pictures must be uint8 [H, W, {channels}] of one size as they were read, "
                    f"not {getattr(picture, 'dtype', type(picture))} {np.shape(picture)}"
                )
        if self.extras and extras and len(extras) != len(pictures):
            raise InputError(f"{len(extras)} extras for {len(pictures)} pictures")
        inputs = {"image": list(pictures)}
        for name in self.extras:
            inputs[name] = []
            for own in extras or [{}] * len(pictures):
                if own.get(name) is None:
                    raise InputError(f"{self._network_name} needs {name} beside every picture")
                labels = np.asarray(own[name])
                if labels.shape != shape[:2] or labels.dtype.kind not in "iu":
                    raise InputError(
                        f"{name} must be integers {shape[:2]} as their picture is, "
                        f"not {labels.dtype} {labels.shape}"
                    )
                inputs[name].append(labels.astype(np.int32))
        return {name: [*x, *[x[-1]] * (batch - len(x))] for name, x in inputs.items()}

    def _strips(
        self, variables: Any, inputs: dict[str, list[np.ndarray]]
    ) -> Iterator[tuple[int, int, jax.Array]]:
        """First row, row after the last, and the sums of probabilities over scales and mirrors
        there, `[B, T, bucket of W, K]`, of which the first rows and columns are meant."""
        protocol = self._protocol
        height, width = inputs["image"][0].shape[:2]
        batch = len(inputs["image"])
        sizes = [scaled_size((height, width), s, protocol.resize_to) for s in protocol.scales]
        slide = protocol.mode == "slide"
        k = self._num_classes(variables, self._window(sizes[0]))
        rows = strip_height(height, batch * bucket(width) * k * 4)
        shape = (batch, rows, bucket(width), k)
        spread = 2 * rows if slide else sys.maxsize

        def scaled(size: tuple[int, int]) -> ScaledLogits:
            seen = inputs
            if slide and protocol.small == "enlarge":
                size, seen = self._enlarged(size, inputs)
            window = self._window(size)
            return ScaledLogits(
                self._run,
                seen,
                self._normalization,
                output=(height, width),
                size=size,
                window=window,
                stride=protocol.stride,
                canvas=window if slide else (bucket(window[0]), bucket(window[1])),
                whole=not slide,
                orientations=1 + protocol.flip,
                spread=spread,
                align_corners=self._align_corners,
            )

        # Rings of logits are small, and so is one scale of a whole picture: every strip is finished
        # before the next one is begun. Several scales of whole pictures would add up, so there
        # every scale is finished before the next.
        if slide or len(sizes) == 1:
            scales = [scaled(size) for size in sizes]
            reading = [s.rows for s in scales] if slide else []
            for top, bottom in strips(height, rows, reading, spread):
                total = self._run.zeros(shape)
                for s in scales:
                    total = s.add_to(total, variables, top, bottom)
                yield top, bottom, total
        else:
            bounds = strips(height, rows, [], spread)
            totals = [self._run.zeros(shape) for _ in bounds]
            for size in sizes:
                s = scaled(size)
                for i, (top, bottom) in enumerate(bounds):
                    totals[i] = s.add_to(totals[i], variables, top, bottom)
            for (top, bottom), total in zip(bounds, totals, strict=True):
                yield top, bottom, total

    def _enlarged(
        self, size: tuple[int, int], inputs: dict[str, list[np.ndarray]]
    ) -> tuple[tuple[int, int], dict[str, list[np.ndarray]]]:
        """The size at which a scaled picture fills the window, and the inputs to make it of.

        It is resized twice, as Segmenter does: to its scale, and from there to the window.
        """
        found = enlarged_size(size, self._protocol.window)
        if found == size:
            return size, inputs
        return found, {
            name: [resampling.resized(x, size, labels=name != "image") for x in own]
            for name, own in inputs.items()
        }

    def _window(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the network's input for a picture scaled to `size`."""
        protocol = self._protocol
        if protocol.mode == "whole":
            m = protocol.size_multiple
            return size[0] + -size[0] % m, size[1] + -size[1] % m
        if protocol.small == "shrink":
            return min(size[0], protocol.window[0]), min(size[1], protocol.window[1])
        return protocol.window

    def _num_classes(self, variables: Any, window: tuple[int, int]) -> int:
        if self._classes is None:  # tracing a large network takes a second
            self._classes = self._traced(variables, window).shape[-1]
        return self._classes

    def _traced(self, variables: Any, window: tuple[int, int]) -> jax.ShapeDtypeStruct:
        """Shape and type of the logits of a window, or of a whole picture of its size."""
        batch = self._protocol.batch_size * (1 + self._protocol.flip)
        shape = (batch, *window)
        channels = len(self._normalization.mean)
        windows = {"image": jax.ShapeDtypeStruct((*shape, channels), jnp.float32)}
        windows |= {name: jax.ShapeDtypeStruct(shape, jnp.int32) for name in self.extras}
        logits_of = functools.partial(self._logits_of, size=window)
        return jax.eval_shape(logits_of, variables, windows)


def _within_reach(x: Any) -> Any:
    """`x` as an array that lies on devices of this process, complete."""
    if not isinstance(x, jax.Array) or x.is_fully_addressable:
        return x
    if not x.is_fully_replicated:
        # Every process evaluates its share of the pictures, so all of them take part.
        if not isinstance(x.sharding, NamedSharding):
            return multihost_utils.process_allgather(x, tiled=True)
        everywhere = NamedSharding(x.sharding.mesh, PartitionSpec())
        x = jax.jit(_identity, out_shardings=everywhere)(x)
    return x.addressable_data(0)


def _identity(x: jax.Array) -> jax.Array:
    return x


def _checked(labels: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    """The class map that a `finish` made of probabilities of `shape`, `[H, W, K]`."""
    found, k = np.asarray(labels), shape[-1]
    if found.shape != shape[:-1] or found.dtype.kind not in "iu":
        raise ValueError(
            f"evaluation.finish: {name} must return integers {shape[:-1]}, "
            f"not {found.dtype} {found.shape}"
        )
    if found.min() < 0 or found.max() >= k:
        raise ValueError(
            f"evaluation.finish: {name} returned {found.min()}…{found.max()}; classes are 0…{k - 1}"
        )
    return found.astype(np.uint8 if k <= 256 else np.int32)
