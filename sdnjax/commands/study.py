"""The runs of a study: a process for each, several at once, resumed where they were stopped.

STUDIES/NAME/
  study.json            the experiment of each variant, which the runs compare with theirs
  VARIANT/seedS/        the work directory of a run
  VARIANT/seedS.json    its result, once it is finished
  VARIANT/seedS.log     what it said
STUDIES/NAME.json, .md, .png   all results and what follows from them

A process for each run: one that fails or is killed takes no other with it.
It costs the start, imports and reading compiled functions, each time.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from sdnjax.commands.command_line import parse_experiment
from sdnjax.commands.study_tables import write_study
from sdnjax.commands.workdir import code_record, held, provenance
from sdnjax.data.locks import Lock
from sdnjax.errors import InputError, unknown
from sdnjax.experiment import Experiment
from sdnjax.files import write_atomically
from sdnjax.options import OneLineParser
from sdnjax.settings import to_dict
from sdnjax.studies.results import make_result, read_result, result_path, score_of
from sdnjax.studies.study import Study, load_study
from sdnjax.training.stopping import PREEMPTED, Stop, Stopped

_POLL_SECONDS = 0.2


class Started(Protocol):
    """A run under way; `subprocess.Popen` is one."""

    def poll(self) -> int | None:
        """Its exit status, None while it goes on."""

    def wait(self) -> int: ...

    def send_signal(self, number: int) -> None: ...


# Variant, seed and the cores that it may use (none: all) → the run, started.
Start = Callable[[str, int, Sequence[int]], Started]


def run_study(
    study: Study,
    folder: Path,
    start: Start,
    *,
    jobs: int = 1,
    report: Callable[[str], None] = tqdm.write,
) -> bool:
    """Does the runs that are not finished, seed by seed, and writes the tables after each.

    Args:
      folder: the study's work directory.
      start: starts a run, which writes its result as `do_run` does.
      jobs: how many at once; each has its share of the cores.
      report: takes each line meant for people.

    Returns whether every run is finished.

    Raises:
      InputError: the directory holds something else, or results of other settings.
      KeyboardInterrupt, Stopped: a signal; the runs under way have saved and stopped.
    """
    check_folder(folder)
    with held(folder):
        results = finished(study, folder)
        _write_study(study, folder)
        # Seed by seed: what is finished can be compared from the first seed on.
        waiting = [(v, s) for s in study.seeds for v in study.variants if s not in results[v]]
        total = len(study.seeds) * len(study.variants)
        report(f"{study.name}: {total - len(waiting)} of {total} runs finished")
        for variant, changes in study.unpaired().items():
            report(f"ATTENTION: {variant} sees other batches ({'; '.join(changes)}): no pairs")
        free = _shares_of_cores(jobs)
        under_way: list[tuple[Started, str, int, Sequence[int], float]] = []
        begin, done, failed = time.perf_counter(), 0, []
        with _stopping(lambda: [entry[0] for entry in under_way]):
            while waiting or under_way:
                while free and (ready := _ready(study, waiting, under_way)):
                    variant, seed = ready
                    waiting.remove(ready)
                    cores = free.pop(0)
                    process = start(variant, seed, cores)
                    under_way.append((process, variant, seed, cores, time.perf_counter()))
                for entry in [e for e in under_way if e[0].poll() is not None]:
                    under_way.remove(entry)
                    process, variant, seed, cores, since = entry
                    free.append(cores)
                    done += 1
                    seconds = time.perf_counter() - since
                    found = _result(study, folder, variant, seed)
                    if found is None:
                        failed.append((variant, seed))
                        log = result_path(folder, variant, seed).with_suffix(".log")
                        report(f"{variant}, seed {seed}: status {process.poll()}: {_last(log)}")
                        continue
                    results[variant][seed] = found
                    write_study(study, folder, results, jobs=jobs)
                    each = (time.perf_counter() - begin) / done
                    left = tqdm.format_interval(each * (len(waiting) + len(under_way)))
                    report(f"{_in_words(study, variant, seed, found)}  {seconds:.0f} s  ETA {left}")
                time.sleep(_POLL_SECONDS if under_way else 0)
        tables = write_study(study, folder, results, jobs=jobs)
    report(tables.read_text())
    report(f"written to {tables.with_suffix('')}.json, .md and .png")
    if failed:
        names = ", ".join(f"{variant} {seed}" for variant, seed in failed)
        report(f"{len(failed)} run(s) did not finish: {names}; the same command tries again")
    return not failed


def _ready(
    study: Study,
    waiting: Sequence[tuple[str, int]],
    under_way: Sequence[tuple[Started, str, int, Sequence[int], float]],
) -> tuple[str, int] | None:
    """The next run that none under way trains the network of."""
    for variant, seed in waiting:
        if not any(s == seed and study.same_training(variant, v) for _, v, s, *_ in under_way):
            return variant, seed
    return None


def do_run(
    study: Study,
    variant: str,
    seed: int,
    folder: Path,
    *,
    report: Callable[[str], None] = tqdm.write,
    stop: Stop | None = None,
) -> bool:
    """Trains and validates one run of a study, from where it stopped, and writes its result.

    Where a finished run has trained the network already, being another variant in its evaluation
    alone, that one's last checkpoint is validated instead.

    Returns whether it is finished; it is not if `stop` was asked.
    Raises: InputError if the study is no longer what its work directory says.
    """
    # Imported here, because TensorFlow takes seconds and the process of the study needs none.
    from sdnjax.commands.evaluate import evaluate_run  # noqa: PLC0415
    from sdnjax.commands.train import has_ended, train  # noqa: PLC0415
    from sdnjax.data.sources import label_space_of  # noqa: PLC0415
    from sdnjax.training.metrics_log import read_metrics  # noqa: PLC0415

    experiment = study.experiment(variant, seed)
    recorded = json.loads((folder / "study.json").read_text())["variants"].get(variant)
    if recorded != _record(study, variant):
        raise InputError(f"{variant} is no longer what {folder / 'study.json'} says: start again")
    result = result_path(folder, variant, seed)
    workdir = result.with_suffix("")
    begin = time.perf_counter()
    other = None if workdir.exists() else _trained(study, variant, seed, folder)
    if other is not None:
        found = other | {"variant": variant, "trained_as": other["variant"]}
        report(f"trained as {other['variant']}, seed {seed}")
        there = result_path(folder, other["variant"], seed).with_suffix("")
        with contextlib.nullcontext() if stop is None else stop.at_once():
            found["scores"] = evaluate_run(there, experiment, report=report)
        seconds = time.perf_counter() - begin
        found |= {"evaluation_seconds": seconds, "experiment": to_dict(experiment)}
        write_atomically(result, _finished(found, experiment, seconds))
        return True
    resume = (workdir / "config.json").is_file()
    state = train(experiment, workdir, resume=resume, report=report, stop=stop)
    if not has_ended(experiment, workdir, state):
        return False
    found = make_result(
        experiment,
        read_metrics(workdir),
        num_classes=label_space_of(experiment.data).num_classes,
        variant=variant,
        seed=seed,
        resumed=resume,
    )
    write_atomically(result, _finished(found, experiment, time.perf_counter() - begin))
    return True


def _finished(found: dict[str, Any], experiment: Experiment, seconds: float) -> str:
    """The file of a result: with what it was made, and what that took."""
    spent = {"seconds": seconds, "cpu_seconds": time.process_time()}
    values = found | {"code": code_record(experiment)} | spent | provenance()
    return json.dumps(values, indent=1) + "\n"


def _trained(study: Study, variant: str, seed: int, folder: Path) -> dict[str, Any] | None:
    """The result of a run whose network is this one's too, and is still there."""
    for other in study.variants:
        if other == variant or not study.same_training(variant, other):
            continue
        found = _result(study, folder, other, seed)
        if found is not None and result_path(folder, other, seed).with_suffix("").is_dir():
            return found
    return None


