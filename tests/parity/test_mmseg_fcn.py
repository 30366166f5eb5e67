"""FCN and SemanticFPN on ResNets against mmsegmentation's."""

import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.convert import load, mmseg_fcn, mmseg_fpn
from sdnjax.convert.compare import compare_activations, format_differences, matching_modules
from sdnjax.models import create_model
from tests.parity.harness import (
    captured,
    compare_outputs,
    compare_step,
    images_and_labels,
    state_dict,
    torch,
)
from tests.parity.mmseg_reference import mmseg_network

K = 5
STAGES = {f"stage{i}": f"backbone.layer{i}" for i in range(1, 5)}


def fcn(depth):
    """mmseg's network of this depth, our name for it and its table."""
    top = 512 if depth < 50 else 2048
    changes = {
        "backbone": {"depth": depth},
        "decode_head": {"num_classes": K, "in_channels": top, "channels": top // 4},
        "auxiliary_head": {"num_classes": K, "in_channels": top // 2, "channels": top // 8},
    }
    config = "fcn/fcn_r50-d8_4xb4-80k_ade20k-512x512.py"
    return mmseg_network(config, changes), f"fcn_r{depth}-d8", mmseg_fcn


def fpn(depth):
    widths = [64, 128, 256, 512] if depth < 50 else [256, 512, 1024, 2048]
    changes = {
        "backbone": {"depth": depth},
        "neck": {"in_channels": widths},
        "decode_head": {"num_classes": K},
    }
    config = "sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py"
    return mmseg_network(config, changes), f"fpn_r{depth}", mmseg_fpn


CASES = [
    pytest.param(fcn, 18, id="fcn_r18"),
    pytest.param(fpn, 18, id="fpn_r18"),
    *(
        pytest.param(build, depth, id=f"{build.__name__}_r{depth}", marks=pytest.mark.slow)
        for build in (fcn, fpn)
        for depth in (34, 50, 101)
    ),
]


def test_every_module_agrees():
    """All modules that hold the same tensors there and here, by the comparison tool."""
    theirs, name, table = fcn(18)
    model = create_model(name, num_classes=K)
    rows, images = table.rows(model), images_and_labels(K)[0].astype(np.float32)
    called = [n for n in matching_modules(rows) if n not in ("backbone", "decode_head")]
    called = [n for n in called if not n.startswith("auxiliary") and not n.endswith("convs")]
    theirs.module.eval()
    with torch.no_grad(), captured(theirs.module, {n: n for n in called}) as saved:
        theirs.logits(torch.from_numpy(images).permute(0, 3, 1, 2))
    variables = load(model, state_dict(theirs.module), table, report=lambda _: None)
    found = compare_activations(model, variables, rows, saved, images, layout="nhwc")
    assert len(found) == len(called) > 60
    assert max(d.relative for d in found) < 1e-5, format_differences(found, 1e-5)


@pytest.mark.parametrize(("build", "depth"), CASES)
def test_outputs(build, depth):
    theirs, name, table = build(depth)
    model = create_model(name, num_classes=K)
    images, _ = images_and_labels(K)
    picks = {**STAGES, "decoder": "decode_head.conv_seg"}
    print(name, compare_outputs(model, theirs, table, picks, images=images))


# One depth of each kind of block: others differ in numbers alone, which `test_outputs` checks.
@pytest.mark.parametrize(
    ("build", "depth"),
    [
        (fcn, 18),
        *(pytest.param(*x, marks=pytest.mark.slow) for x in ((fpn, 18), (fcn, 50), (fpn, 50))),
    ],
)
def test_training_step(build, depth, x64):
    theirs, name, table = build(depth)
    model = create_model(name, num_classes=K, dropout=0.0, dtype=jnp.float64)
    images, labels = images_and_labels(K, size=(49, 65), batch=2)
    measured = compare_step(model, theirs, table, images=images, labels=labels)
    print(name, max(measured.items(), key=lambda item: item[1]), measured["loss"])
