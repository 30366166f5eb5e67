"""One scale of an image: where its windows lie, and the sums of their logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from sdnjax.inference.resampling import (
    Interpolation,
    averaged,
    backwards,
    bilinear,
    bucket,
    mirrored,
    moved,
    nearest,
    part,
    reach,
    stacked,
    wrapped,
)


class Compiled(NamedTuple):
    """The compiled functions of a predictor; see `resampling` for what most of them take."""

    # (variables, windows by name: each [B·M, h, w, …], how much of h and w the network sees)
    # → logits [B, M, h, w, K]; of whole pictures on the network's own grid
    network: Callable[..., jax.Array]
    zeros: Callable[..., jax.Array]  # shape → float32 zeros
    sample_rows: Callable[..., dict[str, jax.Array]]
    sample_columns: Callable[..., dict[str, jax.Array]]
    padded: Callable[..., jax.Array]
    add_window: Callable[..., jax.Array]
    add_probabilities: Callable[..., jax.Array]
    class_map: Callable[..., jax.Array]
    likeliest: Callable[..., jax.Array]
    place: Callable[..., dict[str, jax.Array]]  # arrays of the host → device


def scaled_size(
    size: tuple[int, int], scale: float, resize_to: tuple[int, int] | None
) -> tuple[int, int]:
    """Height and width at which a picture of `size` is seen.

    Without `resize_to` both sides are multiplied by `scale`. With `resize_to = (long, short)`
    the picture is fitted into (⌊long·scale⌋, ⌊short·scale⌋), its ratio kept: the factor is the
    smaller of the two quotients. Sizes are ⌊x + ½⌋. This is mmsegmentation's rule, at several
    scales that of its version 0: its version 1 multiplies the *original* size there.
    """
    factor = scale
    if resize_to is not None:
        long, short = (int(side * scale) for side in resize_to)
        factor = min(long / max(size), short / min(size))
    height, width = (max(1, int(side * factor + 0.5)) for side in size)
    return height, width


def window_starts(size: int, window: int, stride: int) -> list[int]:
    """First pixels of the windows along one axis; the last window ends with the image.

    An image no larger than the window has one. This is mmseg's rule.
    """
    if size <= window:
        return [0]
    count = -(-(size - window) // stride) + 1
    return [min(i * stride, size - window) for i in range(count)]


def coverage(size: int, window: int, starts: Sequence[int]) -> np.ndarray:
    """float32 [size]: how many windows cover each pixel."""
    counts = np.zeros(size, np.float32)
    for start in starts:
        counts[start : start + window] += 1
    return counts


def enlarged_size(size: tuple[int, int], window: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a picture enlarged, its ratio kept, until it fills the window.

    One that does is left as it is. The side that decides becomes the window's, the other one is
    cut to whole pixels: Segmenter's rule (`resize` in its `segm/model/utils.py`).
    """
    (height, width), (high, wide) = size, window
    if height >= high and width >= wide:
        return size
    if high * width >= wide * height:
        return high, int(width / height * high)
    return int(height / width * wide), wide