def finished(study: Study, folder: Path) -> dict[str, dict[int, dict[str, Any]]]:
    """Variant → seed → result of the runs that are finished. Raises: see `read_result`."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for variant in study.variants:
        seeds = {seed: _result(study, folder, variant, seed) for seed in study.seeds}
        found[variant] = {seed: x for seed, x in seeds.items() if x is not None}
    return found


def _result(study: Study, folder: Path, variant: str, seed: int) -> dict[str, Any] | None:
    experiment = study.experiment(variant, seed)
    return read_result(result_path(folder, variant, seed), experiment, code_record(experiment))


def check_folder(folder: Path) -> None:
    """InputError if there is something that is no study."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"work directory {folder} is a file: name a folder with --workdir")
    if (folder / "study.json").is_file() or not folder.is_dir():
        return
    if any(p.name != ".lock" for p in folder.iterdir()):
        raise InputError(f"{folder} is not empty and holds no study: name another --workdir")


def _write_study(study: Study, folder: Path) -> None:
    for variant in study.variants:
        (folder / variant).mkdir(parents=True, exist_ok=True)
    values = {"study": study.name, "variants": {v: _record(study, v) for v in study.variants}}
    write_atomically(folder / "study.json", json.dumps(values, indent=1) + "\n")


def _record(study: Study, variant: str) -> Any:
    """A variant as JSON gives it back."""
    experiment = study.experiment(variant, study.seeds[0])
    values = {**to_dict(dataclasses.replace(experiment, seed=0)), "code": code_record(experiment)}
    return json.loads(json.dumps(values))


