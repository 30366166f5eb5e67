"""What is shown of runs: curves, classes, boundaries, confusions, pictures, costs, settings."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from sdnjax.report.charts import Series, line_chart
from sdnjax.report.html import Cell, Html, details, joined, percent, section, table, tag
from sdnjax.report.matrix import matrix
from sdnjax.report.records import Costs, RunRecord, median

_PICTURE = 420  # pixels on the longer side of a picture
_NAMES = {"iou": "IoU", "boundary_f": "F", "boundary_iou": "boundary IoU", "trimap_iou": "IoU in"}


class Shown(NamedTuple):
    """One example of the data set: a heading, and pictures with what they show."""

    title: str
    pictures: Sequence[tuple[str, np.ndarray, bool]]  # words, uint8 [H, W, 3], a photograph?


def overview(runs: Sequence[RunRecord]) -> Html:
    """The most important numbers of every run."""
    head = ["run", "network", "step", "mIoU", *_boundary_keys(runs), "pixel accuracy", "scores of"]
    rows = []
    for i, run in enumerate(runs):
        results = run.scores.results if run.scores else {}
        steps = [line["step"] for line in run.lines]
        f = results.get("boundary_f")
        boundary = [percent(_get(f, key.removeprefix("F "))) for key in _boundary_keys(runs)]
        network = run.config.get("model.name", run.config.get("model.own", "–"))
        rows.append(
            [
                _swatch(i, run.name),
                network,
                Cell(str(max(steps, default=0)), max(steps, default=0)),
                percent(_get(results, "mIoU"), 2),
                *boundary,
                percent(_get(results, "pixel_accuracy"), 2),
                run.scores.source if run.scores else "none yet",
            ]
        )
    return section("overview", "Overview", table(head, rows, caption="Runs, scores in percent"))


def curves(runs: Sequence[RunRecord]) -> Html | None:
    """Training and validation over the steps, all runs in one chart each."""

    def over_steps(title: str, kind: str, key: str, share: bool = False) -> Html | None:
        series = [Series(run.name, run.curve(kind, key), i) for i, run in enumerate(runs)]
        return line_chart(title, series, x_name="step", share=share)

    charts = [over_steps("Loss", "train", "loss")]
    if len(runs) == 1:
        parts = [key for key in runs[0].keys("train") if key.startswith("loss_")]
        lines = [
            Series(key.removeprefix("loss_"), runs[0].curve("train", key), i)
            for i, key in enumerate(parts)
        ]
        charts.append(line_chart("Parts of the loss", lines, x_name="step"))
    charts.append(over_steps("Learning rate", "train", "learning_rate"))
    charts.append(over_steps("Gradient norm", "train", "gradient_norm"))
    charts.append(over_steps("Validation mIoU", "val", "mIoU", True))
    for key in dict.fromkeys(k for run in runs for k in run.keys("val")):
        if key.startswith("boundary_"):
            title = f"Validation {key.replace('boundary_f/', 'boundary F, ').replace('_', ' ')}"
            charts.append(over_steps(title, "val", key, True))
    charts.append(over_steps("Validation pixel accuracy", "val", "pixel_accuracy", True))
    found = [chart for chart in charts if chart is not None]
    if not found:
        return None
    return section("curves", "Curves", tag("div", *found, class_="charts"))


def classes(runs: Sequence[RunRecord]) -> Html | None:
    """The scores of every class: of one run all, of several with the same classes side by side."""
    groups: dict[tuple[str, ...], list[RunRecord]] = {}
    for run in runs:
        if run.scores is not None:
            groups.setdefault(run.classes, []).append(run)
    if not groups:
        return None
    parts: list[Html] = []
    for alike in groups.values():
        parts += [_source(run) for run in alike]
        parts += [_all_scores(alike[0])] if len(alike) == 1 else _side_by_side(alike)
    return section("classes", "Classes", *parts)


def _all_scores(run: RunRecord) -> Html:
    columns = _columns(run)
    rows = [
        [_class(run, k), *(_score(column[k], name) for name, column in columns.items())]
        for k in range(len(run.classes))
    ]
    caption = f"{run.name}, in percent"
    return table(["class", *columns], rows, caption=caption, sortable=True)


def _side_by_side(runs: Sequence[RunRecord]) -> list[Html]:
    """A table for each score that several have, with the differences to the first run."""
    tables: list[Html] = []
    columns = {run.name: _columns(run) for run in runs}
    for name in columns[runs[0].name]:
        having = [run for run in runs if name in columns[run.name]]
        if name in ("share", "accuracy") or len(having) < 2:
            continue
        head = ["class", *(run.name for run in having), *(f"Δ {run.name}" for run in having[1:])]
        rows = []
        for k in range(len(runs[0].classes)):
            values = [columns[run.name][name][k] for run in having]
            base = values[0]
            changes = [None if v is None or base is None else v - base for v in values[1:]]
            shown = [Cell("–" if c is None else f"{100 * c:+.1f}", c) for c in changes]
            rows.append([_class(runs[0], k), *(_score(v, name) for v in values), *shown])
        made = table(head, rows, caption=f"{name} of every class, in percent", sortable=True)
        tables.append(made if not tables else details(name, made))
    return tables


def boundaries(runs: Sequence[RunRecord]) -> Html | None:
    """Scores near boundaries over how near that is."""
    charts = []
    titles = {
        "boundary_f": "Boundary F over the tolerance",
        "trimap_iou": "mIoU within a band around true boundaries",
    }
    for key, title in titles.items():
        series = []
        for i, run in enumerate(runs):
            found = run.scores.results.get(key) if run.scores else None
            widths = _widths(found) if isinstance(found, dict) else []
            series.append(Series(run.name, widths, i))
        charts.append(line_chart(title, series, x_name="pixels", share=True))
    found = [chart for chart in charts if chart is not None]
    if not found:
        return None
    return section("boundaries", "Boundaries", tag("div", *found, class_="charts"))


def confusions(runs: Sequence[RunRecord]) -> Html | None:
    """The confusion matrices that there are."""
    figures = [
        matrix(f"Confusion, {run.name}", run.scores.confusion, run.classes)
        for run in runs
        if run.scores is not None and run.scores.confusion is not None
    ]
    if not figures:
        return None
    return section("confusion", "Confusion matrix", tag("div", *figures, class_="charts"))


def pictures(groups: Mapping[str, Sequence[Shown]]) -> Html | None:
    """Examples under the names of their groups, such as the worst ones."""
    parts = []
    for title, examples in groups.items():
        if examples:
            parts += [tag("h3", title), *map(_example, examples)]
    return section("pictures", "Pictures", *parts) if parts else None


def costs(runs: Sequence[RunRecord]) -> Html:
    """What a run and its network cost, as far as it is known."""
    rows: dict[str, list[Any]] = {}

    def put(name: str, values: Iterable[str | None]) -> None:
        shown = ["–" if value is None else value for value in values]
        if any(value != "–" for value in shown):
            rows[name] = shown

    def each(form: str, key: str, factor: float = 1) -> list[str | None]:
        medians = [median(run.curve("train", key)) for run in runs]
        return [None if m is None else form.format(m * factor) for m in medians]

    def of_costs(shown: Callable[[Costs], str]) -> list[str | None]:
        return [None if run.costs is None else shown(run.costs) for run in runs]

    put("parameters", of_costs(lambda c: f"{c.parameters / 1e6:.3f} M"))
    put(
        "multiply-adds of one picture",
        of_costs(lambda c: f"{c.multiply_adds / 1e9:.3f} G at {c.size[0]}×{c.size[1]}"),
    )
    put(
        "activations of one picture",
        of_costs(lambda c: f"{c.activation_bytes / 2**20:.1f} MiB"),
    )
    put("seconds per step (median)", each("{:.3g}", "seconds_per_step"))
    put("images per second (median)", each("{:.4g}", "images_per_second"))
    put("waiting for data (median)", each("{:.1f} %", "data_wait_share", 100))
    memory = [max((y for _, y in r.curve("train", "device_memory_gb")), default=None) for r in runs]
    put("device memory, the most", (None if m is None else f"{m:.2f} GB" for m in memory))
    put("time of the logged steps", (_hours(run) for run in runs))
    if not rows:
        return section("costs", "Costs", tag("p", "Nothing is known of them."))
    body = [[name, *values] for name, values in rows.items()]
    made = table(["", *(run.name for run in runs)], body, caption="Costs")
    return section("costs", "Costs", made)


def settings(runs: Sequence[RunRecord]) -> Html:
    """All settings; of several runs, those in which any differs from the first are shown first."""
    keys = list(dict.fromkeys(key for run in runs for key in run.config))
    rows = [[key, *(run.config.get(key, "not set") for run in runs)] for key in keys]
    head = ["setting", *(run.name for run in runs)]
    everything = details("All settings", table(head, rows, caption="All settings"))
    if len(runs) == 1:
        return section("settings", "Settings", everything)
    changed = []
    for key, first, *others in rows:
        if any(value != first for value in others):
            shown = [tag("mark", v) if v != first else v for v in others]
            changed.append([key, first, *shown])
    made = table(head, changed, caption=f"Settings that differ from {runs[0].name}'s")
    if not changed:
        made = tag("p", "All settings are the same.")
    return section("settings", "Settings", made, everything)


def provenance(runs: Sequence[RunRecord]) -> Html:
    """Each start of every run: when, on what, with which versions."""
    rows = []
    for run in runs:
        for start in run.starts:
            devices = start.get("devices")
            devices = devices if isinstance(devices, list) else []
            kinds = ", ".join(f"{devices.count(k)} × {k}" for k in dict.fromkeys(devices))
            versions = start.get("versions")
            versions = versions if isinstance(versions, dict) else {}
            command = start.get("command")
            command = " ".join(map(str, command)) if isinstance(command, list) else "–"
            rows.append(
                [
                    run.name,
                    start.get("time", "–"),
                    f"{kinds or '–'}, {start.get('processes', 1)} process(es)",
                    tag("code", str(start.get("git_commit") or "–")),
                    ", ".join(f"{name} {version}" for name, version in versions.items()) or "–",
                    tag("code", command),
                ]
            )
    head = ["run", "started", "devices", "commit", "versions", "command"]
    return section("versions", "Versions", table(head, rows, caption="Each start of the runs"))


def _example(example: Shown) -> Html:
    figures = [
        tag(
            "figure",
            tag("img", src=_embedded(picture, photo), alt=f"{example.title}: {words}"),
            tag("figcaption", words),
        )
        for words, picture, photo in example.pictures
    ]
    return tag("div", tag("h4", example.title), tag("div", *figures, class_="row"))


def _embedded(picture: np.ndarray, photo: bool) -> str:
    """A picture as a data URL: photographs as JPEG, maps as PNG of few colours, never smoothed."""
    image = Image.fromarray(picture)
    scale = min(1.0, _PICTURE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    how = Image.Resampling.LANCZOS if photo else Image.Resampling.NEAREST
    image = image.resize(size, how)
    stream = io.BytesIO()
    if photo:
        image.save(stream, "JPEG", quality=82, optimize=True)
    else:
        few = image.getcolors(256) is not None
        image = image.convert("P", palette=Image.Palette.ADAPTIVE) if few else image
        image.save(stream, "PNG", optimize=True)
    kind = "jpeg" if photo else "png"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _columns(run: RunRecord) -> dict[str, list[float | None]]:
    """The scores of each class by the heads of their columns; IoU first, then as they come."""
    assert run.scores is not None
    found: dict[str, list[float | None]] = {}
    per_class = run.scores.results["per_class"]
    for k, entry in enumerate(per_class):
        for key, value in entry.items():
            parts = value if isinstance(value, dict) else {"": value}
            for part, score in parts.items():
                name = f"{_NAMES.get(key, key.replace('_', ' '))} {part}".strip()
                if key != "class":
                    column = found.setdefault(name, [None] * len(per_class))
                    column[k] = float(score) if isinstance(score, (int, float)) else None
    return found


def _score(value: float | None, name: str) -> Cell:
    cell = percent(value)
    if name == "IoU":
        cell.bar = value
    return cell


def _class(run: RunRecord, k: int) -> Cell:
    name: Any = run.classes[k]
    if run.palette:
        r, g, b = run.palette[k]
        spot = tag("span", class_="spot", style=f"background:rgb({r},{g},{b})")
        name = joined([spot, name])
    return Cell(name, k)


def _source(run: RunRecord) -> Html:
    assert run.scores is not None
    return tag("p", f"{run.name}: {run.scores.source}", class_="note")


def _swatch(place: int, name: str) -> Html:
    line = tag("line", x1=1, x2=27, y1=5, y2=5, class_=f"line s{place % 8}")
    return joined(
        [tag("svg", line, viewBox="0 0 28 10", class_="sample", aria_hidden="true"), name]
    )


def _boundary_keys(runs: Sequence[RunRecord]) -> list[str]:
    found = [run.scores.results.get("boundary_f") for run in runs if run.scores]
    keys = dict.fromkeys(key for f in found if isinstance(f, dict) for key in f)
    return [f"F {key}" for key in keys][:3]


def _widths(scores: Mapping[str, Any]) -> list[tuple[float, float]]:
    """(pixels, score) of `{"1px": …}`; shares of the diagonal have no pixels."""
    found = []
    for key, value in scores.items():
        match = re.fullmatch(r"(\d+)px", key)
        if match and isinstance(value, (int, float)):
            found.append((float(match[1]), float(value)))
    return sorted(found)


def _get(values: Any, key: str) -> float | None:
    value = values.get(key) if isinstance(values, dict) else None
    return float(value) if isinstance(value, (int, float)) else None


def _hours(run: RunRecord) -> str | None:
    seconds, before = 0.0, 0.0
    for step, each in run.curve("train", "seconds_per_step"):
        seconds, before = seconds + (step - before) * each, step
    if not seconds:
        return None
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if seconds >= 60 else f"{seconds:.1f} s"
