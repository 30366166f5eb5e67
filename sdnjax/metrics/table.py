"""Results as text."""

from collections.abc import Mapping, Sequence

_UNDEFINED = "–"


def format_table(results: Mapping, class_names: Sequence[str]) -> str:
    """Aligned table of the scores of every class in percent, and a summary below it.

    Args:
      results: what `SegmentationMetrics.compute` returns.
      class_names: K names, in the order of the classes.

    Returns:
      Lines of text: header, rule, one line per class, rule, summary; no newline at the end.

    Raises:
      ValueError: the number of names is not the number of classes.
    """
    per_class = results["per_class"]
    if len(class_names) != len(per_class):
        raise ValueError(f"{len(class_names)} class names for {len(per_class)} classes")
    thresholds = list(results["boundary_f"])
    with_band = "boundary_iou" in results
    header = ["class", "IoU", "accuracy", "share", *(f"F {name}" for name in thresholds)]
    header += ["boundary IoU"] * with_band
    widths = list(results.get("trimap_iou", ()))
    header += [f"IoU within {width}" for width in widths]
    rows = [
        [
            name,
            *(_percent(entry[key]) for key in ("iou", "accuracy", "share")),
            *(_percent(entry["boundary_f"][threshold]) for threshold in thresholds),
            *([_percent(entry["boundary_iou"])] if with_band else []),
            *(_percent(entry["trimap_iou"][width]) for width in widths),
        ]
        for name, entry in zip(class_names, per_class, strict=True)
    ]
    lengths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [_line(row, lengths) for row in (header, *rows)]
    rule = "─" * (sum(lengths) + 2 * (len(lengths) - 1))
    return "\n".join([lines[0], rule, *lines[1:], rule, _summary(results)])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """The first cell flush left, the numbers flush right."""
    name = cells[0].ljust(widths[0])
    numbers = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
    return "  ".join([name, *numbers])


def _summary(results: Mapping) -> str:
    parts = [
        f"mIoU {_percent(results['mIoU'])}",
        f"pixel accuracy {_percent(results['pixel_accuracy'])}",
        f"mean accuracy {_percent(results['mean_accuracy'])}",
        *(f"boundary F {name} {_percent(f)}" for name, f in results["boundary_f"].items()),
    ]
    if "boundary_iou" in results:
        parts.append(f"boundary IoU {_percent(results['boundary_iou'])}")
    parts += [f"mIoU within {k} {_percent(v)}" for k, v in results.get("trimap_iou", {}).items()]
    images = results["images"]
    return "  ".join([*parts, f"({images} image{'' if images == 1 else 's'})"])


def _percent(score: float | None) -> str:
    return _UNDEFINED if score is None else f"{100 * score:.2f}"