class ScaledLogits:
    """Logits of images of one size, and of their mirror images, at one scale.

    They are made from the top down: a row of windows is predicted when the first strip of output
    rows that reads it is asked for, and forgotten when it is passed. So strips must be asked for
    in order, each once. Where one window holds the whole image, its logits are all there is, and
    strips may be asked for in any order.

    Args:
      run: compiled functions.
      inputs: name → B arrays `[H, W, …]`: `image`, uint8, and labels, int32, −1 beyond the image.
      normalization: uint8 rows → float32 rows.
      output: height and width of the images as they came, in which probabilities are wanted.
      size: height and width of the scaled image.
      window: height and width of the network's input; a smaller image is padded, with zeros when
        it is normalised already and labels with −1.
      stride: vertical and horizontal step of windows.
      canvas: height and width, at least the window's, of the arrays in which windows lie.
      whole: the window is the whole picture, and the network's logits come on their own grid. They
        are resized to the window only where a strip reads them.
      orientations: M, 2 with the mirror image.
      spread: how far apart the scaled rows may be that one strip reads.
      align_corners: how logits are resized.
    """

    def __init__(
        self,
        run: Compiled,
        inputs: Mapping[str, Sequence[np.ndarray]],
        normalization: Callable[[np.ndarray], np.ndarray],
        *,
        output: tuple[int, int],
        size: tuple[int, int],
        window: tuple[int, int],
        stride: tuple[int, int],
        canvas: tuple[int, int],
        whole: bool,
        orientations: int,
        spread: int,
        align_corners: bool,
    ):
        self._run, self._inputs, self._normalization = run, inputs, normalization
        self._size, self._window, self._canvas = size, window, canvas
        self._output_height = output[0]
        self._orientations = orientations
        # Strips go down the picture, and windows with them: sums that no strip will read again make
        # room for the next. When windows are added at row s, the strip at hand reads row s or one
        # below, and so nothing above s − spread: these rows and the windows' must be held.
        self._ring = window[0] + spread
        height, width = inputs["image"][0].shape[:2]
        self._width = bucket(width)
        self._starts, self._columns = (
            window_starts(s, w, t) for s, w, t in zip(size, window, stride, strict=True)
        )
        self._reading = {
            name: tuple(
                (bilinear if name == "image" else nearest)(old, new)
                for old, new in zip((height, width), size, strict=True)
            )
            for name in inputs
        }
        rows, columns = (
            bilinear(old, new, align_corners=align_corners)
            for old, new in zip(size, output, strict=True)
        )
        # How often a pixel was covered is a product, of its row's count and its column's. So the
        # mean over windows needs no array of counts: weights of rows and columns divide by them.
        self.rows = averaged(rows, coverage(size[0], window[0], self._starts))
        covered = coverage(size[1], window[1], self._columns)
        # Logits of the mirror image stay as they come; they are read from the other end.
        self._output_columns = stacked(
            [
                part(averaged(c, covered), 0, output[1], bucket(output[1]))
                for c in (columns, mirrored(columns, size[1]))[:orientations]
            ]
        )
        self._whole, self._align_corners = whole, align_corners
        self._finer: tuple[Interpolation, Interpolation] | None = None
        self._sums: Any = None
        self._done = 0  # rows of windows

    def add_to(self, total: jax.Array, variables: Any, top: int, bottom: int) -> jax.Array:
        """`total [B, T, bucket of W, K]` and the probabilities of output rows top…bottom − 1."""
        last = reach(self.rows, top, bottom)[1]
        while self._done < len(self._starts) and (
            self._done == 0 or last >= self._starts[self._done]
        ):
            self._predict_row_of_windows(variables)
        rows = part(self.rows, top, bottom, total.shape[1])
        if self._has_ring:
            rows = wrapped(rows, self._ring)
        finer = self._finer
        if finer is not None:
            first = reach(self.rows, top, bottom)[0]
            most = bucket(int(total.shape[1] * self._size[0] / self._output_height) + 3)
            finer = part(finer[0], first, last + 1, most), finer[1]
            rows = moved(rows, first)
        return self._run.add_probabilities(total, self._sums, rows, self._output_columns, finer)

    @property
    def _has_ring(self) -> bool:
        return len(self._starts) * len(self._columns) > 1

    def _predict_row_of_windows(self, variables: Any) -> None:
        start = self._starts[self._done]
        strip = self._scaled_rows(start)
        for left in self._columns:
            windows = self._run.sample_columns(strip, self._window_columns(left))
            logits = self._run.network(variables, windows, self._window)
            if self._has_ring:
                self._add(logits, start, left)
            elif self._whole:
                self._keep(logits)
            else:
                self._sums = logits
        self._done += 1

    def _keep(self, logits: jax.Array) -> None:
        """Keeps the logits of a whole picture as they are, and where its pixels lie in them."""
        grid = logits.shape[2:4]
        rows, columns = (
            bilinear(old, new, align_corners=self._align_corners)
            for old, new in zip(grid, self._window, strict=True)
        )
        self._finer = rows, part(columns, 0, self._window[1], bucket(self._window[1]))
        self._sums = self._run.padded(logits, (bucket(grid[0]), bucket(grid[1])))

    def _add(self, logits: jax.Array, start: int, left: int) -> None:
        """Adds the logits of a window whose corner is (start, left) to the ring."""
        (height, width), ring = self._window, self._ring
        if self._sums is None:
            wide = max(width, bucket(self._size[1]))
            self._sums = self._run.zeros((*logits.shape[:2], ring, wide, logits.shape[-1]))
        # Rows below all earlier windows still hold what went round before, and in them the columns
        # right of the window beside: there logits replace, elsewhere they are added. No pass over
        # the ring to clear it is needed.
        above = self._starts[self._done - 1] + height if self._done else 0
        index = self._columns.index(left)
        beside = self._columns[index - 1] + width if index else 0
        new_rows = np.zeros(ring, bool)
        new_rows[np.arange(above, start + height) % ring] = True
        new_columns = np.arange(left, left + width) >= beside
        corner = np.array([start % ring, left], np.int32)
        self._sums = self._run.add_window(self._sums, logits, corner, new_rows, new_columns)

    def _scaled_rows(self, start: int) -> dict[str, jax.Array]:
        """`[B, canvas height, bucket of W, …]`: the rows of the scaled inputs from `start` on."""
        height, old = self._window[0], self._inputs["image"][0].shape[0]
        stop = min(start + height, self._size[0])
        # The most rows that any window of this scale reads, for one shape to compile.
        most = bucket(min(old, int(height * old / self._size[0]) + 3))
        bands, positions = {}, {}
        for name, images in self._inputs.items():
            rows = self._reading[name][0]
            low, high = reach(rows, start, stop)
            kind = np.float32 if name == "image" else np.int32
            band = np.zeros((len(images), most, self._width, *images[0].shape[2:]), kind)
            for image, to in zip(images, band, strict=True):
                values = image[low : high + 1]
                # Weights of 0 pad with 0: labels travel as value + 1, the network gets 0 − 1.
                values = self._normalization(values) if name == "image" else values + 1
                to[: high + 1 - low, : image.shape[1]] = values
            bands[name] = band
            positions[name] = moved(part(rows, start, stop, self._canvas[0]), low)
        return self._run.sample_rows(self._run.place(bands), positions)

    def _window_columns(self, left: int) -> dict[str, Interpolation]:
        """`[M, canvas width]`: columns of the inputs that the window at `left` is made of."""
        size, width = self._size[1], self._window[1]
        stop = min(left + width, size)

        def of(columns: Interpolation) -> Interpolation:
            # No image is mirrored: the mirror image is the same columns, read in reverse.
            both = [columns, backwards(columns)][: self._orientations]
            return stacked([part(c, left, stop, self._canvas[1]) for c in both])

        return {name: of(columns) for name, (_, columns) in self._reading.items()}
