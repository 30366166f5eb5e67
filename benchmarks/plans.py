"""Plans of every configuration on GPUs and TPU slices of several sizes; nothing runs.

    python -m benchmarks.plans [--configs NAME ...] [--targets DEVICES ...] [--minutes 20]
    python -m benchmarks.plans --table

Writes benchmarks/results/plans/NAME_TARGET.json for each and goes on with what is not there, so it
can be stopped and started again. Each plan is a process of its own, one at a time, and given up
after --minutes. Every device has two images, whatever the target, so that the memory of one device
can be compared. --table writes what is there into docs/planning.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "plans"
FLAGSHIPS = (
    "cityscapes_ocrnet_hr48_sdn",
    "ade20k_segmenter_vitb_sdn",
    "cityscapes_fcn_r50_sdn",
    "ade20k_deeplabv3plus_r50_ecrf",
    "ade20k_segformer_mit-b0",
    "camvid_fcn_r18_sdn",
)
TARGETS = ("h100:1", "h100:8", "v5e:2x2", "h100:8x8", "h100:32x8", "v5e:8x8", "v5e:16x16")
PAGE = ROOT / "docs" / "planning.md"
BEGIN, END = "<!-- written by python -m benchmarks.plans --table -->\n", "<!-- end -->"
IMAGES = 2
# Of a folder of one's own nobody knows the classes.
OWN = ("--classes", "19")


def configurations() -> list[str]:
    """All names, the flagships first."""
    names = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
    return [*FLAGSHIPS, *(name for name in names if name not in FLAGSHIPS)]


def path_of(name: str, target: str) -> Path:
    return RESULTS / f"{name}_{target.replace(':', '_')}.json"


def make(name: str, target: str, minutes: float) -> str:
    """Plans one; a line about how that went."""
    command = [sys.executable, "plan.py", f"configs/{name}.py", "--target", target]
    command += ["--per-device", str(IMAGES), "--only", "--json", str(path_of(name, target))]
    command += OWN if name.startswith("own_folder") else ()
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=60 * minutes, check=False
        )
    except subprocess.TimeoutExpired:
        return f"given up after {minutes:g} minutes"
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    plan = json.loads(path_of(name, target).read_text())
    return f"{plan['memory']['total'] / 2**30:.2f} GiB, {plan['seconds_to_compile']:.0f} s"


def table(names: list[str], targets: list[str]) -> str:
    """Markdown: GiB of one device for each target, and of h100:8 what the step takes and sends."""
    head = ["configuration", *targets, "TFLOP", "sent", "least time"]
    rows = [head, ["---", *["--:"] * (len(head) - 1)]]
    for name in names:
        plans = {t: json.loads(p.read_text()) for t in targets if (p := path_of(name, t)).exists()}
        if not plans:
            continue
        row = [name]
        for target in targets:
            plan = plans.get(target)
            mark = "" if plan is None or plan["fits"] else " ✗"
            row.append(f"{plan['memory']['total'] / 2**30:.2f}{mark}" if plan else "")
        eight = plans.get("h100:8")
        if eight:
            sent = sum(one["bytes"] for one in eight["collectives"].values())
            row.append(f"{eight['operations']['flops'] / eight['devices'] / 1e12:.2f}")
            row.append(f"{sent / 2**20:.0f} MiB")
            row.append(f"{1e3 * eight['roofline']['lower']:.1f} ms")
        else:
            row += [""] * 3
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--configs", nargs="+", default=configurations(), metavar="NAME")
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), metavar="DEVICES")
    parser.add_argument("--minutes", type=float, default=20, help="for one plan [20]")
    parser.add_argument("--table", action="store_true", help="write the table of what is there")
    arguments = parser.parse_args()
    if arguments.table:
        head, _, rest = PAGE.read_text().partition(BEGIN)
        tail = rest.partition(END)[2]
        rows = table(configurations(), list(TARGETS)) + "\n"
        PAGE.write_text(head + BEGIN + rows + END + tail)
        return
    for target in arguments.targets:
        for name in arguments.configs:
            if not path_of(name, target).exists():
                print(f"{name} on {target}: {make(name, target, arguments.minutes)}", flush=True)


if __name__ == "__main__":
    main()
