"""One scale of an image: its logits, made from the top down as rows of them are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from sdnjax.inference.geometry import (
    Taps,
    averaged,
    bilinear_taps,
    bucket,
    coverage,
    mirrored,
    part,
    reach,
    stacked,
    window_starts,
)


class Compiled(NamedTuple):
    """The compiled functions of a predictor; see `glue` for what they take."""

    network: Callable  # (variables, windows [B·M, h, w, 3], what the network sees of h, w)
    # → logits [B, M, h, w, K]
    zeros: Callable  # shape → float32 zeros
    sample_rows: Callable
    sample_columns: Callable
    add_window: Callable
    add_probabilities: Callable
    class_map: Callable
    place: Callable  # images of the host → device


class ScaledView:
    """Images of one size at one scale, and their mirror images.

    Rows of windows are predicted when the strip of output rows that needs them is asked for.
    Their sums are kept in a ring of `window height + spread` rows: windows above are finished
    and their rows forgotten. Where one window holds everything, its logits are kept as they are.

    Args:
      run: compiled functions.
      images: B normalised images `float32 [H, W, 3]`.
      size: height and width of the scaled image.
      window: height and width of the network's input; a smaller image is padded with zeros.
      canvas: height and width, at least the window's, of the arrays that windows and their
        logits lie in: whole images have many sizes, canvases few.
      stride: vertical and horizontal step of windows.
      views: M, 2 with the mirror image.
      spread: a strip may read scaled rows at most so far apart.
      align_corners: how logits are resized.
    """

    def __init__(
        self,
        run: Compiled,
        images: Sequence[np.ndarray],
        size: tuple[int, int],
        window: tuple[int, int],
        stride: tuple[int, int],
        *,
        canvas: tuple[int, int],
        views: int,
        spread: int,
        align_corners: bool,
    ):
        self._run, self._images, self._size, self._window = run, images, size, window
        height, width = images[0].shape[:2]
        self._canvas, self._views, self._ring = canvas, views, window[0] + spread
        self._starts, self._columns = (
            window_starts(s, w, t) for s, w, t in zip(size, window, stride, strict=True)
        )
        self._input_rows, self._input_columns = (
            bilinear_taps(old, new) for old, new in zip((height, width), size, strict=True)
        )
        rows, columns = (
            bilinear_taps(old, new, align_corners=align_corners)
            for old, new in zip(size, (height, width), strict=True)
        )
        self.rows = averaged(rows, coverage(size[0], window[0], self._starts))
        self._width = bucket(width)
        covered = coverage(size[1], window[1], self._columns)
        self._output_columns = stacked(
            [
                part(averaged(c, covered), 0, width, self._width)
                for c in (columns, mirrored(columns, size[1]))[:views]
            ]
        )
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
        if self._is_ring:
            second = None if rows.second is None else rows.second % self._ring
            rows = rows._replace(first=rows.first % self._ring, second=second)
        return self._run.add_probabilities(total, self._sums, rows, self._output_columns)

    @property
    def _is_ring(self) -> bool:
        return len(self._starts) * len(self._columns) > 1

    def _predict_row_of_windows(self, variables: Any) -> None:
        start = self._starts[self._done]
        strip = self._scaled_rows(start)
        for left in self._columns:
            windows = self._run.sample_columns(strip, self._window_columns(left))
            logits = self._run.network(variables, windows, self._window)
            if self._is_ring:
                self._add(logits, start, left)
            else:
                self._sums = logits
        self._done += 1

    def _add(self, logits: jax.Array, start: int, left: int) -> None:
        """Adds the logits of a window whose corner is (start, left) to the ring."""
        (height, width), ring = self._window, self._ring
        if self._sums is None:
            wide = max(width, bucket(self._size[1]))
            self._sums = self._run.zeros((*logits.shape[:2], ring, wide, logits.shape[-1]))
        above = self._starts[self._done - 1] + height if self._done else 0
        index = self._columns.index(left)
        beside = self._columns[index - 1] + width if index else 0
        new_rows = np.zeros(ring, bool)
        new_rows[np.arange(above, start + height) % ring] = True
        new_columns = np.arange(left, left + width) >= beside
        corner = np.array([start % ring, left], np.int32)
        self._sums = self._run.add_window(self._sums, logits, corner, new_rows, new_columns)

    def _scaled_rows(self, start: int) -> jax.Array:
        """`[B, canvas height, bucket of W, 3]`: the rows of the scaled image from `start` on."""
        rows, height = self._input_rows, self._window[0]
        stop = min(start + height, self._size[0])
        old = self._images[0].shape[0]
        low, high = reach(rows, start, stop)
        most = min(old, int(height * old / self._size[0]) + 3)
        band = np.zeros((len(self._images), bucket(most), self._width, 3), np.float32)
        for image, to in zip(self._images, band, strict=True):
            to[: high + 1 - low, : image.shape[1]] = image[low : high + 1]
        taps = part(rows, start, stop, self._canvas[0])
        second = None if taps.second is None else np.maximum(taps.second - low, 0)
        taps = taps._replace(first=np.maximum(taps.first - low, 0), second=second)
        return self._run.sample_rows(self._run.place(band), taps)

    def _window_columns(self, left: int) -> Taps:
        """`[M, canvas width]`: columns of the image that the window at `left` is made of."""
        columns, size, width = self._input_columns, self._size[1], self._window[1]
        stop = min(left + width, size)
        backwards = Taps(*(None if x is None else x[::-1] for x in columns))
        views = [columns, backwards][: self._views]
        return stacked([part(c, left, stop, self._canvas[1]) for c in views])