def _in_words(study: Study, variant: str, seed: int, result: dict[str, Any]) -> str:
    scores = "  ".join(f"{m} {100 * score_of(result, m):.2f}" for m in study.metrics[:3])
    return f"{variant}, seed {seed}: {scores}"


def _last(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n") if log.is_file() else []
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")


def _shares_of_cores(jobs: int) -> list[Sequence[int]]:
    """The cores of each of the runs at once; none of its own where there is but one run."""
    if jobs == 1 or not hasattr(os, "sched_getaffinity"):
        return [()] * jobs
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < jobs:
        return [()] * jobs
    return [cores[i::jobs] for i in range(jobs)]


@contextlib.contextmanager
def _stopping(under_way: Callable[[], Sequence[Started]]) -> Iterator[None]:
    """Whatever ends the study ends its runs, which save first."""

    def asked(number: int, frame: Any) -> None:
        raise Stopped

    here = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, asked) if here else None
    try:
        yield
    except BaseException:
        for process in under_way():
            process.send_signal(signal.SIGTERM)
        for process in under_way():
            process.wait()
        raise
    finally:
        if here:
            signal.signal(signal.SIGTERM, before)


def main(description: str | None, argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = OneLineParser(usage="python study.py STUDY [options]", description=description)
    parser.add_argument("source", metavar="STUDY", help="a Python file whose study() returns one")
    parser.add_argument("--workdir", type=Path, help="work directory [studies/NAME]")
    parser.add_argument("--jobs", type=_count, default=1, metavar="N", help="runs at once [1]")
    parser.add_argument("--seeds", type=_seeds, help="0,1,2: these alone [the study's]")
    parser.add_argument("--variants", type=_names, help="none,sdc: these, or all [those chosen]")
    parser.add_argument("--baseline", help="the variant to subtract [the study's]")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)  # what a process is started for
    parser.add_argument("--cores", type=_seeds, default=(), help=argparse.SUPPRESS)
    arguments, study = _parsed(parser, argv)
    folder = arguments.workdir or Path("studies") / study.name
    if arguments.run is not None:
        variant, seed = arguments.run[0], int(arguments.run[1])
        return _one_process(study, variant, seed, folder, arguments.cores)
    _check_metrics(study)

    def start(variant: str, seed: int, cores: Sequence[int]) -> Started:
        # The same script: the library beside it is found as it was here.
        words = [sys.executable, *_again(), *argv, "--run", variant, str(seed)]
        if cores:
            words += ["--cores", ",".join(map(str, cores))]
        with result_path(folder, variant, seed).with_suffix(".log").open("a") as log:
            # Its standard input is closed when this process ends, even killed: see `_ends_with_us`.
            return subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C comes from here, not from the terminal
            )

    try:
        return 0 if run_study(study, folder, start, jobs=arguments.jobs) else 1
    except Stopped:
        print("stopped; the same command goes on", file=sys.stderr)
        return PREEMPTED


