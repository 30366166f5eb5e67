"""HRNet2x against a second statement in PyTorch, and its names there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.convert.tables import TABLES
from sdnjax.models import Model
from sdnjax.models.backbones.hrnet import HRNet2x
from tests.models.variables import random_variables

BACKBONE = HRNet2x(4, (1, 1, 1, 1), blocks=1)


@pytest.mark.parametrize("size", [(33, 47), (32, 64)])
def test_five_branches_as_in_pytorch(size):
    torch = pytest.importorskip("torch")
    from tests.models import torch_cnn, torch_reference

    images = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    variables = jax.tree.map(np.float32, random_variables(BACKBONE, images, 1))
    ours = jax.jit(lambda v, x: BACKBONE.apply(v, x, train=False))(variables, images)
    w = torch_reference.Weights(
        torch_reference.to_torch(variables["params"]),
        torch_reference.to_torch(variables["batch_stats"]),
    )
    theirs = torch_cnn.hrnet2x(w, torch.tensor(images).permute(0, 3, 1, 2))
    assert [x.shape[1] for x in theirs] == [4, 8, 16, 32, 64]
    for mine, their in zip(ours, theirs, strict=True):
        their = their.permute(0, 2, 3, 1).numpy()
        assert mine.shape == their.shape
        np.testing.assert_allclose(mine, their, atol=2e-5 * np.abs(their).max())


def test_the_authors_network_and_names():
    """620 channels of five branches from stride 2 on; openseg's names."""
    network = Model("segfix_hr2x20").build(16)
    x = jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.float32)
    stages = jax.eval_shape(
        lambda x: network.backbone.init_with_output(jax.random.key(0), x, train=False)[0], x
    )
    assert [s.shape[1:] for s in stages] == [(32 // 2**i, 48 // 2**i, 20 * 2**i) for i in range(5)]
    names = {row.tensor for row in TABLES["segfix"].rows(network)}
    for name in (
        "backbone.conv1.weight",
        "backbone.transition0.1.0.0.weight",
        "backbone.stage1.0.branches.1.3.conv3.weight",
        "backbone.transition1.0.0.weight",
        "backbone.transition1.2.0.0.weight",
        "backbone.stage4.2.fuse_layers.4.0.3.1.running_mean",
        "mask_head.0.weight",
    ):
        assert name in names, name
    assert "backbone.conv2.weight" not in names
