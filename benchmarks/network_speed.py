"""Whole networks against mmsegmentation's in PyTorch: a prediction and a training step.

    python -m benchmarks.network_speed [--only TEXT] [--rounds N] [--no-compile] [--json FILE]

Five networks, without and with the SDN neck, random values and pictures, float32. Both sides run in
one process on the same cores and take turns; times are medians. PyTorch runs as it is (eager), with
channels last, and through `torch.compile`; a form that fails is named.
mmsegmentation has no SDN: theirs gets one of patches (`unfold`), as one writes it in PyTorch. A
training step is forward, backward, batch statistics and SGD with momentum, in batches of 2. Ratios
are PyTorch's time over ours: above 1 we are faster. Needs the `parity` packages.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import mmseg
import numpy as np
import torch
from mmengine import Config
from torch import nn

from benchmarks.sdc import Program, alternate
from benchmarks.torch_forms import unfold_sdc
from sdnjax.data import Data
from sdnjax.experiment import Experiment
from sdnjax.models import Model, Neck
from tests.parity.harness import Theirs
from tests.parity.mmseg_reference import mmseg_network

CLASSES = 19
FORWARD, TRAINING = (1, 512, 512), (2, 256, 256)

# Ours: mmsegmentation's configuration, changes, and the stages that the decoder reads.
NETWORKS: dict[str, tuple[str, dict[str, Any], Sequence[int]]] = {
    "fcn_r50-d8": ("fcn/fcn_r50-d8_4xb4-80k_ade20k-512x512.py", {}, (3,)),
    "fpn_r50": ("sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py", {}, (0, 1, 2, 3)),
    "segformer_mit-b0": (
        "segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py",
        {},
        (0, 1, 2, 3),
    ),
    "segmenter_vit-s_mask": (
        "segmenter/segmenter_vit-s_mask_8xb1-160k_ade20k-512x512.py",
        {"test_cfg": {"mode": "whole"}},
        (0,),
    ),
    "ocrnet_hr18": ("ocrnet/ocrnet_hr18_4xb4-80k_ade20k-512x512.py", {}, (0, 1, 2, 3)),
}


class PatchesSDN(nn.Module):
    """SDN by patches on those stages that the decoder reads, in front of mmsegmentation's neck."""

    def __init__(self, channels: Sequence[int], read: Sequence[int], then: nn.Module | None):
        super().__init__()
        self.read, self.then = tuple(read), then
        widths = [channels[i] for i in read]
        self.phi = nn.Conv2d(widths[-1], widths[-1], 3, stride=2, padding=1)
        self.kernels = nn.ParameterList(
            nn.Parameter(torch.randn(c, c, 3, 3) / (3 * c**0.5)) for c in widths
        )
        self.fusion = nn.ModuleList(nn.Conv2d(2 * c, c, 1) for c in widths)

    def forward(self, stages: Any) -> Any:
        stages = list(stages)
        seen = [stages[i] for i in self.read]
        guidance = [*seen[1:], self.phi(seen[-1])]
        parts = zip(self.read, seen, guidance, self.kernels, self.fusion, strict=True)
        for i, u, v, kernel, fusion in parts:
            v = nn.functional.interpolate(v, u.shape[2:], mode="bilinear", align_corners=False)
            stages[i] = fusion(torch.cat([u, unfold_sdc(u, v, kernel)], dim=1))
        return tuple(stages) if self.then is None else self.then(stages)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="networks whose name has this")
    parser.add_argument("--rounds", type=int, default=5, help="[%(default)s]")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    about = (
        f"jax {jax.__version__}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{cores} cores, prediction {FORWARD}, training {TRAINING}"
    )
    print(about)
    rows: list[dict[str, Any]] = []
    for name in NETWORKS:
        if args.only not in name:
            continue
        for neck in (None, "sdn"):
            for training in (False, True):
                row = compared(name, neck, training, args.rounds, not args.no_compile)
                rows.append(row)
                print(in_words(row), flush=True)
                if args.json is not None:
                    found = {"about": about, "rows": rows}
                    args.json.write_text(json.dumps(found, indent=1) + "\n")


