"""What follows from the runs of a study: means, paired differences with intervals, costs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student

from sdnjax.studies.results import COSTS, score_of
from sdnjax.studies.study import Study

# Variant → seed → result.
Results = Mapping[str, Mapping[int, Mapping[str, Any]]]


def interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float | None]:
    """The mean, and half the width of Student's confidence interval for it.

    The half width is `t · s/√n` with the deviation s of n − 1 degrees of freedom; None for a
    single value, of which nothing is known. NaNs are left out; the mean of none is NaN.
    """
    known = [v for v in values if not math.isnan(v)]
    if len(known) < 2:
        return (known[0] if known else math.nan), None
    n = len(known)
    quantile = float(student.ppf((1 + confidence) / 2, n - 1))
    return statistics.fmean(known), quantile * statistics.stdev(known) / math.sqrt(n)


def summary(study: Study, results: Results) -> dict[str, Any]:
    """The table's numbers: variant → `seeds`, `metrics` and `costs`.

    `metrics` has for each score `mean` and `deviation` over its runs, in percent, and, but for the
    baseline, `difference` with `half_width` of its 95 % interval and `pairs`, their number: the
    seeds that both have.
    """
    found: dict[str, Any] = {}
    baseline = results.get(study.baseline, {})
    for variant in study.variants:
        runs = results.get(variant, {})
        if not runs:
            continue
        metrics = {}
        for metric in study.metrics:
            ours = {seed: 100 * score_of(run, metric) for seed, run in runs.items()}
            known = [v for v in ours.values() if not math.isnan(v)]
            entry: dict[str, Any] = {
                "mean": _number(statistics.fmean(known) if known else math.nan),
                "deviation": statistics.stdev(known) if len(known) > 1 else None,
            }
            if variant != study.baseline:
                pairs = [
                    value - 100 * score_of(baseline[seed], metric)
                    for seed, value in ours.items()
                    if seed in baseline
                ]
                pairs = [p for p in pairs if not math.isnan(p)]
                mean, half = interval(pairs)
                entry |= {"difference": _number(mean), "half_width": half, "pairs": len(pairs)}
            metrics[metric] = entry
        costs = {key: _median([run.get(key) for run in runs.values()]) for key in COSTS}
        found[variant] = {"seeds": sorted(runs), "metrics": metrics, "costs": costs}
    return found


def markdown(study: Study, rows: Mapping[str, Any], about: Sequence[str] = ()) -> str:
    """Three tables: means, differences from the baseline, costs."""
    metrics = study.metrics
    lines = [f"# {study.name}", "", *(line for a in about for line in (a, ""))]
    lines += ["Means over seeds, in percent.", ""]
    lines += _table(
        ["variant", "seeds", *metrics],
        [
            [name, str(len(row["seeds"])), *(_cell(row["metrics"][m]["mean"]) for m in metrics)]
            for name, row in rows.items()
        ],
    )
    lines += [
        "",
        f"Paired differences from {study.baseline}, in points, ± half of the 95 % interval "
        "(Student's t over seeds; each interval is for itself, not for all of them together).",
        "",
    ]
    lines += _table(
        ["variant", "pairs", *metrics],
        [
            [
                name,
                str(max(row["metrics"][m]["pairs"] for m in metrics)),
                *(_difference(row["metrics"][m]) for m in metrics),
            ]
            for name, row in rows.items()
            if name != study.baseline
        ],
    )
    lines += ["", "Cost: medians over seeds; multiply-adds of one training crop, forward.", ""]
    base = rows.get(study.baseline, {}).get("costs", {})
    lines += _table(
        ["variant", *COSTS.values(), f"step / {study.baseline}"],
        [[name, *_costs(row["costs"]), _ratio(row["costs"], base)] for name, row in rows.items()],
    )
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(row)} |" for row in (head, rule, *rows)]


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _difference(entry: Mapping[str, Any]) -> str:
    if entry["difference"] is None:
        return "–"
    half = entry["half_width"]
    return f"{entry['difference']:+.2f}" + ("" if half is None else f" ± {half:.2f}")


def _costs(costs: Mapping[str, float | None]) -> list[str]:
    units = {"parameters": (1e6, " M"), "multiply_adds": (1e9, " G")}
    return [
        "–" if (value := costs[key]) is None else f"{value / scale:.3g}{unit}"
        for key in COSTS
        for scale, unit in [units.get(key, (1, ""))]
    ]


def _ratio(costs: Mapping[str, float | None], base: Mapping[str, float | None]) -> str:
    ours, theirs = costs.get("seconds_per_step"), base.get("seconds_per_step")
    return f"{ours / theirs:.2f}" if ours and theirs else "–"


def _median(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.median(known)) if known else None


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else value
