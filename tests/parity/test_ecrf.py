"""E-CRF against a restatement of the released module in PyTorch, gradients included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.convert import load, mmseg_deeplab, mmseg_segformer, to_torch
from sdnjax.errors import InputError
from sdnjax.models import ECRF, create_model

torch = pytest.importorskip("torch")
F = torch.nn.functional


class Released(torch.nn.Module):
    """Windows unfolded, a loop over superpixels: as the paper's authors compute it."""

    def __init__(self, channels):
        super().__init__()
        self.ecrf = torch.nn.Module()
        for name, inner, outer in (
            ("pos_conv", 64, 32),
            ("img_conv", 3, 32),
            ("comp_conv", channels, 1),
        ):
            setattr(self.ecrf, name, torch.nn.Conv2d(inner, outer, 1, bias=False))

    def forward(self, f, image, superpixels):
        n, _, h, w = f.shape
        t = torch.arange(32, dtype=torch.float64)
        rates = 10000 ** (-(t // 2) * 2 / 32)

        def encode(length):
            angle = torch.arange(length, dtype=torch.float64)[:, None] * rates
            return torch.where(t % 2 == 0, angle.sin(), angle.cos()).to(f.dtype)

        x = encode(w)[None].expand(h, w, 32)
        y = encode(h)[:, None].expand(h, w, 32)
        positions = torch.cat([x, y], -1).permute(2, 0, 1)[None].expand(n, -1, -1, -1)
        small = F.interpolate(image, (h, w), mode="bilinear")
        e = torch.cat([self.ecrf.img_conv(small), self.ecrf.pos_conv(positions)], 1)

        def windows(x):
            return F.unfold(x, 3, dilation=2, padding=2).reshape(n, x.shape[1], 9, h, w)

        score = torch.einsum("c,nckhw->nkhw", self.ecrf.comp_conv.weight[0, :, 0, 0], windows(f))
        psi = torch.sigmoid(score) * (windows(e) * e[:, :, None]).sum(1)
        messages = (windows(f) * psi[:, None]).sum(2)
        labels = F.interpolate(superpixels[:, None].to(f.dtype), (h, w), mode="nearest")
        result = f
        for s in range(int(labels.max()) + 1):
            member = (labels == s).to(f.dtype)
            mean = (f * member).sum((2, 3)) / (member.sum((2, 3)) + 1e-5)
            result = result + 0.1 * mean[..., None, None] * member
        return result + 0.2 * messages


def nchw(x):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


@pytest.mark.parametrize(
    ("grid", "image", "channels"), [((9, 13), (33, 50), 24), ((8, 8), (64, 64), 512)]
)
def test_module_and_gradients(grid, image, channels):
    rng = np.random.default_rng(0)
    f = rng.standard_normal((2, *grid, channels)).astype(np.float32)
    picture = rng.random((2, *image, 3), np.float32)
    labels = rng.integers(-1, 7, (2, *image)).astype(np.int32)
    labels[1] = np.minimum(labels[1], 2)
    g = rng.standard_normal(f.shape).astype(np.float32)
    torch.manual_seed(0)
    theirs = Released(channels)
    tensors = [nchw(f).requires_grad_(), nchw(picture).requires_grad_()]
    result = theirs(*tensors, torch.from_numpy(labels))
    (result * nchw(g)).sum().backward()

    kernels = {
        ours: getattr(theirs.ecrf, name).weight
        for ours, name in (
            ("colours", "img_conv"),
            ("positions", "pos_conv"),
            ("compatibility", "comp_conv"),
        )
    }
    params = {
        k: {"kernel": jnp.array(v.detach().numpy().transpose(2, 3, 1, 0))}
        for k, v in kernels.items()
    }

    def ours(params, f, picture):
        extras = {"picture": picture, "superpixels": labels}
        return ECRF(segments=7).apply({"params": params}, f, train=True, **extras)["features"]

    y, pullback = jax.vjp(jax.jit(ours), params, f, picture)
    close(y, result.detach().numpy().transpose(0, 2, 3, 1))
    dparams, df, dpicture = pullback(jnp.array(g))
    close(df, tensors[0].grad.numpy().transpose(0, 2, 3, 1))
    close(dpicture, tensors[1].grad.numpy().transpose(0, 2, 3, 1))
    for name, weight in kernels.items():
        close(dparams[name]["kernel"], weight.grad.numpy().transpose(2, 3, 1, 0))


def close(ours, theirs):
    """2e-5 of the largest value."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5 * np.abs(theirs).max())


@pytest.mark.parametrize(
    ("name", "table", "channels"),
    [("deeplabv3plus_r18-d8", mmseg_deeplab, 128), ("segformer_mit-b0", mmseg_segformer, 256)],
)
def test_weights_of_the_released_module_beside_those_of_mmsegmentation(name, table, channels):
    model = create_model(name, num_classes=3, context=ECRF(segments=4))
    shape = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(
        lambda x: model.init(
            jax.random.key(0), x, train=False, picture=x, superpixels=jnp.zeros((1, 64, 64), int)
        ),
        shape,
    )
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.random(x.shape, np.float32), variables)
    state = to_torch(model, variables, table)
    module = Released(channels)
    inner = {k: torch.from_numpy(v) for k, v in state.items() if k.startswith("ecrf.")}
    module.load_state_dict(inner, strict=True)
    # In a head of somebody's it has a longer name.
    longer = {f"decode_head.message_pass.{k}" if k in inner else k: v for k, v in state.items()}
    for given in (state, longer):
        again = load(model, given, table, report=lambda line: None)
        jax.tree.map(np.testing.assert_array_equal, again, variables)
    twice = longer | {f"other.{k}": v for k, v in state.items() if k in inner}
    with pytest.raises(InputError, match="which is meant"):
        load(model, twice, table, report=lambda line: None)
