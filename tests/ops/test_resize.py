"""Resizing against a restatement of PyTorch's rules, and against PyTorch where it is installed."""

import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.ops import resize_bicubic, resize_bilinear, resize_nearest
from tests.ops.oracles import arrays, value_and_pullback

# (from, to): odd sizes up and down, one axis each way, size one, integer factors, no change.
SIZES = [
    ((5, 7), (11, 13)),
    ((13, 11), (5, 7)),
    ((5, 13), (9, 6)),
    ((3, 4), (1, 1)),
    ((1, 1), (3, 4)),
    ((1, 5), (4, 1)),
    ((4, 6), (8, 12)),
    ((8, 12), (4, 6)),
    ((5, 7), (5, 9)),
    ((16, 9), (17, 8)),
]
corners = pytest.mark.parametrize("align_corners", [False, True])
sizes = pytest.mark.parametrize(("old", "new"), SIZES)


def bilinear_loop(x, shape, align_corners):
    """Two taps per axis, found by floor; the last pixel is its own right neighbour."""

    def place(i, old, new):
        if align_corners:
            at = i * (old - 1) / (new - 1) if new > 1 else 0.0
        else:
            at = max((i + 0.5) * old / new - 0.5, 0.0)
        low = min(int(np.floor(at)), old - 1)
        return low, min(low + 1, old - 1), min(at - low, 1.0)

    b, h, w, c = x.shape
    y = np.zeros((b, *shape, c))
    for i, j in np.ndindex(*shape):
        top, bottom, ty = place(i, h, shape[0])
        left, right, tx = place(j, w, shape[1])
        upper = (1 - tx) * x[:, top, left] + tx * x[:, top, right]
        lower = (1 - tx) * x[:, bottom, left] + tx * x[:, bottom, right]
        y[:, i, j] = (1 - ty) * upper + ty * lower
    return y


@sizes
@corners
def test_bilinear_equals_the_definition(x64, old, new, align_corners):
    """The operator is linear, so ⟨A x, y⟩ = ⟨x, Aᵀ y⟩ decides its gradient."""
    x, dy = arrays((2, *old, 3), (2, *new, 3))
    y, (dx,) = value_and_pullback(
        lambda x: resize_bilinear(x, new, align_corners=align_corners), (x,), dy
    )
    expected = bilinear_loop(x, new, align_corners)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.sum(x * dx), np.sum(expected * dy), rtol=1e-11)


@pytest.mark.parametrize(("old", "new"), [*SIZES, ((97, 129), (769, 513)), ((299, 61), (286, 65))])
@corners
def test_bilinear_equals_torch(old, new, align_corners):
    torch = pytest.importorskip("torch")
    x, dy = arrays((2, *old, 2), (2, *new, 2), dtype=np.float32)
    tensor = torch.tensor(x, requires_grad=True)
    theirs = torch.nn.functional.interpolate(
        tensor.permute(0, 3, 1, 2), size=new, mode="bilinear", align_corners=align_corners
    ).permute(0, 2, 3, 1)
    theirs.backward(torch.tensor(dy))
    y, (dx,) = value_and_pullback(
        lambda x: resize_bilinear(x, new, align_corners=align_corners), (x,), dy
    )
    np.testing.assert_allclose(y, theirs.detach().numpy(), rtol=1e-5, atol=1e-5)
    largest = np.abs(tensor.grad.numpy()).max()
    np.testing.assert_allclose(dx, tensor.grad.numpy(), rtol=1e-5, atol=1e-5 * largest)


@corners
def test_bilinear_identity_leading_axes_and_dtypes(align_corners):
    (x,) = arrays((2, 3, 4, 5, 2), dtype=np.float32)
    x = jnp.array(x)
    assert resize_bilinear(x, (4, 5), align_corners=align_corners) is x
    many = resize_bilinear(x, (7, 3), align_corners=align_corners)
    one = resize_bilinear(x[1, 2], (7, 3), align_corners=align_corners)
    np.testing.assert_allclose(many[1, 2], one, rtol=1e-6, atol=1e-6)
    narrow = resize_bilinear(x.astype(jnp.bfloat16), (7, 3), align_corners=align_corners)
    assert narrow.dtype == jnp.bfloat16
    np.testing.assert_allclose(narrow.astype(jnp.float32), many, rtol=0, atol=0.02)
    constant = resize_bilinear(jnp.ones_like(x), (9, 8), align_corners=align_corners)
    np.testing.assert_allclose(constant, 1, rtol=1e-6)


