"""The operators' definitions restated in float64 NumPy, one pixel and one tap at a time."""

import jax
import numpy as np

NAMES = ("charbonnier", "relative", "gaussian", "cosine", "constant")


def lopsided(neighbour, centre):
    """A similarity that is not symmetric, for NumPy and JAX alike: `[..., C]` → `[...]`."""
    n, c = neighbour, centre
    return (n[..., 0] * c[..., 1] + n[..., 1] ** 2) / (1.0 + c[..., 0] ** 2)


def taps(kernel_size, dilation):
    """Yields `(k, i, j, dy, dx)`."""
    (kh, kw), (sy, sx) = kernel_size, np.broadcast_to(dilation, 2)
    for i in range(kh):
        for j in range(kw):
            yield i * kw + j, i, j, (i - kh // 2) * int(sy), (j - kw // 2) * int(sx)


def similarity_loop(
    v, kernel_size, *, dilation=1, similarity="charbonnier", scale=1.0, boundary="no_flux"
):
    b, h, w, c = v.shape
    s = np.ones((b, h, w, kernel_size[0] * kernel_size[1]))
    for n in range(b):
        total, count, pairs = 0.0, 0, []
        for y in range(h):
            for x in range(w):
                for k, _, _, dy, dx in taps(kernel_size, dilation):
                    if (dy, dx) == (0, 0):
                        continue
                    is_inside = 0 <= y + dy < h and 0 <= x + dx < w
                    a = v[n, y + dy, x + dx] if is_inside else np.zeros(c, v.dtype)
                    pairs.append((y, x, k, is_inside, a, v[n, y, x]))
                    if is_inside:
                        total, count = total + np.sum((a - v[n, y, x]) ** 2), count + 1
        mean = total / max(count, 1)
        for y, x, k, is_inside, a, centre in pairs:
            if boundary == "no_flux" and not is_inside:
                s[n, y, x, k] = 0
            else:
                s[n, y, x, k] = similarity_of(similarity, a, centre, scale, mean)
    return s


def similarity_of(similarity, a, centre, scale, mean):
    if callable(similarity):
        return similarity(a, centre)
    d2 = np.sum((a - centre) ** 2)
    if similarity == "charbonnier":
        return 1 / np.sqrt(1 + d2 / scale**2)
    if similarity == "relative":
        return 1 / np.sqrt(1 + d2 / (scale**2 * mean)) if mean > 0 else 1.0
    if similarity == "gaussian":
        return np.exp(-d2 / (2 * scale**2))
    if similarity == "cosine":
        return a @ centre / np.sqrt((a @ a + 1e-12) * (centre @ centre + 1e-12))
    assert similarity == "constant"
    return 1.0


def sdc_loop(u, v, kernel, *, dilation=1, **options):
    """Eq. 5. With a 1×1×1 kernel axis dropped it is Eq. 3; see `diffusion_loop`."""
    b, h, w, _ = u.shape
    kernel_size = kernel.shape[:2]
    s = similarity_loop(v, kernel_size, dilation=dilation, **options)
    result = np.zeros((b, h, w, kernel.shape[3]))
    for n in range(b):
        for y in range(h):
            for x in range(w):
                for k, i, j, dy, dx in taps(kernel_size, dilation):
                    is_inside = 0 <= y + dy < h and 0 <= x + dx < w
                    neighbour = u[n, y + dy, x + dx] if is_inside else np.zeros(u.shape[3])
                    weighted = s[n, y, x, k] * (neighbour - u[n, y, x])
                    result[n, y, x] += weighted @ kernel[i, j]
    return result


def diffusion_loop(u, v, *, steps, alpha, beta, **options):
    alpha, beta = np.broadcast_to(alpha, steps), np.broadcast_to(beta, steps)
    identity = np.broadcast_to(np.eye(u.shape[3]), (3, 3, u.shape[3], u.shape[3]))
    for t in range(steps):
        u = alpha[t] * u + beta[t] * sdc_loop(u, v, identity, **options)
    return u


def slope(function, x, step=1e-5):
    """Gradient of a scalar function at x by central differences."""
    x = np.asarray(x, np.float64)
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        upper, lower = x.copy(), x.copy()
        upper[index] += step
        lower[index] -= step
        gradient[index] = (function(upper) - function(lower)) / (2 * step)
    return gradient


def arrays(*shapes, seed=0, dtype=np.float64):
    """Normal arrays of the given shapes."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def value_and_pullback(f, arguments, dy):
    """`f(*arguments)` and the cotangents of all arguments, compiled as one program."""

    @jax.jit
    def both(arguments, dy):
        y, pullback = jax.vjp(f, *arguments)
        return y, pullback(dy)

    return both(tuple(map(jax.numpy.asarray, arguments)), jax.numpy.asarray(dy))
