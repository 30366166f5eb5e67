"""What is lost when runs are interrupted: kills of one process, and signals to some of several.

    python -m benchmarks.interruptions kills [--kills 100] [--json FILE]
    python -m benchmarks.interruptions processes [--processes 2] [--json FILE]
        [--what TERM,INT,KILL,FULL,READONLY] [--to first,last,all]
        [--moments start,compiling,step,saving,validating]

Trains a small network on generated scenes with `train.py`, as a user does, on CPUs. `kills` sends
SIGKILL at moments drawn over the whole life of a process, a third of them while a checkpoint is
being written, and goes on with `--resume` until the run is finished, run after run; every finished
run is compared bit by bit with one that nothing interrupted. `processes` starts several processes
of one run, sends a signal to the first of them (it holds the coordinator), to the last, or to all,
and prints how long it takes until all are gone, their exit statuses and what they say; then it
resumes, and compares. The file has each row as soon as it is there. FULL is a disk that
is full for the process: it may write no more than a few bytes into a file. READONLY is one that the
process finds read-only from then on (Linux alone, and as root: a mount of its own).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import SingleDeviceSharding

from sdnjax.commands.trained import load_network
from sdnjax.commands.workdir import load_experiment
from sdnjax.recipe import with_shardings
from sdnjax.training.checkpoints import find_checkpoint, finished_steps, restore_state

HERE = Path(__file__).resolve().parents[1]
STEPS, EVERY = 12, 3
DISKS = ("FULL", "READONLY")
WHO = {"first": slice(1), "last": slice(-1, None), "all": slice(None)}

CONFIG = """
from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.models import Model, Neck