def bicubic_loop(x, shape):
    """Keys' cubic convolution with a = −0.75, tap by tap; taps outside repeat the border."""

    def weight(t, a=-0.75):
        t = abs(t)
        if t <= 1:
            return (a + 2) * t**3 - (a + 3) * t**2 + 1
        return a * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0

    def taps(i, old, new):
        at = (i + 0.5) * old / new - 0.5
        first = int(np.floor(at)) - 1
        return [(min(max(k, 0), old - 1), weight(at - k)) for k in range(first, first + 4)]

    b, h, w, c = x.shape
    y = np.zeros((b, *shape, c))
    for i, j in np.ndindex(*shape):
        for row, wy in taps(i, h, shape[0]):
            for column, wx in taps(j, w, shape[1]):
                y[:, i, j] += wy * wx * x[:, row, column]
    return y


@sizes
def test_bicubic_equals_the_definition(x64, old, new):
    x, dy = arrays((2, *old, 3), (2, *new, 3))
    y, (dx,) = value_and_pullback(lambda x: resize_bicubic(x, new), (x,), dy)
    expected = bicubic_loop(x, new)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.sum(x * dx), np.sum(expected * dy), rtol=1e-11)


@pytest.mark.parametrize(("old", "new"), [*SIZES, ((32, 32), (7, 11)), ((14, 14), (49, 81))])
def test_bicubic_equals_torch(old, new):
    torch = pytest.importorskip("torch")
    (x,) = arrays((2, *old, 2), dtype=np.float32)
    tensor = torch.tensor(x).permute(0, 3, 1, 2)
    theirs = torch.nn.functional.interpolate(tensor, size=new, mode="bicubic", align_corners=False)
    y = resize_bicubic(jnp.asarray(x), new)
    np.testing.assert_allclose(y, theirs.permute(0, 2, 3, 1), rtol=1e-5, atol=1e-5)


@sizes
def test_nearest_equals_the_definition(old, new):
    labels = np.random.default_rng(0).integers(0, 256, (2, *old, 1), np.uint8)
    rows = np.arange(new[0]) * old[0] // new[0]
    columns = np.arange(new[1]) * old[1] // new[1]
    y = resize_nearest(jnp.array(labels), new)
    assert y.dtype == jnp.uint8
    np.testing.assert_array_equal(y, labels[:, rows][:, :, columns])


@pytest.mark.parametrize(("old", "new"), [*SIZES, ((299, 512), (286, 683)), ((41, 65), (321, 513))])
def test_nearest_equals_torch(old, new):
    torch = pytest.importorskip("torch")
    x, dy = arrays((1, *old, 2), (1, *new, 2), dtype=np.float32)
    tensor = torch.tensor(x, requires_grad=True)
    theirs = torch.nn.functional.interpolate(
        tensor.permute(0, 3, 1, 2), size=new, mode="nearest"
    ).permute(0, 2, 3, 1)
    theirs.backward(torch.tensor(dy))
    y, (dx,) = value_and_pullback(lambda x: resize_nearest(x, new), (x,), dy)
    np.testing.assert_array_equal(y, theirs.detach().numpy())
    np.testing.assert_allclose(dx, tensor.grad.numpy(), rtol=1e-5, atol=1e-5)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"\(4, 5\)"):
        resize_nearest(jnp.zeros((4, 5)), (2, 2))
    with pytest.raises(ValueError, match=r"\(0, 2\)"):
        resize_bilinear(jnp.zeros((1, 4, 5, 1)), (0, 2))
    with pytest.raises(ValueError, match="uint8"):
        resize_bilinear(jnp.zeros((1, 4, 5, 1), jnp.uint8), (2, 2))
