"""The non-local block against PyTorch's plain form of mmcv's, gradients included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.convert.context import context_rows
from sdnjax.convert.rows import to_ours
from sdnjax.models import EncoderDecoder, NonLocal
from sdnjax.models.layers import Classifier
from tests.ops.oracles import arrays


@pytest.mark.parametrize("subsample", [False, True])
def test_equals_the_plain_form_in_pytorch(x64, subsample):
    torch = pytest.importorskip("torch")
    x, dy = arrays((2, 5, 7, 6), (2, 5, 7, 6))
    rng = np.random.default_rng(0)
    model = EncoderDecoder(Classifier(2), Classifier(2), context=NonLocal(subsample=subsample))
    rows = context_rows(model)
    shapes = {"theta": (3, 6), "phi": (3, 6), "g": (3, 6), "out": (6, 3)}
    state = {}
    for row in rows:
        shape = shapes[row.variable.split("/")[2]]
        weight = row.tensor.endswith("weight")
        state[row.tensor] = rng.standard_normal((*shape, 1, 1) if weight else shape[:1]) / 2
    assert f"nl_block.g{'.0' * subsample}.conv.bias" in state
    params = {}
    for row in rows:
        _, _, module, leaf = row.variable.split("/")
        params.setdefault(module, {})[leaf] = to_ours(row, state[row.tensor])

    tensors = {k: torch.from_numpy(v).requires_grad_() for k, v in state.items()}
    xt = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).requires_grad_()

    def project(name, x):
        prefix = f"nl_block.{name}.conv"
        return torch.nn.functional.conv2d(x, tensors[f"{prefix}.weight"], tensors[f"{prefix}.bias"])

    pooled = ".0" if subsample else ""
    theta, phi, g = (project(n, xt) for n in ("theta", f"phi{pooled}", f"g{pooled}"))
    if subsample:
        phi, g = (torch.nn.functional.max_pool2d(v, 2) for v in (phi, g))
    weights = torch.softmax(theta.flatten(2).transpose(1, 2) @ phi.flatten(2) / 3**0.5, -1)
    attended = (weights @ g.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(2, 3, 5, 7)
    expected = xt + project("conv_out", attended)
    (expected * torch.from_numpy(dy.transpose(0, 3, 1, 2).copy())).sum().backward()

    module = NonLocal(subsample=subsample)

    def ours(params, x):
        return module.apply({"params": params}, x, train=True)

    y, pullback = jax.vjp(jax.jit(ours), params, jnp.array(x))
    dparams, dx = pullback(jnp.array(dy))
    close(y, expected.detach().numpy().transpose(0, 2, 3, 1))
    close(dx, xt.grad.numpy().transpose(0, 2, 3, 1))
    for row in rows:
        _, _, name, leaf = row.variable.split("/")
        close(dparams[name][leaf], to_ours(row, tensors[row.tensor].grad.numpy()))


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11)


def test_starts_as_the_identity_and_can_learn():
    (x,) = arrays((1, 3, 4, 6), dtype=np.float32)
    module = NonLocal()
    variables = module.init(jax.random.key(0), jnp.array(x), train=False)
    np.testing.assert_array_equal(module.apply(variables, jnp.array(x), train=False), x)

    def loss(v):
        return jnp.sum(module.apply(v, jnp.array(x), train=True) ** 2)

    assert np.abs(jax.grad(loss)(variables)["params"]["out"]["kernel"]).max() > 0
