"""Which of several processes this one is: what the launcher says, and joining the others.

Schedulers tell their tasks in environment variables how many there are and which of them each is.
JAX reads the same for `jax.distributed.initialize()`, and where process 0 can be met; two things it
leaves to us. It gives every task under SLURM and Open MPI one GPU, also if the task is alone on its
machine; and a process that waits in vain ends in a native abort, not in a line.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import multihost

from sdnjax.errors import InputError, as_one_line
from sdnjax.training.lost import explain_loss

_VARIABLES = "JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES, JAX_PROCESS_ID"


@dataclass(frozen=True)
class Task:
    """What a launcher tells a process: task `index` of `tasks`, `local` of `beside` on its node.

    `beside` is None where the launcher does not say how many tasks its node has.
    """

    launcher: str
    tasks: int
    index: int
    local: int
    beside: int | None


@dataclass(frozen=True)
class Cluster:
    """How this process joins the others.

    `devices` are the indices of the GPUs that it takes among those it sees, None for all of them.
    """

    name: str
    coordinator: str
    processes: int
    index: int
    devices: tuple[int, ...] | None = None


def launched(environment: Mapping[str, str] = os.environ) -> Task | None:
    """The task that SLURM's `srun` or an `mpirun` started this process as; None if none did.

    In the script of `sbatch` itself, which runs once whatever the number of tasks, it is None.
    """

    def number(name: str) -> int | None:
        text = environment.get(name, "")
        return int(text) if text.isdecimal() else None

    for launcher, tasks, index, local, beside in (
        ("SLURM", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID", ""),
        (
            "Open MPI",
            *("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
            *("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
        ),
        ("MPI", "PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    ):
        count, own, here = number(tasks), number(index), number(local)
        if count is not None and own is not None and here is not None:
            there = number(beside) if beside else _tasks_on_this_node(environment)
            return Task(launcher, count, own, here, there)
    return None


def _tasks_on_this_node(environment: Mapping[str, str]) -> int | None:
    """SLURM says it of all nodes, `4(x2),3`, and which of them this one is."""
    counts: list[int] = []
    for part in environment.get("SLURM_STEP_TASKS_PER_NODE", "").split(","):
        if found := re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip()):
            counts += [int(found[1])] * int(found[2] or 1)
    node = environment.get("SLURM_NODEID", "")
    return counts[int(node)] if node.isdecimal() and int(node) < len(counts) else None


def devices_of(
    task: Task | None, environment: Mapping[str, str] = os.environ, gpus: int | None = None
) -> tuple[int, ...] | None:
    """The GPUs of a task, as indices into those that it sees; None for all that it sees.

    A task that is alone on its node takes all. Of several each takes its share, unless the
    scheduler has shown each of them its own already.

    Args:
      gpus: on this machine, counted if None.

    Raises: InputError if the GPUs do not divide among the tasks.
    """
    if task is None or task.beside == 1 or environment.get("JAX_LOCAL_DEVICE_IDS"):
        return None
    shown = [x for x in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if x.strip()]
    gpus = len(list(Path("/dev").glob("nvidia[0-9]*"))) if gpus is None else gpus
    visible = len(shown) or gpus
    if visible == 0:
        return None
    if task.beside is None:
        return (task.local,) if visible > 1 else None
    node = environment.get("SLURM_GPUS_ON_NODE", "")
    on_node = int(node) if node.isdecimal() else max(gpus, visible)
    if shown and visible < on_node:  # bound by the scheduler
        return None
    if visible % task.beside:
        raise InputError(
            f"--distributed: {task.beside} tasks of {task.launcher} share {visible} GPU(s) of this "
            "node: start one task per node, or one per GPU, or give each its own in "
            "CUDA_VISIBLE_DEVICES"
        )
    share = visible // task.beside
    return tuple(range(task.local * share, (task.local + 1) * share))


def detect(seconds: int = 60) -> Cluster:
    """Which process this is, from JAX_… variables and what else the launcher or the cloud says.

    The variables go first, one by one.

    Args:
      seconds: to wait for the coordinator's name where a cloud has to make it known.

    Raises: InputError that names the variables that would say what is not known.
    """
    told = {
        key: os.environ.get(f"JAX_{key}") or None
        for key in ("COORDINATOR_ADDRESS", "NUM_PROCESSES", "PROCESS_ID")
    }
    for key in ("NUM_PROCESSES", "PROCESS_ID"):
        if told[key] is not None and not told[key].isdecimal():  # type: ignore[union-attr]
            raise InputError(f"JAX_{key} must be a whole number, not {told[key]!r}")
    task = launched()
    coordinator = told["COORDINATOR_ADDRESS"]
    count, index = (told[key] for key in ("NUM_PROCESSES", "PROCESS_ID"))
    if task is not None:
        count, index = count or str(task.tasks), index or str(task.index)
    name = "the environment" if task is None else _title(task)
    if None in (coordinator, count, index):
        with as_one_line("--distributed", f"; else set {_VARIABLES}"):
            found = _known_to_jax()
            if found is not None:
                name = name if task is not None else found.name or found.__name__
                port = os.environ.get("JAX_COORDINATOR_PORT")
                coordinator = coordinator or found.get_coordinator_address(seconds, port)
                count = count or str(found.get_process_count())
                index = index or str(found.get_process_id())
    known = {
        "JAX_COORDINATOR_ADDRESS": coordinator,
        "JAX_NUM_PROCESSES": count,
        "JAX_PROCESS_ID": index,
    }
    if missing := [key for key, value in known.items() if value is None]:
        silent = "no cluster was recognised that would" if task is None else f"{name} does not"
        raise InputError(
            f"--distributed: set {', '.join(missing)} ({silent} tell); the variables are "
            f"{_VARIABLES}"
        )
    assert coordinator is not None and count is not None and index is not None
    if not re.fullmatch(r".+:\d+", coordinator):
        raise InputError(
            f"JAX_COORDINATOR_ADDRESS must be host:port of process 0, not {coordinator}"
        )
    if not 0 <= int(index) < int(count):
        raise InputError(
            f"--distributed: process {index} of {count}: processes are numbered from 0 to "
            f"{int(count) - 1}; the variables are {_VARIABLES}"
        )
    return Cluster(name, coordinator, int(count), int(index), devices_of(task))


def _title(task: Task) -> str:
    job = os.environ.get("SLURM_JOB_ID", "") if task.launcher == "SLURM" else ""
    return f"{task.launcher} job {job}" if job else task.launcher


def _known_to_jax() -> Any:
    """JAX's own class for the cluster that this is; None where it knows none."""
    from jax._src.clusters import ClusterEnv  # noqa: PLC0415  (no public way asks without joining)

    kinds = [kind for kind in ClusterEnv._cluster_types if not kind.opt_in_only_method]
    return next((kind for kind in kinds if kind.is_env_present()), None)


