"""Our network against somebody else's: one set of random values, two computations.

A test builds both, says which submodule there is which output here, and calls
`compare_outputs` (float32, evaluation) and `compare_step` (float64: loss, gradients and
batch-norm statistics of a training step). Both return what they measured.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from sdnjax.convert import load, to_torch
from sdnjax.convert.rows import to_ours
from sdnjax.losses import cross_entropy

torch = pytest.importorskip("torch")  # skips the test module that imports this one

SIZE = (97, 161)


@dataclass
class Theirs:
    """A PyTorch network: the module and how it is called.

    Attributes:
      logits: images `[B, 3, H, W]` → logits `[B, K, H, W]`.
      loss: (images, labels `[B, H, W]`) → the sum of all losses, in training mode.
    """

    module: torch.nn.Module
    logits: Callable[[torch.Tensor], torch.Tensor]
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None

    def __post_init__(self) -> None:
        """Nothing random, nothing at its initial value."""
        for module in self.module.modules():
            if "drop" in type(module).__name__.lower():
                for rate in ("p", "drop_prob"):
                    if hasattr(module, rate):
                        setattr(module, rate, 0.0)
        randomise(self.module, seed=0)


def randomise(module: torch.nn.Module, seed: int) -> None:
    """Non-trivial values for every parameter and every batch-norm statistic."""
    rng = np.random.default_rng(seed)

    def fill(tensor: torch.Tensor, value: Any) -> None:
        tensor.copy_(torch.from_numpy(np.asarray(value)))

    norms = (torch.nn.modules.batchnorm._NormBase, torch.nn.LayerNorm, torch.nn.GroupNorm)
    with torch.no_grad():
        for part in module.modules():
            for name, p in part.named_parameters(recurse=False):
                if isinstance(part, norms) and name == "weight":
                    fill(p, rng.uniform(0.5, 1.5, p.shape))
                elif p.ndim > 1:
                    fan_in = np.prod(p.shape[1:])
                    fill(p, rng.normal(size=p.shape) * np.sqrt(2 / fan_in))
                else:
                    fill(p, 0.2 * rng.normal(size=p.shape))
            if getattr(part, "running_var", None) is not None:
                fill(part.running_mean, 0.2 * rng.normal(size=part.running_mean.shape))
                fill(part.running_var, rng.uniform(0.5, 1.5, part.running_var.shape))


Pick = str | tuple[str, Callable[[Any], torch.Tensor]]


@contextlib.contextmanager
def captured(module: torch.nn.Module, picks: Mapping[str, Pick]) -> Iterator[dict[str, np.ndarray]]:
    """Outputs of submodules during the block, channels last: name → array.

    A pick is the submodule's path, or that with a function that makes a tensor of its output.
    """
    found: dict[str, np.ndarray] = {}
    with contextlib.ExitStack() as stack:
        for name, pick in picks.items():
            path, choose = (pick, lambda x: x) if isinstance(pick, str) else pick

            def keep(_m: Any, _x: Any, y: Any, name: str = name, choose: Any = choose) -> None:
                found[name] = channels_last(choose(y))

            handle = module.get_submodule(path).register_forward_hook(keep)
            stack.callback(handle.remove)
        yield found


def channels_last(x: torch.Tensor) -> np.ndarray:
    array = x.detach().clone().numpy()
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def images_and_labels(
    num_classes: int, size: tuple[int, int] = SIZE, batch: int = 1, channels: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Float64 images `[B, H, W, C]`, and labels with a band of void."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, num_classes, (batch, *size))
    labels[:, :7] = 255
    return rng.normal(size=(batch, *size, channels)), labels


def relative(ours: Any, theirs: np.ndarray) -> float:
    """Largest difference over the largest value."""
    ours = np.asarray(ours)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def state_dict(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """A copy, which training there does not change."""
    return {k: v.detach().clone().numpy() for k, v in module.state_dict().items()}


def compare_outputs(
    model: Any,
    theirs: Theirs,
    table: Any,
    picks: Mapping[str, Pick],
    *,
    images: np.ndarray,
    tolerance: float = 1e-5,
) -> dict[str, float]:
    """Logits and the named outputs of `model`, float32, highest precision, evaluation.

    The converted values also go back: the original loads them strictly, bit for bit.
    """
    theirs.module.float().eval()
    state = state_dict(theirs.module)
    variables = load(model, state, table, report=lambda _: None)

    back = to_torch(model, variables, table)
    for name, value in back.items():
        if not name.endswith("num_batches_tracked"):
            assert value.tobytes() == state[name].tobytes(), name
    theirs.module.load_state_dict({k: torch.from_numpy(v) for k, v in back.items()}, strict=True)

    x = images.astype(np.float32)
    with torch.no_grad(), captured(theirs.module, picks) as expected:
        logits = theirs.logits(torch.from_numpy(x).permute(0, 3, 1, 2))
    silent = picks.keys() - expected.keys()
    assert not silent, f"never called as modules: {silent}"
    expected["logits"] = channels_last(logits)
    with jax.default_matmul_precision("highest"):
        outputs = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, x)
    measured = {name: relative(outputs[name], value) for name, value in expected.items()}
    wrong = {name: value for name, value in measured.items() if not value < tolerance}
    assert not wrong, wrong
    return measured


def segmentation_loss(outputs: Mapping[str, Any], labels: Any) -> Any:
    """mmseg's default: cross-entropy over all pixels, 0.4 of the auxiliary head's."""
    loss = cross_entropy(outputs["logits"], labels, normalize_by="all_pixels")
    if "auxiliary" in outputs:
        loss += 0.4 * cross_entropy(outputs["auxiliary"], labels, normalize_by="all_pixels")
    return loss


def compare_step(
    model: Any,
    theirs: Theirs,
    table: Any,
    *,
    images: np.ndarray,
    labels: np.ndarray,
    loss: Callable[[Mapping[str, Any], Any], Any] = segmentation_loss,
    tolerance: float = 1e-7,
) -> dict[str, float]:
    """Loss, gradients and new statistics of one training step in float64.

    In float32 a value that rounds across a ReLU's zero changes the gradient, so float64 is
    where a wrong formula shows. `model` computes in float64; call it under `x64`.
    """
    theirs.module.double().train()
    variables = load(
        model, state_dict(theirs.module), table, dtype=np.float64, report=lambda _: None
    )
    rest = {k: v for k, v in variables.items() if k != "params"}

    def loss_of(params: Any) -> tuple[Any, Any]:
        outputs, changed = model.apply(
            {"params": params, **rest},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(0)},
        )
        return loss(outputs, labels), changed

    (our_loss, changed), gradient = jax.jit(jax.value_and_grad(loss_of, has_aux=True))(
        variables["params"]
    )
    theirs.module.zero_grad()
    x = torch.from_numpy(images).permute(0, 3, 1, 2)
    their_loss = theirs.loss(x, torch.from_numpy(labels))
    their_loss.backward()

    measured = {"loss": abs(float(our_loss) - their_loss.item()) / abs(their_loss.item())}
    ours = flatten_dict({"params": gradient, **changed}, sep="/")
    expected = state_dict(theirs.module)
    expected |= {k: p.grad.numpy() for k, p in theirs.module.named_parameters()}
    scale = max(float(np.abs(x).max()) for x in jax.tree.leaves(gradient))
    for row in table.rows(model):
        theirs_there = to_ours(row, expected[row.tensor])
        distance = np.abs(np.asarray(ours[row.variable]) - theirs_there).max()
        # A bias before batch norm has gradient 0: there the largest gradient is the measure.
        floor = 1e-3 * scale if row.variable.startswith("params/") else 0.0
        measured[row.variable] = float(distance / max(np.abs(theirs_there).max(), floor))
    wrong = {name: value for name, value in measured.items() if not value < tolerance}
    assert not wrong, wrong
    return measured
