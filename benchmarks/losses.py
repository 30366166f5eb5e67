"""What each loss costs, value and gradient of the scores, against its PyTorch counterpart.

    python -m benchmarks.losses [--size B,H,W,K] [--repeats N] [--only TEXT] [--json FILE]

Both run on the same cores, in one process, taking turns; times are medians. Counterparts are
PyTorch's cross-entropy and mmsegmentation's modules (the `parity` packages); of the active boundary
loss, whose code no package has, the released rule, written out below. The ratio is the library's
time over theirs. Memory is what a program holds beside scores, labels and gradient, in maps of
B×H×W×K float32; PyTorch does not tell.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from benchmarks.sdc import Program, alternate, compiled
from sdnjax.losses import (
    ActiveBoundary,
    BoundaryWeighted,
    CrossEntropy,
    Dice,
    Focal,
    Lovasz,
    Ohem,
    Tversky,
)
from tests.parity.mmseg_reference import mmseg_module

F = torch.nn.functional


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="2,256,512,19", help="[%(default)s]")
    parser.add_argument("--repeats", type=int, default=7, help="[%(default)s]")
    parser.add_argument("--only", default="", help="losses whose name has this")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    args = parser.parse_args()
    size = tuple(int(n) for n in args.size.split(","))
    scores, labels = drawn(size)
    about = f"jax {jax.__version__}, torch {torch.__version__}, {jax.default_backend()}, {size}"
    print(about)
    rows = []
    for name, (ours, theirs) in pairs(size[-1]).items():
        if args.only not in name:
            continue
        programs = {"ours": our_program(ours, scores, labels)}
        if theirs is not None:
            programs["torch"] = torch_program(theirs, scores, labels)
        ms = alternate(programs, args.repeats, 0.0)
        memory = programs["ours"].memory_bytes / scores.nbytes
        row = {"loss": name, "size": size, **ms, "maps": memory}
        shown = ""
        if theirs is not None:
            row["ratio"] = ms["ours"] / ms["torch"]
            shown = f"torch {ms['torch']:9.1f} ms  × {row['ratio']:.2f}"
        rows.append(row)
        print(f"{name:26} ours {ms['ours']:8.1f} ms {memory:6.2f} maps  {shown}", flush=True)
    if args.json is not None:
        args.json.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")


def drawn(size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a network that is mostly right, and labels in blocks with void at their edges."""
    b, h, w, k = size
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, k, (b, -(-h // 32), -(-w // 32)))
    labels = coarse.repeat(32, 1).repeat(32, 2)[:, :h, :w]
    scores = rng.normal(0, 1, size).astype(np.float32)
    scores += 4 * np.eye(k, dtype=np.float32)[np.roll(labels, 5, 2)]
    labels[:, ::32], labels[:, :, ::32] = 255, 255
    return scores, labels.astype(np.int32)


def pairs(k: int) -> dict[str, tuple[Any, Callable | None]]:
    """Name → our loss and theirs, a function of scores [B, K, H, W] and labels."""
    losses = mmseg_module("mmseg.models.losses")
    samplers = mmseg_module("mmseg.structures.sampler")
    focal = mmseg_module("mmseg.models.losses.focal_loss")
    weights = np.linspace(0.5, 2, k).tolist()

    def smoothed(scores, labels):
        return F.cross_entropy(
            scores, labels, scores.new_tensor(weights), ignore_index=255, label_smoothing=0.1
        )

    class Head:
        ignore_index = 255
        loss_decode = losses.CrossEntropyLoss()

    def ohem(scores, labels):
        sampler = samplers.OHEMPixelSampler(Head(), thresh=0.7, min_kept=10_000)
        weight = sampler.sample(scores, labels[:, None])
        return Head.loss_decode(scores, labels, weight=weight, ignore_index=255)

    def sigmoid_focal(scores, labels):
        y = labels.reshape(-1)
        target = F.one_hot(torch.where(y == 255, 0, y), k)
        flat = scores.permute(0, 2, 3, 1).reshape(-1, k)
        valid = (y != 255)[:, None]
        return focal.py_sigmoid_focal_loss(flat, target, alpha=0.5, valid_mask=valid)

    lovasz = losses.LovaszLoss(reduction="none")
    by_image = losses.LovaszLoss(per_image=True)
    return {
        "cross-entropy": (CrossEntropy(), lambda s, y: F.cross_entropy(s, y, ignore_index=255)),
        "cross-entropy, smoothed": (
            CrossEntropy(class_weights=tuple(weights), label_smoothing=0.1),
            smoothed,
        ),
        "ohem": (Ohem(), None),
        "ohem over the batch": (Ohem(over="batch", normalize_by="all_pixels"), ohem),
        "focal": (Focal(normalize_by="all_pixels"), sigmoid_focal),
        "dice": (Dice(void="counted"), losses.DiceLoss(use_sigmoid=False)),
        "tversky": (Tversky(), losses.TverskyLoss()),
        "lovasz": (Lovasz(), by_image),
        "lovasz over the batch": (Lovasz(over="batch"), lovasz),
        "boundary weighted": (BoundaryWeighted(), None),
        "active boundary": (ActiveBoundary(), None),
        "active boundary, released": (ActiveBoundary(budget="batch"), active_boundary),
    }


def our_program(loss: Any, scores: np.ndarray, labels: np.ndarray) -> Program:
    def value(scores, labels):
        (mean,) = loss({"logits": scores}, {"label": labels}).values()
        return mean.value()

    return compiled(jax.value_and_grad(value), jnp.asarray(scores), jnp.asarray(labels))


def torch_program(loss: Callable, scores: np.ndarray, labels: np.ndarray) -> Program:
    tensor = torch.from_numpy(np.ascontiguousarray(np.moveaxis(scores, 3, 1))).requires_grad_()
    target = torch.from_numpy(labels.astype(np.int64))

    def start():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.autograd.grad(loss(tensor, target).sum(), tensor)

    return Program(start, lambda result: result, None)


AROUND = ((1, 0), (-1, 0), (0, -1), (0, 1), (-1, 1), (1, 1), (-1, -1), (1, -1))


def active_boundary(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The released rule: distances by SciPy, neighbours of boundary pixels gathered."""
    h, w = labels.shape[1:]
    lower = F.pad(labels[:, 1:] != labels[:, :-1], (0, 0, 0, 1))
    right = F.pad(labels[:, :, 1:] != labels[:, :, :-1], (0, 1))
    boundary = lower | right | (labels == 255)
    distance = torch.from_numpy(
        np.stack(
            [np.maximum(np.floor(distance_transform_edt(~x.numpy()) - 1), 0) for x in boundary]
        )
    )
    log_p = scores.log_softmax(1)
    constant = log_p.detach()
    p = constant.exp()
    kl = torch.zeros_like(distance, dtype=scores.dtype)
    kl[:, :-1] += (p[:, :, :-1] * (constant[:, :, :-1] - constant[:, :, 1:])).sum(1)
    kl[:, :, :-1] += (p[..., :-1] * (constant[..., :-1] - constant[..., 1:])).sum(1)
    threshold = 1e-5
    while (kl > threshold).sum() > 0.01 * h * w:
        threshold *= 1.2
    near = F.max_pool2d((kl > threshold).float()[:, None], 3, 1, 1)[:, 0] > 0
    padded = F.pad(distance, (1, 1, 1, 1), value=1e5)
    there = [padded[:, 1 + y : 1 + y + h, 1 + x : 1 + x + w] for y, x in (*AROUND, (0, 0))]
    target = torch.stack(there).argmin(0)
    n, i, j = torch.nonzero(near & (target < 8), as_tuple=True)
    own = log_p.permute(0, 2, 3, 1)[n, i, j]
    divergences = []
    for y, x in AROUND:
        place = n, (i + y).clamp(0, h - 1), (j + x).clamp(0, w - 1)
        q = constant.permute(0, 2, 3, 1)[place]
        divergences.append((q.exp() * (q - own)).sum(1))
    z = torch.stack(divergences, 1).log_softmax(1)
    aim = z.gather(1, target[n, i, j][:, None])[:, 0]
    losses = -(0.025 * z.sum(1) + 0.775 * aim)
    return (losses * distance[n, i, j].clamp(max=20) / 20).mean()


if __name__ == "__main__":
    main()
