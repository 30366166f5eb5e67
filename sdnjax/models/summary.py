"""What a network is made of and what it costs at a given size; nothing is computed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict

from sdnjax.models.calls import Call, record_calls
from sdnjax.models.cost import RESIZE, multiply_adds
from sdnjax.models.inputs import abstract_inputs
from sdnjax.models.necks.sdn import SDN, SDNNeck


@dataclass(frozen=True)
class Layer:
    """One module with everything inside it.

    Attributes:
      path: "backbone/layer1_0"; "" is the whole network.
      kind: the module's class.
      output: its shape, where it is one array.
      parameters: how many numbers.
      multiply_adds: of convolutions, linear layers and attention products; of SDC as it is
        defined, `(K − 1)·(Ci·Co + Cf)` per pixel, whatever computes it. Norms, activations,
        pooling and resizing count nothing.
      activation_bytes: of the outputs of all layers that have no layers inside
        (convolutions, norms, linear layers), of an SDN's operator and of SDC's similarities;
        about what a backward pass keeps.
    """

    path: str
    kind: str
    output: tuple[int, ...] | None
    parameters: int
    multiply_adds: int
    activation_bytes: int


def summarize(
    model: nn.Module, image_size: tuple[int, int], *, batch: int = 1, channels: int = 3
) -> list[Layer]:
    """All modules of `model` in evaluation, outer before inner, in the order of their calls.

    What runs in training alone, such as an auxiliary head, is listed last with its
    parameters and costs nothing. Extra inputs have the size of the images.
    """
    images = jax.ShapeDtypeStruct((batch, *image_size, channels), jnp.float32)
    extras = abstract_inputs(model, (batch, *image_size))
    variables = jax.eval_shape(
        lambda x, extras: model.init(jax.random.key(0), x, train=False, **extras), images, extras
    )
    calls: list[Call] = []

    def forward(variables: Any, images: jax.Array, extras: Any) -> Any:
        def apply() -> Any:
            return model.apply(variables, images, train=False, **extras)

        outputs, made = record_calls(apply)
        calls.extend(made)
        return outputs

    counted = multiply_adds(jax.make_jaxpr(forward)(variables, images, extras).jaxpr)
    calls.sort(key=lambda call: call.start)
    # A head and its features have one path; the outer one, which begins first, is the head.
    first = {call.path: call for call in reversed(calls)}
    paths = dict.fromkeys(call.path for call in calls)
    kinds = {path: type(first[path].module).__name__ for path in paths}
    outputs = {path: getattr(first[path].output, "shape", None) for path in paths}
    outer = {parent for path in kinds for parent in _parents(path)}

    cost: dict[str, list[int]] = {}  # path → parameters, multiply-adds, bytes of its own
    sdc = set()
    for call in calls:
        own = cost.setdefault(call.path, [0, 0, 0])
        if isinstance(call.module, SDN) and call.module.operator != "none":
            is_sdc = call.module.operator == "sdc"
            sdc |= {call.path} if is_sdc else set()
            macs, similarities, output = _operator(call)
            own[1] += macs * is_sdc
            own[2] += similarities * is_sdc + output
        elif call.path not in outer:
            own[2] += _bytes(call.output) * (call.output is not call.inputs[0])
    for scope, count in counted.items():
        path = _module(scope, kinds)
        if RESIZE not in scope and path not in sdc:
            cost[path][1] += count
    for name, leaf in flatten_dict(variables["params"], sep="/").items():
        path = name.rpartition("/")[0]
        cost.setdefault(path, [0, 0, 0])[0] += math.prod(leaf.shape)
    unused = {p.split("/")[0] for p in cost} - {p.split("/")[0] for p in kinds}
    for path in sorted(unused):
        module = getattr(model, path, None)
        kinds[path], outputs[path] = type(module).__name__ if module is not None else "", None
    return [Layer(p, kinds[p], outputs[p], *_with_inner(p, cost)) for p in kinds]


def format_summary(layers: Sequence[Layer], depth: int = 2) -> str:
    """A table of the modules down to `depth` levels, the totals, and SDN's share of them."""
    rows = [("layer", "kind", "output", "parameters", "multiply-adds", "activations")]
    for layer in layers:
        level = len(layer.path.split("/")) if layer.path else 0
        if level <= depth:
            name = "  " * max(0, level - 1) + (layer.path.rpartition("/")[2] or "network")
            shape = "×".join(map(str, layer.output)) if layer.output else ""
            rows.append((name, layer.kind, shape, *_amounts(layer)))
    widths = [max(len(row[i]) for row in rows) for i in range(6)]
    template = "  ".join(f"{{:{'<' if i < 3 else '>'}{width}}}" for i, width in enumerate(widths))
    lines = [template.format(*row) for row in rows]
    return "\n".join([*map(str.rstrip, lines), "", *_shares(layers)])


def _shares(layers: Sequence[Layer]) -> Iterator[str]:
    total = layers[0]
    neck = next((layer for layer in layers if layer.kind == SDNNeck.__name__), None)
    whole = _amounts(total)
    yield f"total: {whole[0]} parameters, {whole[1]} multiply-adds, {whole[2]} of activations"
    if neck is None or neck.parameters == 0:
        yield "SDN: none"
        return
    part = [
        f"{amount} ({own / all_:.1%})"
        for amount, own, all_ in zip(
            _amounts(neck),
            (neck.parameters, neck.multiply_adds, neck.activation_bytes),
            (total.parameters, total.multiply_adds, total.activation_bytes),
            strict=True,
        )
    ]
    yield f"SDN: {part[0]} parameters, {part[1]} multiply-adds, {part[2]} of activations"


def _amounts(layer: Layer) -> tuple[str, str, str]:
    return (
        f"{layer.parameters / 1e6:.3f} M",
        f"{layer.multiply_adds / 1e9:.3f} G",
        f"{layer.activation_bytes / 2**20:.1f} MiB",
    )


def _operator(call: Call) -> tuple[int, int, int]:
    """SDC's multiply-adds, bytes of its similarities, and bytes of an SDN operator's output."""
    sdn, (u, guidance) = call.module, call.inputs
    pixels, inner = math.prod(u.shape[:3]), u.shape[-1] // sdn.reduction
    taps = sdn.kernel_size**2 - 1
    depth = 0 if sdn.similarity == "constant" else guidance.shape[-1]
    output = pixels * inner * jnp.dtype(sdn.dtype).itemsize
    return pixels * taps * (inner**2 + depth), pixels * (taps + 1) * 4, output


def _module(scope: Sequence[str], known: Any) -> str:
    """The innermost module that a scope lies in; other names in the scope are passed over."""
    path = ""
    for name in scope:
        longer = f"{path}/{name}" if path else name
        path = longer if longer in known else path
    return path


def _parents(path: str) -> Iterator[str]:
    while path:
        path = path.rpartition("/")[0]
        yield path


def _with_inner(path: str, cost: dict[str, list[int]]) -> list[int]:
    inside = [own for p, own in cost.items() if not path or p == path or p.startswith(path + "/")]
    return [sum(column) for column in zip(*inside, strict=True)] or [0, 0, 0]


def _bytes(output: Any) -> int:
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(output))
