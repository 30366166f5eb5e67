"""SegFix's codes and what they make of another network's labels, as one sheet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from sdnjax.commands.directions import Directions
from sdnjax.commands.pictures import claim, extra_inputs
from sdnjax.commands.trained import Trained, check_classes
from sdnjax.data.sets.directions import direction_codes
from sdnjax.data.sets.segfix import CODES
from sdnjax.data.sources import open_source
from sdnjax.errors import InputError
from sdnjax.ops.labels import IGNORE
from sdnjax.ops.offsets import code_of, move_labels, offsets_of
from sdnjax.visualize import colorize, error_map, legend, panel, save_png, shown

_TITLES = ("picture", "label", "its directions", "predicted", "errors", "errors, moved")


def draw_segfix(
    run: str | Path,
    trained: Trained,
    directions: Directions,
    out: str | Path,
    *,
    examples: int = 3,
    split: str | None = None,
    report: Callable[[str], None] = print,
) -> list[Path]:
    """Writes segfix.png and segfix_legend.png: a row for each of the first examples of a split.

    Bright hues are directions near a boundary, dark ones those of the interior.

    Args:
      run: what messages call the network whose labels are moved.
      trained: that network.
      examples: how many; more than there are, all of them.
      split: None for the network's validation split.
    """
    data = trained.experiment.data
    split = split or data.val_split
    if split is None:
        raise InputError("data.val_split is none: name the split with --split")
    if examples < 1:
        raise InputError(f"--examples must be at least 1, not {examples}")
    source = open_source(data, split)
    check_classes(run, trained.classes, source.label_space.classes)
    predictor = trained.predictor()
    variables = predictor.place(trained.variables)
    rows = []
    for i in range(min(examples, len(source))):
        example = source[i]
        extras = [extra_inputs(predictor.extras, example.image, data)]
        (labels,) = predictor.labels(variables, [example.image], extras)
        boundary, direction = directions(example.image)
        moved = move_labels(labels, offsets_of(boundary, direction))
        true = direction_codes(example.label, len(trained.classes))
        rows.append(
            [
                shown(example.image),
                colorize(example.label, trained.palette),
                colorize(true, CODES.palette),
                colorize(code_of(boundary, direction), CODES.palette),
                error_map(example.label, labels),
                error_map(example.label, moved),
            ]
        )
        before, after = (_share_wrong(example.label, x) for x in (labels, moved))
        report(f"{example.name}: {before:.2%} of the pixels wrong, moved {after:.2%}")
    out = Path(out)
    files = [out / "segfix.png", out / "segfix_legend.png"]
    claim(out, [file.name for file in files], [], by="figures.py")
    save_png(files[0], panel(rows, _TITLES))
    save_png(files[1], legend(CODES.classes, CODES.palette))
    report(f"written to {files[0]} and {files[1].name}")
    return files


def _share_wrong(label: np.ndarray, found: np.ndarray) -> float:
    counted = label != IGNORE
    return float((label != found)[counted].mean()) if counted.any() else 0.0
