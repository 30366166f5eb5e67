"""What the comparisons with real PyTorch networks share: weights, conversion, distances."""

import copy
import importlib
import sys
import tempfile
import types
import warnings
from typing import NamedTuple

import jax
import numpy as np
import torch

from sdnjax.convert import LAYOUTS, Layout
from sdnjax.losses import cross_entropy


def build_mmseg(config):
    """A network of mmsegmentation, without what these never touch.

    Stand-ins take the place of mmcv's compiled operators, and of the text tools that it imports
    for CLIP, where those are not installed.
    """
    for name in ("mmcv._ext", "ftfy", "regex"):
        try:
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = stand_in = types.ModuleType(name)
            stand_in.__getattr__ = lambda name: None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what both packages have outlived
        import mmseg.models  # noqa: F401
        from mmseg.registry import MODELS

        return MODELS.build(config)


def randomise(module, seed=0):
    """Nothing stays at its initial value; scales near 1, kernels by their fan-in."""
    generator = torch.Generator().manual_seed(seed)

    def normal(x, std):
        return torch.randn(x.shape, generator=generator, dtype=torch.float64).mul(std).to(x.dtype)

    def uniform(x):
        return torch.rand(x.shape, generator=generator, dtype=torch.float64).add(0.5).to(x.dtype)

    norms = (torch.nn.LayerNorm, torch.nn.GroupNorm, torch.nn.modules.batchnorm._BatchNorm)
    with torch.no_grad():
        for part in module.modules():
            for name, x in part.named_parameters(recurse=False):
                if isinstance(part, norms) and name == "weight":
                    x.copy_(uniform(x))
                elif x.ndim > 1 and name.endswith("weight"):
                    fan_in = x[0].numel()
                    x.copy_(
                        normal(
                            x,
                            (1.0 if isinstance(part, torch.nn.Linear) else 2.0) ** 0.5
                            * fan_in**-0.5,
                        )
                    )
                else:
                    x.copy_(normal(x, 0.3))
            for name, x in part.named_buffers(recurse=False):
                if name == "running_mean":
                    x.copy_(normal(x, 0.3))
                elif name == "running_var":
                    x.copy_(uniform(x))
    return module


def arrays(tensors):
    return {name: x.detach().numpy().copy() for name, x in tensors.items()}


def layout_of(row):
    return row.layout if isinstance(row.layout, Layout) else LAYOUTS[row.layout]


def ours_of(row, tensors):
    """The array of a row's leaf."""
    x = tensors[row.tensor]
    if row.part is not None:
        index, count = row.part
        x = np.split(x, count)[index]
    return layout_of(row).to_ours(x)


def to_variables(rows, tensors, model, images):
    """Every row used once, every leaf filled, every shape right."""
    tree = {"params": {}, "batch_stats": {}}
    for row in rows:
        *path, last = row.variable.split("/")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        assert last not in node, row.variable
        node[last] = np.ascontiguousarray(ours_of(row, tensors))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    shapes = {"batch_stats": {}, **shapes}
    assert jax.tree.structure(tree) == jax.tree.structure(shapes), leaf_names(tree) ^ leaf_names(
        shapes
    )
    for path, x in jax.tree_util.tree_leaves_with_path(tree):
        wanted = leaf(shapes, "/".join(p.key for p in path))
        assert x.shape == wanted.shape, (path, x.shape, wanted.shape)
    return tree


def unused(rows, tensors, ignored=()):
    used = {row.tensor for row in rows}
    skip = (*ignored, "num_batches_tracked")
    return [name for name in tensors if name not in used and not name.endswith(tuple(skip))]


def leaf_names(tree):
    return {"/".join(p.key for p in path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)}


def leaf(tree, path):
    for part in path.split("/"):
        tree = tree[part]
    return tree


def relative(ours, theirs):
    """Largest difference over the largest value of the reference."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def nhwc(x):
    return x.detach().permute(0, 2, 3, 1).numpy()


def count(tensors):
    return sum(int(np.prod(x.shape)) for x in tensors.values())


def worst_gradient(rows, gradients, theirs):
    """Largest relative difference over all leaves, and the leaf.

    A gradient that is 0 up to rounding (of a bias that a norm takes away, of a key's bias) is
    measured against the largest of all gradients.
    """
    floor = 1e-6 * max(float(np.abs(x).max()) for x in theirs.values())
    worst = (0.0, "")
    for row in rows:
        if not row.variable.startswith("params/"):
            continue
        want = ours_of(row, theirs)
        have = np.asarray(leaf(gradients, row.variable.removeprefix("params/")))
        distance = np.abs(have - want).max() / max(np.abs(want).max(), floor)
        worst = max(worst, (float(distance), row.variable))
    return worst


def saved(module, values=None):
    """A Hugging Face network's tensors by the names of its files; `values` instead, if given."""
    from safetensors.numpy import load_file

    if values is not None:
        module = copy.deepcopy(module)
        with torch.no_grad():
            for name, x in module.named_parameters():
                x.copy_(values[name])
    with tempfile.TemporaryDirectory() as folder:
        module.save_pretrained(folder)
        return load_file(f"{folder}/model.safetensors")


def check_outputs(model, variables, images, expected):
    """Every expected array: an output by its name, or a module's result by its path."""

    @jax.jit
    def run(variables, images):
        outputs, state = model.apply(
            variables, images, train=False, capture_intermediates=True, mutable=["intermediates"]
        )
        return outputs, state["intermediates"]

    with jax.default_matmul_precision("highest"):
        outputs, inside = run(variables, images)
    distances = {}
    for name, want in expected.items():
        have = outputs[name] if name in outputs else leaf(inside, name)["__call__"][0]
        distances[name] = relative(have, want)
    worst = max(distances, key=distances.get)
    print(f"logits {distances['logits']:.1e}, {worst} {distances[worst]:.1e}")
    assert distances[worst] < 1e-5, worst


class Step(NamedTuple):
    """What PyTorch made of a training step."""

    loss: float
    gradients: dict
    statistics: dict


def check_training(model, rows, variables, batch, theirs):
    """Loss, gradients and new batch-norm statistics of a `Step`, all in float64."""
    images, labels = batch

    def loss_of(params):
        outputs, changed = model.apply(
            {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
        )
        return cross_entropy(outputs["logits"], labels), changed

    (ours, changed), gradient = jax.jit(jax.value_and_grad(loss_of, has_aux=True))(
        variables["params"]
    )
    assert abs(float(ours) - theirs.loss) < 1e-10
    distance, where = worst_gradient(rows, gradient, theirs.gradients)
    print(f"gradients {distance:.1e} ({where})")
    assert distance < 1e-7, where
    for row in rows:
        if row.variable.startswith("batch_stats/"):
            assert relative(leaf(changed, row.variable), ours_of(row, theirs.statistics)) < 1e-10
