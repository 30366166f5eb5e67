"""Line charts as SVG, each with its values as a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sdnjax.report.html import Html, details, joined, table, tag

# Of the drawing; about the width of a narrow screen, so that letters stay legible there.
_WIDTH, _HEIGHT = 440, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 14, 10, 38
COLOURS = 8  # classes s0 … s7 of the style sheet
_MOST_POINTS = 240  # of one line: about two pixels apart
_MOST_ROWS = 40


class Series(NamedTuple):
    """One line: its name, its points by rising x, and which colour and dashes it has."""

    name: str
    points: list[tuple[float, float]]
    colour: int


def line_chart(
    title: str, series: Sequence[Series], *, x_name: str, share: bool = False
) -> Html | None:
    """A figure; None if no series has a point. The horizontal axis begins at 0, in all charts.

    Args:
      share: values are in 0…1 and shown in percent.
    """
    named = len(series) > 1  # also where only one of them has points
    series = [thinned(finite(one)) for one in series]
    series = [one for one in series if one.points]
    if not series:
        return None
    xs, ys = zip(*(p for one in series for p in one.points), strict=True)
    x_range = (min(0.0, *xs), max(xs) if max(xs) > 0 else 1.0)
    x_ticks, y_ticks = ticks(*x_range), ticks(min(ys), max(ys))
    y_range = (min(y_ticks[0], *ys), max(y_ticks[-1], *ys))

    def x_of(x: float) -> float:
        return _LEFT + (x - x_range[0]) / (x_range[1] - x_range[0]) * (_WIDTH - _LEFT - _RIGHT)

    def y_of(y: float) -> float:
        share_of = (y - y_range[0]) / (y_range[1] - y_range[0])
        return _HEIGHT - _BOTTOM - share_of * (_HEIGHT - _TOP - _BOTTOM)

    def written(y: float) -> str:
        return f"{100 * y:.4g}" if share else f"{y:.4g}"

    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for y in y_ticks:
        at = f"{y_of(y):.1f}"
        parts.append(tag("line", x1=_LEFT, x2=right, y1=at, y2=at, class_="grid"))
        place = {"x": _LEFT - 6, "y": at, "text_anchor": "end", "dominant_baseline": "middle"}
        parts.append(tag("text", written(y), **place))
    for x in x_ticks:
        if x_range[0] <= x <= x_range[1]:
            at = f"{x_of(x):.1f}"
            parts.append(tag("text", f"{x:g}", x=at, y=bottom + 16, text_anchor="middle"))
    parts.append(tag("text", x_name, x=(_LEFT + right) // 2, y=_HEIGHT - 4, text_anchor="middle"))
    for one in series:
        places = [(x_of(x), y_of(y)) for x, y in one.points]
        style = f"s{one.colour % COLOURS}"
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(tag("polyline", points=line, class_=f"line {style}"))
        if len(places) <= 30:
            for x, y in places:
                parts.append(tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=3, class_=style))
    parts.append(tag("line", x1=0, x2=0, y1=_TOP, y2=bottom, class_="cursor", visibility="hidden"))
    unit = " (%)" if share else ""
    data = [
        {
            "name": one.name,
            "colour": one.colour % COLOURS,
            "points": [
                [round(x_of(x), 1), round(y_of(y), 1), f"{x:g}", written(y)] for x, y in one.points
            ],
        }
        for one in series
    ]
    svg = tag(
        "svg",
        tag("title", _in_words(title, series, written)),
        *parts,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        class_="chart",
        data_series=data,
        data_x=x_name,
    )
    return tag(
        "figure",
        tag("figcaption", title + unit),
        legend(series) if named else None,
        svg,
        details("Values", _values(title, series, x_name, written)),
    )


def legend(series: Sequence[Series]) -> Html:
    """A piece of each line, and its name."""
    entries = []
    for one in series:
        line = tag("line", x1=1, x2=27, y1=5, y2=5, class_=f"line s{one.colour % COLOURS}")
        sample = tag("svg", line, viewBox="0 0 28 10", class_="sample", aria_hidden="true")
        entries.append(tag("li", sample, one.name))
    return tag("ul", *entries, class_="legend")


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers; the first is at most `low`, the last at least `high`.

    Equal bounds get room to both sides.
    """
    if not high > low:
        room = abs(low) / 10 or 1.0
        low, high = low - room, high + room
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= rough * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.10g}") for i in range(first, last + 1)]


def finite(series: Series) -> Series:
    """Without the points that are no numbers."""
    points = [p for p in series.points if all(map(math.isfinite, p))]
    return series._replace(points=points)


def thinned(series: Series, most: int = _MOST_POINTS) -> Series:
    """With at most `most` points: means of neighbours that are equally many but for the last."""
    points = series.points
    if len(points) <= most:
        return series
    size = math.ceil(len(points) / most)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    mean = [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]
    return series._replace(points=mean)


def _in_words(title: str, series: Sequence[Series], written: Callable[[float], str]) -> str:
    ends = [f"{one.name} ends at {written(one.points[-1][1])}" for one in series]
    return f"{title}: {'; '.join(ends)}"


def _values(
    title: str, series: Sequence[Series], x_name: str, written: Callable[[float], str]
) -> Html:
    """The points of every line, at most `_MOST_ROWS` of each."""
    tables = []
    for one in series:
        rows = thinned(one, _MOST_ROWS).points
        shown = [[f"{x:g}", written(y)] for x, y in rows]
        tables.append(table([x_name, one.name], shown, caption=f"{title}: {one.name}"))
    return joined(tables)
