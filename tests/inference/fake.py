"""A network without parameters, once for JAX and once for NumPy."""

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from sdnjax.ops.normalization import Normalization

NORMALIZATION = Normalization((128.0,) * 3, (64.0,) * 3)


def picture(h, w, seed=0):
    """uint8 [h, w, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


class Fake(nn.Module):
    """Logits of the colours and of the place in the window, so that windows disagree."""

    num_classes: int = 5
    align_corners: bool = False

    @nn.compact
    def __call__(self, x, *, train):
        return {"logits": fake_logits(x, self.num_classes, jnp)}


def fake_logits(x, num_classes, xp=np):
    """`[…, h, w, 3]` → `[…, h, w, K]` in x's dtype."""
    h, w = x.shape[-3:-1]
    k = np.arange(num_classes)
    mix = np.stack([np.cos(2.1 * k), np.sin(1.3 * k + 1), np.cos(0.7 * k * k)]).astype(x.dtype)
    rows = np.sin(np.arange(h)[:, None] * 0.11 + k).astype(x.dtype)[:, None]
    columns = np.cos(np.arange(w)[:, None] * 0.07 + 2 * k).astype(x.dtype)
    return 2 * sum(x[..., c : c + 1] * mix[c] for c in range(3)) + rows + columns
