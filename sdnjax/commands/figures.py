"""Pictures of what a trained network does inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from sdnjax.commands.pictures import claim, extra_inputs, find_pictures, own_pixels
from sdnjax.commands.trained import Step, Trained, load_network
from sdnjax.data.reading.images import read_image
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.models.inputs import inputs_of
from sdnjax.visualize import save_png, shown
from sdnjax.visualize.figures import network_figures, transition_figure

_NAMES = ("scores", "walks", "transitions", "ecrf", "neck", "context")


def draw_network(
    workdir: str | Path,
    experiment: Experiment,
    pictures: Sequence[str | Path],
    out: str | Path,
    *,
    points: Sequence[tuple[int, int]] = (),
    step: Step = None,
    report: Callable[[str], None] = tqdm.write,
) -> list[Path]:
    """Writes `NAME_FIGURE.png` for every figure that the network has something to show in.

    See `sdnjax.visualize.figures.network_figures`. The network sees each picture whole, at its
    own size.

    Args:
      experiment: the run's own, or that with other settings of `data`.
      pictures: files, or folders of them.
      out: folder to write to; nothing is overwritten but what an earlier call has written.
      points: (row, column) of pixels whose rows of the transition matrices are shown.

    Returns the files.

    Raises: InputError for a network that has none of these figures, or points for one that does
      not walk.
    """
    out = Path(out)
    files = find_pictures([Path(p) for p in pictures], report)
    trained = load_network(workdir, experiment, step)
    apply = jax.jit(lambda v, x, extras: trained.network.apply(v, x, train=False, **extras))
    walks = getattr(trained.network, "walks", None)
    if points and walks is None:
        raise InputError(f"--points: {trained.experiment.network_name} has no random walks")
    claim(
        out,
        [f"{name}_{kind}.png" for name in files for kind in _NAMES],
        files.values(),
        by="figures.py",
    )
    written: list[Path] = []
    for name, file in files.items():
        image = read_image(file, own_pixels(experiment.data))
        inputs = inputs_of_picture(trained, image)
        outputs = apply(trained.variables, inputs.pop("image"), inputs)
        figures = network_figures(jax.device_get(outputs), shown(image), trained.palette)
        if walks is not None and points:
            figures["transitions"] = _transitions(trained, image, points, walks)
        if not figures:
            raise InputError(
                f"{trained.experiment.network_name} has nothing to show here: no neck, no context "
                "and no random walks"
            )
        for kind, sheet in figures.items():
            path = out / f"{name}_{kind}.png"
            save_png(path, sheet)
            written.append(path)
        report(f"{name}: {', '.join(figures)}")
    report(f"{len(written)} sheet(s) written to {out}")
    return written


def inputs_of_picture(trained: Trained, image: np.ndarray) -> dict[str, Any]:
    """The arguments of a network for one picture: `image [1, H, W, C]`, and what it asks for."""
    data, wanted = trained.experiment.data, inputs_of(trained.network)
    normalized = jnp.asarray(data.normalization(image))[None]
    inputs = {"image": normalized} | {
        name: jnp.asarray(x)[None] for name, x in extra_inputs(wanted, image, data).items()
    }
    if "picture" in wanted:
        inputs["picture"] = data.normalization.picture(normalized)
    return inputs


def _transitions(
    trained: Trained,
    image: np.ndarray,
    points: Sequence[tuple[int, int]],
    walks: Sequence[int],
) -> np.ndarray:
    check_points(points, image.shape[:2])
    network: Any = trained.network
    normalized = inputs_of_picture(trained, image)["image"]
    rows = network.transition_rows(trained.variables, normalized, points)
    names = ["image" if walk == 0 else f"stage {walk}" for walk in walks]
    return transition_figure(shown(image), points, np.asarray(rows), names)


def check_points(points: Sequence[tuple[int, int]], size: tuple[int, int]) -> None:
    """InputError for a (row, column) beyond a picture of `size`."""
    for y, x in points:
        if y >= size[0] or x >= size[1]:
            raise InputError(f"--points: {y},{x} is no pixel of a picture of {size[0]}×{size[1]}")
