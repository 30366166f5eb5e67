"""InverseForm's joint loss restated in PyTorch, with PyTorch's own layers: value and gradients.

With the sigmoid in place of the softmax over one channel, and with class 0 among the edges.
"""

import jax
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from sdnjax.convert.tensors import read_tensors
from sdnjax.losses import constants_of, inverse_form_losses, total_loss

torch = pytest.importorskip("torch")
nn, functional = torch.nn, torch.nn.functional

K, SIZE, TILES = 4, (12, 24), (2, 4)
TILE = (SIZE[0] // TILES[0], SIZE[1] // TILES[1])


class Regressor(nn.Module):
    """Its tensors are named as the released file's."""

    def __init__(self):
        super().__init__()
        inputs = 2 * TILE[0] * TILE[1]
        self.fc = nn.Sequential(
            nn.Linear(inputs, 20), nn.ReLU(), nn.Linear(20, 9), nn.ReLU(), nn.Linear(9, 4)
        )

    def forward(self, predicted, target):
        return self.fc(torch.cat([predicted.flatten(1), target.flatten(1)], 1))


def segmentation(logits, labels, images):
    """`[B, K, H, W]`: the weights are the batch's, images one by one."""
    found = torch.bincount(labels[labels != 255], minlength=K).double()
    weights = 1 + (found > 0) * (1 - found / found.sum())
    losses = [
        functional.cross_entropy(x[None], y[None], weight=weights, ignore_index=255)
        for x, y in zip(logits, labels, strict=True)
        if (y != 255).any()
    ]
    return sum(losses) if images == "sum" else sum(losses) / len(losses)


def edge_map(labels):
    maps = np.zeros(labels.shape)
    for i, label in enumerate(labels):
        for k in range(K):
            m = np.pad(label == k, 1)
            if m.any():
                distance = distance_transform_edt(m) + distance_transform_edt(~m)
                maps[i] = np.maximum(maps[i], (distance <= 2)[1:-1, 1:-1])
    return torch.from_numpy(maps)[:, None]


def tiles(maps):
    maps = functional.interpolate(maps, size=SIZE, mode="bilinear")
    rows = maps.split(TILE[0], dim=2)
    return torch.cat([tile for row in rows for tile in row.split(TILE[1], dim=3)])


def joint(logits, edge, labels, regressor):
    target = edge_map(labels.numpy())
    share = target.mean()
    weights = torch.where(target > 0, 1 - share, share)
    looked_at = torch.where(edge[:, 0] > 0.8, labels, 255)
    lengths = (regressor(tiles(torch.sigmoid(edge)), tiles(target)) ** 2).sum(1) + 1e-12
    return (
        segmentation(logits, labels, "sum")
        + 0.3 * functional.binary_cross_entropy_with_logits(edge, target, weights)
        + 0.1 * segmentation(logits, looked_at, "sum")
        + 0.3 * (lengths**0.5).mean()
    )


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_value_and_gradients(x64, tmp_path, ending):
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(0, K - 1, (3, 3, 5)), np.ones((1, 4, 4), int))[:, :11, :18]
    labels[0, :3, :7] = 255
    logits, edge = rng.normal(0, 2, (3, K, 11, 18)), rng.normal(0.5, 1, (3, 1, 11, 18))
    torch.manual_seed(0)
    regressor = Regressor().requires_grad_(False)
    path = str(tmp_path / f"regressor.{ending}")
    if ending == "pth":
        torch.save(regressor.state_dict(), path)
    else:
        pytest.importorskip("safetensors.torch").save_file(regressor.state_dict(), path)

    theirs = [torch.tensor(x, requires_grad=True) for x in (logits, edge)]
    expected = joint(*theirs, torch.from_numpy(labels), regressor.double())
    expected.backward()

    losses = inverse_form_losses(path, size=SIZE, tiles=TILES, released=True)
    constants = constants_of(losses, read_tensors)

    @jax.jit
    @jax.value_and_grad
    def ours(outputs):
        return total_loss(losses, outputs, {"label": labels}, constants)[0]

    found, gradients = ours(
        {"logits": logits.transpose(0, 2, 3, 1), "edge": edge.transpose(0, 2, 3, 1)}
    )
    assert float(found) == pytest.approx(expected.item(), rel=1e-12)
    for name, tensor in zip(("logits", "edge"), theirs, strict=True):
        there = tensor.grad.numpy().transpose(0, 2, 3, 1)
        assert np.abs(there).max() > 1e-4
        np.testing.assert_allclose(gradients[name], there, rtol=0, atol=1e-12)
