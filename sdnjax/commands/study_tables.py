"""The files that a study ends with: JSON, Markdown, a picture."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from sdnjax.commands.workdir import provenance
from sdnjax.errors import InputError
from sdnjax.files import write_atomically
from sdnjax.studies.results import COSTS, flat_scores
from sdnjax.studies.study import Study
from sdnjax.studies.table import Results, markdown, summary
from sdnjax.visualize import save_png
from sdnjax.visualize.intervals import intervals_picture


def write_study(study: Study, folder: Path, results: Results, *, jobs: int) -> Path:
    """Writes NAME.json, NAME.md and NAME.png beside the study's work directory NAME.

    Returns the Markdown file.

    Raises: InputError if files of these names are there that no study has written.
    """
    path = folder.with_name(f"{folder.name}.json")
    _refuse_others(path, study)
    rows = summary(study, results)
    missing = [
        f"{variant} {seed}"
        for variant in study.variants
        for seed in study.seeds
        if seed not in results.get(variant, {})
    ]
    about = {
        "study": study.name,
        "file": study.code and study.code.name,
        **provenance(),
        # Tables are for others, to whom this machine's folders say nothing.
        "command": [_without_folders(word) for word in sys.argv],
        "hardware": hardware(),
        "jobs": jobs,
        "baseline": study.baseline,
        "metrics": list(study.metrics),
        "seeds": list(study.seeds),
        "missing": missing,
    }
    variants = {
        variant: {
            "changes": study.changes(variant),
            **row,
            "runs": [_single(run) for _, run in sorted(results[variant].items())],
        }
        for variant, row in rows.items()
    }
    write_atomically(path, json.dumps({**about, "variants": variants}, indent=1) + "\n")
    tables = path.with_suffix(".md")
    write_atomically(tables, markdown(study, rows, _about(about, missing, results)))
    others = [v for v in rows if v != study.baseline]
    if others:
        differences = {
            metric: [
                (row["metrics"][metric]["difference"], row["metrics"][metric]["half_width"])
                for row in (rows[v] for v in others)
            ]
            for metric in study.metrics
        }
        picture = intervals_picture(others, differences, f"minus {study.baseline}, in points")
        save_png(path.with_suffix(".png"), picture)
    return tables


def _without_folders(word: str) -> str:
    """`…/camvid` for an absolute path."""
    option, sign, value = word.rpartition("=")
    path = Path(value)
    return f"{option}{sign}…/{path.name}" if path.is_absolute() else word


def hardware() -> dict[str, Any]:
    """What the times were measured on."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(x.split(":", 1)[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {"cpu": model, "cores": os.cpu_count(), "system": platform.platform()}


def _single(run: Any) -> dict[str, Any]:
    kept = (
        "seed",
        "step",
        *COSTS,
        "memory_is_of",
        "seconds",
        "cpu_seconds",
        "resumed",
        "trained_as",
        "time",
        "git_commit",
    )
    return {**{key: run.get(key) for key in kept}, "scores": flat_scores(run["scores"])}


def _about(about: dict[str, Any], missing: list[str], results: Results) -> list[str]:
    versions = about["versions"]
    lines = [
        f"`{' '.join(about['command'])}`",
        f"{about['time'][:10]}, {', '.join(sorted(set(about['devices'])))}, "
        f"{about['hardware']['cpu']}, {about['hardware']['cores']} cores, {about['jobs']} run(s) "
        f"at once, jax {versions.get('jax')}, sdnjax {versions['sdnjax']}.",
    ]
    if missing:
        lines.append(f"Not finished: {', '.join(missing)}.")
    return lines + mixed(results)


def mixed(results: Results) -> list[str]:
    """A line for each thing that decides roundings, or more, and is not one for all runs."""
    runs = [run for seeds in results.values() for run in seeds.values()]
    of: dict[str, set[str]] = {"commits": {str(run.get("git_commit"))[:7] for run in runs}}
    for run in runs:
        for package, version in (run.get("versions") or {}).items():
            of.setdefault(f"versions of {package}", set()).add(str(version))
    return [
        f"ATTENTION: the runs have several {what} ({', '.join(sorted(found))}): they may differ "
        "by that, too."
        for what, found in of.items()
        if len(found) > 1
    ]


def _refuse_others(path: Path, study: Study) -> None:
    try:
        ours = json.loads(path.read_text()).get("study") == study.name
    except FileNotFoundError:
        ours = not any(path.with_suffix(s).exists() for s in (".md", ".png"))
    except (ValueError, AttributeError):
        ours = False
    if not ours:
        raise InputError(
            f"{path}, or the .md and .png of that name, is not a table of {study.name}: name "
            "another --workdir, or move it away"
        )
