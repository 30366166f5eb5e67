"""Swin's four stages against mmsegmentation's, and one gradient through all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from sdnjax.convert import load, mmseg_swin
from sdnjax.convert.rows import to_ours, to_theirs
from sdnjax.models import create_model
from sdnjax.models.backbones.swin import SIZES, Size, Swin
from tests.parity.harness import Theirs, images_and_labels, relative, state_dict, torch
from tests.parity.mmseg_reference import mmseg_network

NARROW = Size(8, (2, 1, 1, 1), (1, 2, 2, 4), 4)


def pair(size, **options):
    """mmseg's Swin, taken out of its MaskFormer-like place in UPerNet, and a network of ours."""
    changes = {
        "backbone": {
            "embed_dims": size.width,
            "depths": list(size.depths),
            "num_heads": list(size.heads),
            "window_size": size.window,
            "drop_path_rate": 0.0,
        },
        "decode_head": {"in_channels": [size.width * n for n in (1, 2, 4, 8)], "channels": 8},
        "auxiliary_head": {"in_channels": size.width * 4, "channels": 8},
    }
    config = "swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py"
    whole = mmseg_network(config, changes).module
    holder = torch.nn.Module()
    holder.backbone = whole.backbone
    theirs = Theirs(holder, holder.backbone)
    model = create_model("maskformer_swin-t", num_classes=2, **options)
    decoder = model.decoder.clone(channels=32, queries=2, layers=1, heads=1, hidden=4)
    swin = Swin(*size, drop_path=0.0, **options)
    return theirs, model.clone(backbone=swin, decoder=decoder)


CASES = [
    pytest.param(NARROW, id="small"),
    *(pytest.param(size, id=name, marks=pytest.mark.slow) for name, size in SIZES.items()),
]


@pytest.mark.parametrize("size", CASES)
def test_stages(size):
    theirs, model = pair(size)
    theirs.module.eval()
    state = state_dict(theirs.module)
    rows = mmseg_swin.rows(model)
    variables = {row.variable: to_ours(row, state[row.tensor]) for row in rows}
    named = {row.tensor for row in rows}
    assert {name for name in state if not name.endswith(mmseg_swin.IGNORED)} == named
    for row in rows:
        if row.part is None:
            back = np.ascontiguousarray(to_theirs(row, variables[row.variable]))
            assert back.tobytes() == state[row.tensor].tobytes()
    params = unflatten_dict(variables, sep="/")["params"]["backbone"]

    x = images_and_labels(2)[0].astype(np.float32)
    with torch.no_grad():
        expected = theirs.logits(torch.tensor(x).permute(0, 3, 1, 2))
    with jax.default_matmul_precision("highest"):
        stages = jax.jit(lambda v, x: model.backbone.apply(v, x, train=False))(
            {"params": params}, x
        )
    measured = [
        relative(ours, want.permute(0, 2, 3, 1).numpy())
        for ours, want in zip(stages, expected, strict=True)
    ]
    print(measured)
    assert max(measured) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("size", [NARROW, SIZES["t"]], ids=["small", "t"])
def test_gradients(size, x64):
    theirs, model = pair(size, dtype=jnp.float64)
    theirs.module.double().train()
    state = state_dict(theirs.module)
    variables = load(
        model, state, mmseg_swin, reinitialise=["decoder"], dtype=np.float64, report=lambda _: None
    )
    x = images_and_labels(2, size=(49, 81))[0]

    def loss_of(params):
        stages = model.backbone.apply({"params": params}, x, train=True)
        return sum(jnp.mean(jnp.sin(y)) for y in stages)

    gradient = jax.jit(jax.grad(loss_of))(variables["params"]["backbone"])
    sum(y.sin().mean() for y in theirs.logits(torch.tensor(x).permute(0, 3, 1, 2))).backward()
    expected = {name: p.grad.numpy() for name, p in theirs.module.named_parameters()}
    floor = 1e-3 * max(np.abs(x).max() for x in expected.values())
    for row in mmseg_swin.rows(model):
        ours = gradient
        for part in row.variable.split("/")[2:]:
            ours = ours[part]
        want = to_ours(row, expected[row.tensor])
        assert np.abs(ours - want).max() < 1e-7 * max(np.abs(want).max(), floor), row
