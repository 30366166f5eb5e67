"""What the comparisons with real PyTorch networks share: weights, conversion, distances."""

import importlib
import sys
import types
import warnings

import jax
import numpy as np
import torch

from sdnjax.convert import LAYOUTS, Layout


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
