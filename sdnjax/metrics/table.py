"""Results as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_UNDEFINED = "-"

# What scores are called in the heads of columns and in the summary, where it is not their name
# with spaces.
_COLUMNS = {"iou": "IoU", "boundary_f": "F", "boundary_iou": "boundary IoU"}
_COLUMNS |= {"trimap_iou": "IoU within"}
_SUMMARY = {"boundary_f": "boundary F", "boundary_iou": "boundary IoU", "trimap_iou": "mIoU within"}


def format_table(results: Mapping[str, Any], class_names: Sequence[str]) -> str:
    """Aligned table of the scores of every class in percent, and a summary below it.

    Args:
      results: what `SegmentationMetrics.compute` returns. Whole numbers count something and are
        not shown, but for `images`.
      class_names: K names, in the order of the classes.

    Returns:
      Lines of text: header, rule, one line per class, rule, summary; no newline at the end.

    Raises:
      ValueError: the number of names is not the number of classes.
    """
    per_class = results["per_class"]
    if len(class_names) != len(per_class):
        raise ValueError(f"{len(class_names)} class names for {len(per_class)} classes")
    scores = [_flat(entry, _COLUMNS) for entry in per_class]
    header = ["class", *scores[0]]
    rows = [
        [name, *map(_percent, entry.values())]
        for name, entry in zip(class_names, scores, strict=True)
    ]
    lengths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [_line(row, lengths) for row in (header, *rows)]
    rule = "-" * (sum(lengths) + 2 * (len(lengths) - 1))
    return "\n".join([lines[0], rule, *lines[1:], rule, _summary(results)])


def _flat(scores: Mapping[str, Any], titles: Mapping[str, str]) -> dict[str, float | None]:
    """Title → score, those of {name: score} each with its name."""
    flat: dict[str, float | None] = {}
    for key, value in scores.items():
        title = titles.get(key, key.replace("_", " "))
        if isinstance(value, Mapping):
            flat |= {f"{title} {name}": score for name, score in value.items()}
        elif value is None or isinstance(value, float):
            flat[title] = value
    return flat


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """The first cell flush left, the numbers flush right."""
    name = cells[0].ljust(widths[0])
    numbers = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
    return "  ".join([name, *numbers])


def _summary(results: Mapping[str, Any]) -> str:
    parts = [f"{title} {_percent(score)}" for title, score in _flat(results, _SUMMARY).items()]
    images = results["images"]
    return "  ".join([*parts, f"({images} image{'' if images == 1 else 's'})"])


def _percent(score: float | None) -> str:
    return _UNDEFINED if score is None else f"{100 * score:.2f}"
