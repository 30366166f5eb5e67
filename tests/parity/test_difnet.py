"""DifNet and Sim-Deeplab through the conversion of their checkpoints, against PyTorch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from sdnjax.convert import difnet, load, to_torch, torchvision_resnet
from sdnjax.convert.rows import to_ours
from sdnjax.losses import cross_entropy
from sdnjax.models import DifNetOptions, create_model
from sdnjax.models.difnet import Importance
from sdnjax.models.layers import max_pool_3x3
from tests.parity.harness import (
    Theirs,
    compare_outputs,
    compare_step,
    images_and_labels,
    relative,
    state_dict,
    torch,
)

from tests.parity import difnet_reference as reference  # isort: skip  (needs torch)

K = 5
PICKS = {
    **{f"stage{i}": f"model_sed.layer{i}" for i in range(1, 5)},
    **{f"similarity{i}": f"model_dif.layer{i}" for i in range(1, 5)},
    **{f"walk{i}": f"diffuse{i - 1}" for i in range(1, 6)},
    "scores": "model_sed",
    "importance": "mask_layer",
}
SIZES = [(65, 65), (64, 64), (49, 78)]
slow = functools.partial(pytest.param, marks=pytest.mark.slow)


def theirs(seeds, similarity=None, **how):
    if similarity == "sim":
        module = reference.SimDeeplab(seeds, K)
    else:
        module = reference.DifNet(seeds, similarity or seeds, K, **how)

    def loss(images, labels):
        return torch.nn.functional.cross_entropy(module(images), labels, ignore_index=255)

    found = Theirs(module, module, loss)
    # As in a trained network, branches are small beside what they are added to and statistics are
    # the network's own: a hundred random layers magnify roundings, there as here. And with Ψ of
    # unit variance P is one node's alone: no test of it.
    norms = [m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for block in module.modules():
            if isinstance(block, reference.Basic | reference.Bottle):
                getattr(block, "bn3" if hasattr(block, "bn3") else "bn2").weight.mul_(0.3)
        for norm in norms:
            norm.momentum = 1.0
        module.float().train()
        module(torch.randn((2, 3, 65, 65), generator=torch.Generator().manual_seed(0)))
        for norm in norms:
            norm.momentum = 0.1
        for t in getattr(module, "walks", ()):
            getattr(module, f"diffuse{t}").bn.weight.mul_(0.3)
            getattr(module, f"diffuse{t}").bn.bias.mul_(0.3)
    return found


def own_loss(outputs, labels):
    return cross_entropy(outputs["logits"], labels)


# What an image's size changes is in the smallest; the others differ in blocks.
CASES = [
    *(("difnet_r18-d8", (18,), {}, size) for size in SIZES),
    slow("difnet_r34-d8", (34,), {}, (49, 78)),
    slow("difnet_r50-d8", (50,), {}, (65, 65)),
    slow("difnet_r101-d8", (101,), {}, (49, 78)),
    slow("difnet_r18-r50-d8", (18, 50), {"blocks": (3, 2, 2, 2)}, (64, 64)),
]


@pytest.mark.parametrize(("name", "depths", "how", "size"), CASES)
def test_outputs(name, depths, how, size):
    images, _ = images_and_labels(K, size=size, batch=2)
    model = create_model(name, num_classes=K)
    measured = compare_outputs(
        model, theirs(*depths, **how), difnet, PICKS, images=images, tolerance=1e-4
    )
    print(name, size, measured)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "depths", "how", "size"), CASES)
def test_training_step(name, depths, how, size, x64):
    images, labels = images_and_labels(K, size=size, batch=2)
    model = create_model(name, num_classes=K, dtype=jnp.float64)
    other = theirs(*depths, **how)
    measured = compare_step(model, other, difnet, images=images, labels=labels, loss=own_loss)
    print(name, size, max(measured.items(), key=lambda item: item[1]), measured["loss"])


@pytest.mark.slow
@pytest.mark.parametrize("depth", [18, slow(50)])
def test_sim_deeplab(depth, x64):
    images, labels = images_and_labels(K, size=(64, 49), batch=2)
    model = create_model(f"sim-deeplab_r{depth}-d8", num_classes=K, dtype=jnp.float64)
    other = theirs(depth, "sim")
    measured = compare_step(model, other, difnet, images=images, labels=labels, loss=own_loss)
    print(depth, max(measured.items(), key=lambda item: item[1]))
    narrow = create_model(f"sim-deeplab_r{depth}-d8", num_classes=K)
    picks = {f"stage{i}": f"layer{i}" for i in range(1, 5)} | {"scores": "layer5"}
    print(compare_outputs(narrow, other, difnet, picks, images=images, tolerance=1e-4))


@pytest.mark.slow
def test_fewer_walks_and_the_authors_colours():
    images, _ = images_and_labels(K, size=(49, 65))
    options = DifNetOptions(walks=(0, 2, 4), preprocessing="released")
    model = create_model("difnet_r18-d8", num_classes=K, difnet=options)
    other = theirs(18, walks=(0, 2, 4))
    other.module.float().eval()
    variables = load(model, state_dict(other.module), difnet, report=lambda _: None)
    x = images.astype(np.float32)
    with torch.no_grad():
        expected = other.module(torch.from_numpy(x[..., ::-1].copy()).permute(0, 3, 1, 2))
    with jax.default_matmul_precision("highest"):
        outputs = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, x)
    assert relative(outputs["logits"], expected.permute(0, 2, 3, 1).numpy()) < 1e-4
    assert [name for name in outputs if name.startswith("walk")] == ["walk1", "walk3", "walk5"]
    plain = create_model("difnet_r18-d8", num_classes=K, difnet=DifNetOptions(walks=(0, 2, 4)))
    with jax.default_matmul_precision("highest"):
        swapped = jax.jit(lambda v, x: plain.apply(v, x[..., ::-1], train=False))(variables, x)
    np.testing.assert_allclose(swapped["logits"], outputs["logits"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("n", range(5, 13))
def test_the_pool_of_the_stem(n):
    """Forward and gradient, sizes rounded up, with equal values."""
    x = np.random.default_rng(n).integers(-9, 9, (2, n, n + 3, 4)).astype(np.float32)
    there = torch.from_numpy(x).permute(0, 3, 1, 2).requires_grad_()
    y = torch.nn.functional.max_pool2d(there, 3, 2, 1, ceil_mode=True)
    ours = max_pool_3x3(jnp.asarray(x), ceil_mode=True)
    np.testing.assert_array_equal(ours, y.detach().permute(0, 2, 3, 1).numpy())
    g = np.random.default_rng(1).normal(size=ours.shape).astype(np.float32)
    y.backward(torch.from_numpy(g).permute(0, 3, 1, 2))
    _, pullback = jax.vjp(lambda x: max_pool_3x3(x, ceil_mode=True), jnp.asarray(x))
    np.testing.assert_allclose(
        pullback(jnp.asarray(g))[0], there.grad.permute(0, 2, 3, 1).numpy(), atol=1e-6
    )


def test_imagenet_weights_go_into_both_branches():
    body = reference.Body(18)
    Theirs(body, body)
    state = state_dict(body) | {"fc.weight": np.ones((3, 512), np.float32)}
    model = create_model("difnet_r18-d8", num_classes=K)
    parts = ["classifier", "importance"]
    parts += [f"{part}{t}" for t in range(1, 6) for part in ("psi", "walk")]
    variables = load(model, state, torchvision_resnet, reinitialise=parts, report=lambda _: None)
    params = variables["params"]
    a, b = (flatten_dict(params[part]) for part in ("backbone", "similarity"))
    assert all(np.array_equal(a[k], b[k]) for k in a) and a.keys() == b.keys()
    assert np.array_equal(
        params["similarity"]["stem1"]["conv"]["kernel"],
        state["conv1.weight"].transpose(2, 3, 1, 0),
    )


def test_a_written_checkpoint_has_the_authors_names():
    model = create_model("difnet_r18-d8", num_classes=K)
    module = theirs(18).module.float()
    state = to_torch(model, load(model, state_dict(module), difnet, report=lambda _: None), difnet)
    assert state.keys() == module.state_dict().keys()
    assert {k: v.shape for k, v in state.items()} == {
        k: tuple(v.shape) for k, v in module.state_dict().items()
    }


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1)])
def test_scalars_of_any_shape_are_read(shape):
    state = state_dict(theirs(18).module.float())
    state = {k: np.asarray(v) for k, v in state.items()}
    name = "diffuse2.alpha"
    changed = state | {name: state[name].reshape(shape)}
    found = load(create_model("difnet_r18-d8", num_classes=K), changed, difnet, report=print)
    assert found["params"]["walk3"]["alpha"] == state[name].item()


@pytest.mark.slow
def test_what_the_networks_start_from():
    """Standard deviations and bounds of PyTorch's and the authors' own loops."""
    model = create_model("difnet_r18-d8", num_classes=21)
    images = jnp.zeros((1, 33, 33, 3))
    params = jax.jit(lambda: model.init(jax.random.key(0), images, train=False))()["params"]
    torch.manual_seed(0)
    module = reference.DifNet(18, 18, 21)
    for row in difnet.rows(model):
        kind, *path = row.variable.split("/")
        if kind != "params" or not row.tensor.startswith(("mask_layer", "diffuse")):
            continue
        ours = functools.reduce(lambda tree, key: tree[key], path, params)
        there = module.state_dict()[row.tensor].numpy()
        if ours.size > 150:
            assert np.std(ours) == pytest.approx(there.std(), rel=0.25), row
            assert np.abs(ours).max() == pytest.approx(np.abs(there).max(), rel=0.1), row
        else:
            assert np.abs(ours).max() <= np.abs(there).max() * 1.6 + 1e-9, row
    seeds = params["classifier"]
    assert np.std(seeds["seg1"]["kernel"]) == pytest.approx(np.sqrt(2 / (9 * 21)), rel=0.02)
    bound = 1 / np.sqrt(9 * 512)
    assert 0.6 * bound < np.abs(seeds["seg2"]["bias"]).max() <= bound
    convs = params["similarity"]["layer3_1"]
    assert np.std(convs["conv2"]["kernel"]) == pytest.approx(np.sqrt(2 / (9 * 256)), rel=0.02)
    plain = create_model("difnet_r18-d8", num_classes=21, difnet=DifNetOptions(init_std=0.01))
    seeds = jax.jit(lambda: plain.init(jax.random.key(0), images, train=False))()["params"]
    assert np.std(seeds["classifier"]["seg1"]["kernel"]) == pytest.approx(0.01, rel=0.02)
    assert not np.any(seeds["classifier"]["seg1"]["bias"])


def modules():
    """Each module here and there, its rows, and an input."""
    rng = np.random.default_rng(0)
    whole, parts = create_model("difnet_r18-d8", num_classes=K), theirs(18).module
    rows = difnet.rows(whole)
    scores, top = rng.normal(size=(2, 7, 9, K)), rng.normal(size=(2, 7, 9, 512))
    return {
        "importance": (Importance(), parts.mask_layer, rows, "importance", "mask_layer.", scores),
        "classifier": (
            *(whole.classifier, parts.model_sed.layer5, rows, "classifier"),
            *("model_sed.layer5.", top),
        ),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["importance", "classifier"])
@pytest.mark.parametrize("train", [False, True])
def test_a_module_by_itself(name, train):
    """float32: values, gradients of all parameters and of the input within 2e-5."""
    ours, other, rows, path, prefix, x = modules()[name]
    other.float().train(train)
    state = state_dict(other)
    rows = [row for row in rows if f"/{path}/" in row.variable]
    leaves = {r.variable.split("/", 1)[0]: {} for r in rows}
    for row in rows:
        kind, _, *inner = row.variable.split("/")
        leaves[kind][tuple(inner)] = to_ours(row, state[row.tensor.removeprefix(prefix)])
    variables = {kind: unflatten_dict(flat) for kind, flat in leaves.items()}
    x = x.astype(np.float32)
    there = torch.from_numpy(x).permute(0, 3, 1, 2).requires_grad_()
    y = other(there)
    g = np.random.default_rng(1).normal(size=(*x.shape[:3], y.shape[1])).astype(np.float32)
    y.backward(torch.from_numpy(g).permute(0, 3, 1, 2))

    def apply(params, x):
        found = ours.apply({**variables, "params": params}, x, train=train, mutable=["batch_stats"])
        return found[0]

    with jax.default_matmul_precision("highest"):
        value, pullback = jax.vjp(apply, variables["params"], jnp.asarray(x))
        gradient, of_input = pullback(jnp.asarray(g))
    assert relative(value, y.detach().permute(0, 2, 3, 1).numpy()) < 2e-5
    assert relative(of_input, there.grad.permute(0, 2, 3, 1).numpy()) < 2e-5
    flat, found = flatten_dict(gradient), dict(other.named_parameters())
    for row in rows:
        kind, _, *inner = row.variable.split("/")
        if kind == "params":
            expected = to_ours(row, found[row.tensor.removeprefix(prefix)].grad.numpy())
            assert relative(flat[tuple(inner)], expected) < 2e-5, row
