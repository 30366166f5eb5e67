"""The operator as one writes it in PyTorch, and PyTorch's convolution, for `benchmarks/sdc.py`."""

from __future__ import annotations

import warnings

import jax.numpy as jnp
import torch
import torch.nn.functional as F


def unfold_sdc(u, v, kernel):
    """Eq. 5 with all patches in memory: u, v `[B, C, H, W]`, kernel `[Co, Ci, 3, 3]`."""
    b, c, h, w = u.shape
    near = F.unfold(u, 3, padding=1).reshape(b, c, 9, h * w)
    guide = F.unfold(v, 3, padding=1).reshape(b, v.shape[1], 9, h * w)
    inside = F.unfold(torch.ones_like(u[:1, :1]), 3, padding=1).reshape(1, 1, 9, h * w)
    distance = (guide - v.reshape(b, -1, 1, h * w)).float().square().sum(1, keepdim=True)
    similarity = (torch.rsqrt(1 + distance) * inside).to(u.dtype)
    weighted = (near - u.reshape(b, c, 1, h * w)) * similarity
    y = kernel.reshape(kernel.shape[0], -1) @ weighted.view(b, c * 9, h * w)
    return y.reshape(b, -1, h, w)


def convolution(u, v, kernel):
    del v
    return F.conv2d(u, kernel, padding=1)


def programs(shape, dtype, backward: bool, wanted) -> dict[str, tuple]:
    """`(start, wait, memory in bytes or None)` by name, of the forms `wanted`; one that fails is
    left out, aloud."""
    on_gpu = torch.cuda.is_available()
    torch.backends.cudnn.benchmark = True  # it tries algorithms, as XLA does
    device = torch.device("cuda" if on_gpu else "cpu")
    kind = getattr(torch, jnp.dtype(dtype).name)
    b, h, w, c = shape
    generator = torch.Generator(device).manual_seed(0)

    def normal(*size):
        x = torch.randn(size, generator=generator, device=device).to(kind)
        return x.requires_grad_(backward)

    plain = normal(b, c, h, w), normal(b, c, h, w), normal(c, c, 3, 3)
    packed = tuple(
        x.detach().contiguous(memory_format=torch.channels_last).requires_grad_(backward)
        for x in plain
    )

    def wait(result):
        if on_gpu:
            torch.cuda.synchronize()
        return result

    def starter(function, arguments):
        def start():
            if not backward:
                with torch.no_grad():
                    return function(*arguments)
            y = function(*arguments)
            used = [x for x in arguments if function is not convolution or x is not arguments[1]]
            return torch.autograd.grad(y, used, y.detach())

        return start

    torch._dynamo.reset()
    forms = {
        "torch convolution": (convolution, packed),
        "torch unfold": (unfold_sdc, plain),
        "torch unfold compiled": (torch.compile(unfold_sdc), plain),
    }
    found = {}
    for name, (function, arguments) in forms.items():
        if name not in wanted:
            continue
        start, memory = starter(function, arguments), None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if on_gpu:
                    wait(start())
                    torch.cuda.reset_peak_memory_stats()
                    before = torch.cuda.memory_allocated()
                wait(start())
                if on_gpu:
                    memory = torch.cuda.max_memory_allocated() - before
        except (RuntimeError, torch._dynamo.exc.TorchDynamoException) as error:
            print(f"  ({name}: {str(error).splitlines()[0]})")
            continue
        found[name] = start, wait, memory
    return found
