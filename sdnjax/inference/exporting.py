"""A protocol as one pure function: uint8 pictures in, classes out, everything between inside.

`Predictor` works picture by picture on the host, in strips and with few compilations. What is
exported is one program instead, for one size, or with symbols in the place of sizes: the same
positions, weights, sums and order of windows, in plain JAX. Memory is that of the whole picture.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from sdnjax.errors import InputError
from sdnjax.inference.canvas import canvas_offset
from sdnjax.inference.protocols import Evaluation, finish_name
from sdnjax.inference.threshold import Threshold
from sdnjax.inference.windows import coverage, enlarged_size, scaled_size, window_starts
from sdnjax.models.inputs import inputs_of
from sdnjax.ops import resize_bilinear
from sdnjax.ops.normalization import Normalization
from sdnjax.ops.sizes import known

Segment = Callable[[jax.Array], dict[str, jax.Array]]


def segment_function(
    network: nn.Module,
    variables: Any,
    protocol: Evaluation,
    normalization: Normalization,
    *,
    mirrored: tuple[int, ...] | None = None,
    value_range: tuple[float, float] | None = None,
    probabilities: bool = False,
) -> Segment:
    """`pictures [B, H, W, C]` → `labels [B, H, W]`, uint8, or int32 with more than 256 classes.

    Args:
      variables: of the network; they become constants of whatever traces the function.
      protocol: as of `Predictor`; `batch_size` has no meaning here.
      mirrored: as of `Predictor`.
      value_range: None for uint8 pictures; else pictures are float32 and these two values become 0
        and 255, rounded to 256 levels, and what lies beyond is cut.
      probabilities: whether `probabilities`, float32 `[B, H, W, K]`, is a second output.

    Raises:
      InputError: here for a protocol or a network that needs the host; the function, for symbolic
        sizes, for a protocol that needs numbers.
    """
    extras = [name for name in inputs_of(network) if name != "picture"]
    if extras:
        raise InputError(f"the network reads {', '.join(extras)}, which are made on the host")
    finish = protocol.finish
    if finish is not None and not isinstance(finish, Threshold):
        raise InputError(
            f"evaluation.finish {finish_name(finish)} works on the host: none leaves it out"
        )

    def logits_of(x: jax.Array) -> jax.Array:
        given = {"picture": normalization.picture(x)} if "picture" in inputs_of(network) else {}
        apply: Callable[..., Any] = network.apply
        return apply(variables, x, train=False, **given)["logits"].astype(jnp.float32)

    resize = functools.partial(
        resize_bilinear, align_corners=getattr(network, "align_corners", False)
    )

    def seen(x: jax.Array, size: tuple[int, int]) -> jax.Array:
        """Logits of normalised pictures, `[B, *size, K]`, at their own size."""
        if protocol.mode == "slide":
            return _slid(x, size, logits_of, resize, protocol)
        m = protocol.size_multiple
        if m > 1:
            x = jnp.pad(x, ((0, 0), *((0, -n % m) for n in size), (0, 0)))
        return logits_of(x)[:, : size[0], : size[1]]

    def segment(pictures: jax.Array) -> dict[str, jax.Array]:
        x = pictures if value_range is None else _levels(pictures, *value_range)
        _, height, width, _ = pictures.shape
        own = height, width
        if not known(own):
            _check_symbolic(protocol)
        corner, size = (0, 0), own
        if protocol.canvas is not None:
            corner, size = canvas_offset(own, protocol.canvas), protocol.canvas
            around = [(a, n - a - o) for a, n, o in zip(corner, size, own, strict=True)]
            x = jnp.pad(x, ((0, 0), *around, (0, 0)))
        mean, inverse_std = normalization.constants()
        x = (x.astype(jnp.float32) - mean) * inverse_std
        total = jnp.zeros(())
        for scale in protocol.scales:
            scaled = scaled_size(size, scale, protocol.resize_to) if known(own) else size
            at_scale = resize_bilinear(x, scaled)
            if protocol.mode == "slide" and protocol.small == "enlarge":
                scaled = enlarged_size(scaled, protocol.window)
                at_scale = resize_bilinear(at_scale, scaled)
            for flip in (False, True)[: 1 + protocol.flip]:
                logits = seen(at_scale[:, :, ::-1] if flip else at_scale, scaled)
                if flip:
                    logits = logits[:, :, ::-1]
                    if mirrored is not None:
                        logits = logits[..., np.asarray(mirrored)]
                total = total + jax.nn.softmax(resize(logits, size), axis=-1)
        total = total[:, corner[0] : corner[0] + height, corner[1] : corner[1] + width]
        return _outputs(total, protocol, probabilities)

    return segment


def _outputs(total: jax.Array, protocol: Evaluation, probabilities: bool) -> dict[str, jax.Array]:
    means = total / np.float32(len(protocol.scales) * (1 + protocol.flip))
    if isinstance(protocol.finish, Threshold):
        if total.shape[-1] != 2:
            raise InputError(
                f"evaluation.finish: Threshold is for 2 classes, not {total.shape[-1]}"
            )
        labels = means[..., 1] > protocol.finish.share
    else:
        labels = jnp.argmax(total, axis=-1)
    found = {"labels": labels.astype(jnp.uint8 if total.shape[-1] <= 256 else jnp.int32)}
    return found | ({"probabilities": means} if probabilities else {})


def _slid(
    x: jax.Array,
    size: tuple[int, int],
    logits_of: Callable[[jax.Array], jax.Array],
    resize: Callable[..., jax.Array],
    protocol: Evaluation,
) -> jax.Array:
    """The mean logits of the windows over pictures `[B, *size, C]`, one window after the other."""
    window = protocol.window
    if protocol.small == "shrink":
        window = min(size[0], window[0]), min(size[1], window[1])
    rows, columns = (
        window_starts(n, w, s) for n, w, s in zip(size, window, protocol.stride, strict=True)
    )
    # Where the picture is smaller than the window it is padded, and the rest is cut off again.
    canvas = max(size[0], window[0]), max(size[1], window[1])
    x = jnp.pad(x, ((0, 0), *((0, n - s) for n, s in zip(canvas, size, strict=True)), (0, 0)))
    corners = np.array([(row, column) for row in rows for column in columns], np.int32)

    def cut(corner: jax.Array) -> jax.Array:
        start = (0, corner[0], corner[1], 0)
        return lax.dynamic_slice(x, start, (x.shape[0], *window, x.shape[3]))

    k = jax.eval_shape(lambda: logits_of(cut(jnp.asarray(corners[0])))).shape[-1]

    def add(i: jax.Array, sums: jax.Array) -> jax.Array:
        corner = jnp.asarray(corners)[i]
        logits = resize(logits_of(cut(corner)), window)
        start = (0, corner[0], corner[1], 0)
        old = lax.dynamic_slice(sums, start, logits.shape)
        return lax.dynamic_update_slice(sums, old + logits, start)

    sums = jnp.zeros((x.shape[0], *canvas, k), jnp.float32)
    sums = lax.fori_loop(np.int32(0), np.int32(len(corners)), add, sums)[:, : size[0], : size[1]]
    counts = [coverage(n, w, s) for n, w, s in zip(size, window, (rows, columns), strict=True)]
    return sums / (counts[0][:, None] * counts[1])[:, :, None]


def _levels(pictures: jax.Array, low: float, high: float) -> jax.Array:
    """float32 pictures in the range low…high → 0…255 in whole numbers."""
    scaled = (pictures - np.float32(low)) * np.float32(255 / (high - low))
    return jnp.clip(jnp.floor(scaled + np.float32(0.5)), 0, 255)


def _check_symbolic(protocol: Evaluation) -> None:
    """InputError for a protocol that needs to know the size of a picture."""
    reasons = {
        "evaluation.mode slide": protocol.mode == "slide",
        "evaluation.resize_to": protocol.resize_to is not None,
        "evaluation.scales": protocol.scales != (1.0,),
        "evaluation.canvas": protocol.canvas is not None,
    }
    if found := [name for name, there in reasons.items() if there]:
        raise InputError(
            f"{' and '.join(found)}: the size of a picture decides what is computed; name it "
            "(--size), or predict pictures whole, at their own size (--evaluation.mode whole "
            "--evaluation.resize_to none --evaluation.scales 1 --evaluation.canvas none)"
        )