def compared(
    name: str, neck: str | None, training: bool, rounds: int, with_compiled: bool
) -> dict[str, Any]:
    """Milliseconds of each program, and seconds that it took to compile."""
    b, h, w = TRAINING if training else FORWARD
    rng = np.random.default_rng(0)
    images = rng.normal(size=(b, h, w, 3)).astype(np.float32)
    labels = rng.integers(0, CLASSES, (b, h, w)).astype(np.int32)
    ours, seconds = our_program(name, neck, training, images, labels)
    programs, compiling = {"ours": ours}, {"ours": seconds}
    for form in ("eager", "channels last", *(("compiled",) if with_compiled else ())):
        try:
            program = their_program(name, neck, form, images, labels, training=training)
            begin = time.perf_counter()
            program.wait(program.start())
            compiling[form] = time.perf_counter() - begin
            programs[form] = program
        except Exception as error:  # whatever their compiler says
            print(f"  torch, {form}: {type(error).__name__}: {str(error).splitlines()[:1]}")
    ms = alternate(programs, rounds, 0.0)
    ratios = {form: ms[form] / ms["ours"] for form in programs if form != "ours"}
    what = "training step" if training else "prediction"
    return {
        **{"network": name, "neck": neck, "what": what},
        **{"ms": ms, "first_call_s": compiling, "ratios": ratios},
    }


def in_words(row: dict[str, Any]) -> str:
    title = f"{row['network']}{' + SDN' if row['neck'] else ''}, {row['what']}"
    ratios = "  ".join(
        f"{form} {row['ms'][form]:.0f} (×{r:.2f})" for form, r in row["ratios"].items()
    )
    first = ", ".join(f"{s:.0f}" for s in row["first_call_s"].values())
    return f"{title:45} ours {row['ms']['ours']:7.0f} ms  {ratios}  first calls {first} s"


def our_program(
    name: str, neck: str | None, training: bool, images: np.ndarray, labels: np.ndarray
) -> tuple[Program, float]:
    experiment = Experiment(
        model=Model(name, neck=Neck("sdc" if neck else "none")),
        data=Data(name="cityscapes", crop_size=images.shape[1:3]),
    )
    recipe = experiment.build(CLASSES)
    begin = time.perf_counter()
    if not training:
        network, variables = recipe.network, jax.jit(recipe.init_variables)()
        forward = jax.jit(lambda v, x: network.apply(v, x, train=False)["logits"])
        run = forward.lower(variables, images).compile()
        start: Callable[[], object] = functools.partial(run, variables, images)
    else:
        batch = {"image": images, "label": labels}
        # One state after another, as in training; the last one is given up.
        state = [jax.jit(recipe.init_state)()]
        step = jax.jit(recipe.step, donate_argnums=0).lower(state[0], batch).compile()

        def start() -> object:
            state[0], metrics = step(state[0], batch)
            return metrics

    return Program(start, jax.block_until_ready, None), time.perf_counter() - begin


def their_program(
    name: str,
    neck: str | None,
    form: str,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    training: bool,
) -> Program:
    config, changes, read = NETWORKS[name]
    theirs = mmseg_network(config, {**changes, **with_classes(config)})
    module = theirs.module
    x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    if neck:
        with torch.no_grad():
            channels = [stage.shape[1] for stage in module.backbone(x[:, :, :64, :64])]
        module.neck = PatchesSDN(channels, read, getattr(module, "neck", None))
    if form == "channels last":
        module.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    function: Any = theirs.loss if training else theirs.logits
    if form == "compiled":
        torch._dynamo.reset()
        function = torch.compile(function)
    return Program(
        their_step(theirs, function, x, torch.from_numpy(labels).long())
        if training
        else their_prediction(theirs, function, x),
        lambda result: result,
        None,
    )


def with_classes(config: str) -> dict[str, Any]:
    """mmsegmentation's heads for as many classes as ours."""
    model = Config.fromfile(str(Path(mmseg.__file__).parent / ".mim" / "configs" / config)).model
    changes: dict[str, Any] = {}
    for part in ("decode_head", "auxiliary_head"):
        heads = model.get(part)
        if isinstance(heads, dict):
            changes[part] = {"num_classes": CLASSES}
        elif heads:
            changes[part] = [{**head, "num_classes": CLASSES} for head in heads]
    return changes


def their_prediction(theirs: Theirs, function: Any, x: torch.Tensor) -> Callable[[], object]:
    theirs.module.eval()

    def start() -> object:
        with torch.no_grad():
            return function(x)

    return start


def their_step(
    theirs: Theirs, function: Any, x: torch.Tensor, labels: torch.Tensor
) -> Callable[[], object]:
    theirs.module.train()
    rates = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}
    optimizer = torch.optim.SGD(theirs.module.parameters(), **rates)

    def start() -> object:
        optimizer.zero_grad()
        loss = function(x, labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return start


if __name__ == "__main__":
    main()