def config():
    return Experiment(
        name="interrupted",
        model=Model("fpn_r18", neck=Neck(operator="sdc", reduction=8)),
        data=Data(name="shapes", crop_size=(32, 32)),
        steps={steps},
        batch_size=8,
        evaluate_every=6,
        checkpoint_every={every},
        keep_checkpoints=1,
        log_every=1,
        tensorboard=False,
    )
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=("kills", "processes"))
    parser.add_argument("--kills", type=int, default=100, help="[%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="of the moments [%(default)s]")
    parser.add_argument("--processes", type=int, default=2, help="[%(default)s]")
    parser.add_argument("--what", default="TERM,INT,KILL,FULL", help="[%(default)s]")
    parser.add_argument("--to", default=",".join(WHO), help="[%(default)s]")
    parser.add_argument("--moments", default=",".join(MOMENTS), help="[%(default)s]")
    parser.add_argument("--json", type=Path, help="also write what was found to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "config.py").write_text(CONFIG.format(steps=STEPS, every=EVERY))
        if arguments.kind == "kills":
            keep(kills(work, arguments.kills, arguments.seed), arguments.json)
        else:
            what, moments = arguments.what.split(","), arguments.moments.split(",")
            found: dict[str, Any] = {"processes": arguments.processes, "rows": []}
            for row in processes(work, arguments.processes, what, arguments.to.split(","), moments):
                found["rows"].append(row)
                keep(found, arguments.json)


def keep(found: dict[str, Any], file: Path | None) -> None:
    if file is not None:
        file.write_text(json.dumps(found, indent=1) + "\n")


def kills(work: Path, number: int, seed: int) -> dict[str, Any]:
    """SIGKILLs of a single process until there were `number` of them."""
    draw = random.Random(seed)
    finish(start(work, work / "whole", 1)[0])
    begin = time.monotonic()  # now with compiled functions at hand
    finish(start(work, work / "again", 1)[0])
    life = time.monotonic() - begin
    whole = leaves(work / "whole")
    done = runs = unequal = most_lost = 0
    while done < number:
        run = work / f"run{runs}"
        while True:
            (process,) = start(work, run, 1)
            in_save = draw.random() < 1 / 3
            killed = kill_at(process, run, None if in_save else draw.uniform(0, life))
            if not killed:
                finish(process)
            process.communicate()
            steps = written(run)
            done += killed
            kept = saved(run)
            # What was logged as done and is in no checkpoint has to be done again.
            most_lost = max(most_lost, max(steps, default=0) - kept)
            if not killed:
                break
            print(f"kill {done}: logged to step {max(steps, default=0)}, saved {kept}", flush=True)
            if done >= number:
                finish(start(work, run, 1)[0])
                break
        runs += 1
        unequal += differs(whole, leaves(run))
    print(
        f"{done} kills, {runs} finished runs, {unequal} of them differ from the unbroken one; at "
        f"most {most_lost} steps had to be done again (a checkpoint every {EVERY})"
    )
    return {"kills": done, "runs": runs, "unequal": unequal, "most_steps_lost": most_lost}


def kill_at(process: subprocess.Popen[str], run: Path, after: float | None) -> bool:
    """Kills after so many seconds, or as soon as a new checkpoint is being written."""
    begin, before = time.monotonic(), names(run)
    while process.poll() is None:
        if after is None and names(run) - before:
            process.kill()
            return True
        if after is not None and time.monotonic() - begin >= after:
            process.kill()
            return True
        time.sleep(0.002)
    return False


def processes(
    work: Path, number: int, what: Sequence[str], to: Sequence[str], moments: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """The rows of a table: what happens to one process, or to all, at several moments."""
    finish_all(start(work, work / "whole", number))
    whole = leaves(work / "whole")
    print("| what | to | while | all gone after | exit | what is said | resumed |")
    print("|---|---|---|---|---|---|---|")
    for moment in moments:
        for name in what:
            for who in to:
                if name in DISKS and moment != "step":
                    continue  # it is the next save that meets it
                run = work / f"{moment}{name}{who}"
                several = start(work, run, number, own_mounts=name == "READONLY")
                MOMENTS[moment](several[0], run)
                begin = time.monotonic()
                for process in several[WHO[who]]:
                    strike(process, name, run)
                ends = [process.communicate(timeout=400) for process in several]
                seconds = time.monotonic() - begin
                codes = [process.returncode for process in several]
                said = spoken(ends).replace(f"{work}/", "")
                kept = saved(run)
                finish_all(start(work, run, number))
                same = not differs(whole, leaves(run))
                row = {
                    "what": name,
                    "to": who,
                    "while": moment,
                    "seconds": round(seconds, 1),
                    "exit": codes,
                    "said": said,
                    "saved": kept,
                    "equal": same,
                }
                shown = "the same bits" if same else "DIFFERS"
                print(
                    f"| {name} | {who} | {moment} | {seconds:.1f} s | "
                    f"{', '.join(map(str, codes))} | {said} | from {kept}: {shown} |",
                    flush=True,
                )
                yield row


def strike(process: subprocess.Popen[str], name: str, run: Path) -> None:
    if name == "FULL":
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, 4096))
    elif name == "READONLY":
        mount = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1"'
        command = ["nsenter", "-t", str(process.pid), "-m", "sh", "-c", mount, "sh", str(run)]
        subprocess.run(command, check=True)
    else:
        process.send_signal(getattr(signal, f"SIG{name}"))


def spoken(ends: Sequence[tuple[str, str]]) -> str:
    """The last line that one of them prints about its end."""
    for out, err in ends:
        for line in reversed((out + "\n" + err).splitlines()):
            if any(word in line for word in ("stopped", "gone", "error", "Error", "cannot")):
                return line.strip()[:120]
    return "-"


def start(
    work: Path, run: Path, number: int, *, own_mounts: bool = False
) -> list[subprocess.Popen[str]]:
    """Starts, or goes on with, a run of so many processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = ["unshare", "--mount"] * own_mounts
    words += [sys.executable, HERE / "train.py", work / "config.py", "--workdir", run]
    words += ["--resume"] * (run / "config.json").is_file()
    words += ["--distributed"] * (number > 1)
    started = []
    for index in range(number):
        variables = {"PYTHONUNBUFFERED": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
        variables["XDG_CACHE_HOME"] = str(work / "cache")
        if number > 1:
            variables["JAX_COORDINATOR_ADDRESS"] = address
            variables["JAX_NUM_PROCESSES"], variables["JAX_PROCESS_ID"] = str(number), str(index)
        started.append(
            subprocess.Popen(
                list(map(str, words)),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, **variables},
                cwd=work,
            )
        )
    return started


def finish(process: subprocess.Popen[str]) -> None:
    _, err = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"a run that nobody interrupted ended with {process.returncode}: {err}")


def finish_all(several: Sequence[subprocess.Popen[str]]) -> None:
    for process in several:
        finish(process)


def until_line(word: str) -> Any:
    def wait(process: subprocess.Popen[str], run: Path) -> None:
        del run
        assert process.stdout is not None
        for line in process.stdout:
            if word in line:
                return

    return wait


def at_start(process: subprocess.Popen[str], run: Path) -> None:
    del process, run
    time.sleep(1.0)


def while_saving(process: subprocess.Popen[str], run: Path) -> None:
    while not names(run) and process.poll() is None:
        time.sleep(0.002)


def while_validating(process: subprocess.Popen[str], run: Path) -> None:
    while saved(run) < 6 and process.poll() is None:  # it is saved first
        time.sleep(0.01)
    time.sleep(0.3)


MOMENTS = {
    "start": at_start,
    "compiling": until_line("compiling"),
    "step": until_line(f"step {EVERY + 1}/"),
    "saving": while_saving,
    "validating": while_validating,
}


def names(run: Path) -> set[str]:
    folder = run / "checkpoints"
    return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()


def saved(run: Path) -> int:
    """The latest step of which a whole checkpoint is there."""

    folder = run / "checkpoints"
    return max(finished_steps(folder), default=0) if folder.is_dir() else 0


def written(run: Path) -> list[int]:
    """The steps that the log of metrics has."""
    file = run / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    steps = []
    for line in lines:
        try:
            steps.append(int(json.loads(line)["step"]))
        except ValueError:  # the kill cut it
            continue
    return steps


def leaves(run: Path) -> list[Any]:
    """All arrays of the latest checkpoint."""

    experiment = load_experiment(run)
    recipe = experiment.build(len(load_network(run, experiment).classes))
    here = SingleDeviceSharding(jax.devices()[0])
    abstract = with_shardings(recipe.abstract_state(), here)
    state = restore_state(find_checkpoint(run / "checkpoints"), abstract)
    return [jax.device_get(leaf) for leaf in jax.tree.leaves(state)]


def differs(ours: Sequence[Any], theirs: Sequence[Any]) -> bool:
    if len(ours) != len(theirs):
        return True
    return any(a.tobytes() != b.tobytes() for a, b in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    main()
