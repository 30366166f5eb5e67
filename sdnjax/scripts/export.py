"""Write the network of a work directory as one file that needs JAX alone.

    python export.py runs/camvid_fcn_r18_sdn net.stablehlo
    python export.py runs/camvid_fcn_r18_sdn net.stablehlo --size 360,480 --batch any

What is in it takes uint8 pictures [B, H, W, C] and returns their labels: normalisation, the
protocol and the weights are part of it. It is StableHLO as jax.export writes it; with JAX
and flatbuffers alone, without sdnjax:

    import jax
    from jax import export

    with open("net.stablehlo", "rb") as file:
        network = jax.jit(export.deserialize(bytearray(file.read())).call)
    labels = network(pictures)["labels"]

Networks and protocols that must know the size of a picture in advance are refused with --size any;
the line says why. Nothing is overwritten.
"""

import argparse
from pathlib import Path

from sdnjax.commands.command_line import (
    PREDICTION,
    add_code,
    add_protocol,
    add_step,
    from_workdir,
    parse_experiment,
)
from sdnjax.commands.export import PLATFORMS, Batch, Size, export_network
from sdnjax.commands.trained import load_network
from sdnjax.options import OneLineParser


def main() -> None:
    parser = OneLineParser(usage="python export.py RUN OUT [options]", description=__doc__)
    parser.add_argument(
        "run", type=Path, help="work directory of a run, or a folder of save_pretrained"
    )
    parser.add_argument("out", type=Path, help="file to write")
    parser.add_argument(
        "--size",
        type=_size,
        default="any",
        metavar="H,W",
        help="height,width of the pictures, or any of at least 32 pixels [any]",
    )
    parser.add_argument(
        "--batch", type=_batch, default=1, metavar="B", help="pictures at once, or any [1]"
    )
    parser.add_argument(
        "--platforms",
        type=_platforms,
        default=("cpu", "cuda", "tpu"),
        metavar="P,…",
        help=f"what it is to run on, of {', '.join(PLATFORMS)} [cpu,cuda,tpu]",
    )
    parser.add_argument(
        "--probabilities",
        action="store_true",
        help="the probabilities of all classes as a second output",
    )
    add_step(parser)
    add_protocol(parser)
    add_code(parser)
    arguments, experiment = parse_experiment(
        parser, "work directory", from_workdir, uses=(*PREDICTION, "data.mean", "data.std")
    )
    export_network(
        load_network(arguments.run, experiment, arguments.step),
        arguments.out,
        size=arguments.size,
        batch=arguments.batch,
        platforms=arguments.platforms,
        probabilities=arguments.probabilities,
    )


def _size(text: str) -> Size:
    numbers = text.split(",")
    if text == "any":
        return "any"
    if len(numbers) != 2 or not all(n.isdecimal() and int(n) > 0 for n in numbers):
        raise argparse.ArgumentTypeError(f"must be height,width or any, not {text!r}")
    return int(numbers[0]), int(numbers[1])


def _batch(text: str) -> Batch:
    if text == "any":
        return "any"
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a number from 1 on or any, not {text!r}")
    return int(text)


def _platforms(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