def join_processes(
    heartbeat: int = 30, within: int = 60, report: Callable[[str], None] = print
) -> None:
    """Makes this process one of several that work together, and says which of them it is.

    Ends the process with one line and status 1 if not all have come `within` so many seconds.

    Args:
      heartbeat: without a word of one of them for so many seconds the runtime ends all.

    Raises: InputError if nobody says which process this is, or they differ in how many there are.
    """
    cluster = detect(within)
    waiting = threading.Timer(within, _give_up, (cluster, within))
    waiting.daemon = True
    waiting.start()
    try:
        jax.distributed.initialize(
            cluster.coordinator,
            cluster.processes,
            cluster.index,
            local_device_ids=cluster.devices,
            cluster_detection_method="deactivate",
            # Later than our own: the runtime's end is a native abort.
            initialization_timeout=within + 30,
            heartbeat_timeout_seconds=heartbeat,
        )
        _count_alike(cluster, within)
        explain_loss(cluster.index, cluster.coordinator, heartbeat)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"--distributed: process {cluster.index} of {cluster.processes} could not join at "
            f"{cluster.coordinator} ({reason})"
            + (": is the port free? JAX_COORDINATOR_PORT names another" * (cluster.index == 0))
        ) from error
    finally:
        waiting.cancel()
    local = jax.local_devices()
    report(
        f"{cluster.name}: process {cluster.index} of {cluster.processes} at "
        f"{cluster.coordinator}, with {len(local)} local device(s) ({local[0].device_kind}) of "
        f"{jax.device_count()}"
    )


def _count_alike(cluster: Cluster, within: int) -> None:
    """Ends all of them if one counts more or fewer processes than process 0, before they wait for
    those that there are not."""
    client = multihost.get_jax_distributed_client()
    client.key_value_set(f"sdnjax/processes/{cluster.index}", str(cluster.processes))
    others = range(1, cluster.processes) if cluster.index == 0 else (0,)
    for other in others:
        count = client.blocking_key_value_get(f"sdnjax/processes/{other}", 1000 * within)
        if int(count) == cluster.processes:
            continue
        print(
            f"error: --distributed: process {cluster.index} is one of {cluster.processes}, process "
            f"{other} one of {count}: JAX_NUM_PROCESSES must be the same for all",
            file=sys.stderr,
            flush=True,
        )
        if cluster.index == 0:  # with it the store goes in which the others look
            time.sleep(2)
        os._exit(2)


def _give_up(cluster: Cluster, within: int) -> None:
    """Says why the others were not met, as far as can be seen from here, and ends the process."""
    if cluster.index == 0:
        reason = f"not all of the {cluster.processes} processes have come to {cluster.coordinator}"
    else:
        host, _, port = cluster.coordinator.rpartition(":")
        reason = f"not all of the {cluster.processes} processes have come"
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
        except OSError as error:
            reason = f"process 0 cannot be met at {cluster.coordinator} ({error.strerror or error})"
    print(
        f"stopped: --distributed: {reason} within {within} s (process {cluster.index}, "
        f"{cluster.name}); --join-within waits longer",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)