def _one_process(study: Study, variant: str, seed: int, folder: Path, cores: Sequence[int]) -> int:
    if cores:
        os.sched_setaffinity(0, cores)
    result = result_path(folder, variant, seed)
    threading.Thread(target=_ends_with_us, daemon=True).start()
    with Stop() as stop, Lock(result.with_suffix(".lock")) as lock:
        # The process of a study that was killed may still be saving.
        lock.wait()
        try:
            ended = do_run(study, variant, seed, folder, stop=stop)
        except Stopped:
            ended = False
    return 0 if ended else stop.status


def _ends_with_us() -> None:
    """Stops this process when the one that started it is gone."""
    # Not by `sys.stdin`, whose lock a thread must not hold when Python ends.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _again() -> list[str]:
    """The words after `python` that start this command."""
    script = sys.argv[0]
    return ["-m", "sdnjax", "study"] if script.startswith("sdnjax ") else [script]


def _parsed(parser: OneLineParser, argv: Sequence[str]) -> tuple[argparse.Namespace, Study]:
    """The study with what the command line says of its base, its seeds and its variants."""
    found: list[Study] = []

    def load(_: argparse.Namespace, path: Path) -> Experiment:
        found.append(load_study(path))
        return found[-1].base

    arguments, base = parse_experiment(parser, "study file", load, argv)
    study = found[-1]
    for key, other in (("seed", "--seeds"), ("name", "--workdir")):
        if getattr(base, key) != getattr(study.base, key):
            raise InputError(f"--{key} has no effect on a study: use {other}")
    if study.base.losses is None and base.losses == study.base.resolved().losses:
        base = dataclasses.replace(base, losses=None)  # each network's own
    variants = dict(study.variants)
    names = study.chosen if arguments.variants is None else arguments.variants
    if names and names != ("all",):
        for name in names:
            if name not in variants:
                raise unknown("--variants: there is none called", name, variants)
        variants = {v: change for v, change in variants.items() if v in names}
    seeds = study.seeds if arguments.seeds is None else arguments.seeds
    baseline = study.baseline if arguments.baseline is None else arguments.baseline
    study = dataclasses.replace(
        study, base=base, variants=variants, chosen=(), seeds=seeds, baseline=baseline
    )
    return arguments, study


def _check_metrics(study: Study) -> None:
    """InputError with the nearest name for a score that the validation will not have."""
    from sdnjax.data.sources import label_space_of  # noqa: PLC0415  (as in `do_run`)
    from sdnjax.inference.scoring import empty_metrics  # noqa: PLC0415

    for variant in study.variants:
        experiment = study.experiment(variant, study.seeds[0])
        if experiment.data.val_split is None:
            raise InputError(f"variant {variant}: data.val_split is none: there are no scores")
        k = label_space_of(experiment.data).num_classes
        scores = empty_metrics(k, experiment.evaluation).compute()
        for metric in study.metrics:
            score_of({"scores": scores}, metric)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, not {text!r}")
    return int(text)


def _seeds(text: str) -> tuple[int, ...]:
    if not all(part.isdecimal() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"must be whole numbers such as 0,1,2, not {text!r}")
    return tuple(map(int, text.split(",")))


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))
