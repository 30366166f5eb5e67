"""Swin against mmsegmentation's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.convert import hf_swin
from sdnjax.models.backbones.swin import SIZES, Size, Swin

torch = pytest.importorskip("torch")
pytest.importorskip("mmseg")

from tests.parity import torch_side as side  # noqa: E402

NARROW = Size(12, (2, 1, 2, 1), (1, 2, 3, 4), 4)


def cases():
    yield pytest.param(NARROW, id="small")
    for name, size in SIZES.items():
        yield pytest.param(size, id=name, marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=cases())
def case(request):
    size = request.param
    theirs = side.build_mmseg(
        {
            "type": "SwinTransformer",
            "embed_dims": size.width,
            "depths": size.depths,
            "num_heads": size.heads,
            "window_size": size.window,
            "drop_path_rate": 0.0,
        }
    )
    images = np.random.default_rng(0).normal(size=(1, 97, 161, 3)).astype(np.float32)
    side.randomise(theirs).eval()
    return Swin(*size, drop_path=0.0), theirs, images


def variables_of(swin, theirs, images):
    rows = hf_swin.mmseg_rows(swin, "backbone", "")
    tensors = side.arrays(theirs.state_dict())
    assert not side.unused(rows, tensors, hf_swin.IGNORED)
    rows = [row._replace(variable=row.variable.replace("/backbone/", "/", 1)) for row in rows]
    return rows, side.to_variables(rows, tensors, swin, images)


def test_stages(case):
    swin, theirs, images = case
    _, variables = variables_of(swin, theirs, images)
    assert side.count(dict(theirs.named_parameters())) == sum(
        x.size for x in jax.tree.leaves(variables)
    )
    with torch.no_grad():
        expected = theirs(torch.tensor(images).permute(0, 3, 1, 2))
    with jax.default_matmul_precision("highest"):
        stages = jax.jit(lambda v, x: swin.apply(v, x, train=False))(variables, images)
    for have, want in zip(stages, expected, strict=True):
        distance = side.relative(have, side.nhwc(want))
        print(f"{distance:.1e}")
        assert distance < 1e-5


def test_gradients(case, x64):
    swin, theirs, images = case
    swin, images = swin.clone(dtype=jnp.float64), images.astype(np.float64)
    theirs.double().zero_grad()
    rows, variables = variables_of(swin, theirs, images)

    def loss_of(params):
        return sum(jnp.mean(jnp.sin(x)) for x in swin.apply({"params": params}, images, train=True))

    gradient = jax.jit(jax.grad(loss_of))(variables["params"])
    sum(x.sin().mean() for x in theirs(torch.tensor(images).permute(0, 3, 1, 2))).backward()
    theirs_gradient = {name: x.grad.numpy() for name, x in theirs.named_parameters()}
    distance, where = side.worst_gradient(rows, gradient, theirs_gradient)
    theirs.float()
    print(f"gradients {distance:.1e} ({where})")
    assert distance < 1e-7, where
