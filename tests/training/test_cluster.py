"""Which process this is, from what launchers set, and joining that fails in one line."""

import os
import re
import socket
import subprocess
import sys

import jax
import pytest

from sdnjax.commands import command_line
from sdnjax.commands.command_line import add_distributed, distributed
from sdnjax.errors import InputError
from sdnjax.options import OneLineParser
from sdnjax.training import cluster
from sdnjax.training.cluster import Cluster, Task, detect, devices_of, launched

OWN = re.compile(r"JAX_(COORD|NUM_PROC|PROCESS_ID|LOCAL_DEV)|SLURM_|OMPI_|PMI_|MPI_|CUDA_VISIBLE")


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """No launcher's variables but a test's own."""
    for name in list(os.environ):
        if OWN.match(name):
            monkeypatch.delenv(name)


def slurm(index, tasks, per_node, node, local, **others):
    return {
        "SLURM_JOB_ID": "4242",
        "SLURM_STEP_NODELIST": "node[003-004]",
        "SLURM_NTASKS": str(tasks),
        "SLURM_STEP_NUM_TASKS": str(tasks),
        "SLURM_STEP_TASKS_PER_NODE": per_node,
        "SLURM_NODEID": str(node),
        "SLURM_PROCID": str(index),
        "SLURM_LOCALID": str(local),
        **others,
    }


def set_all(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_slurm_tells_everything(monkeypatch):
    set_all(monkeypatch, slurm(1, 2, "1(x2)", 1, 0))
    port = 4242 % 2**12 + 65535 - 2**12 + 1
    assert detect() == Cluster("SLURM job 4242", f"node003:{port}", 2, 1, None)


def test_variables_go_before_the_launcher(monkeypatch):
    set_all(monkeypatch, slurm(1, 2, "1(x2)", 1, 0))
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "10.0.0.1:77")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "5")
    monkeypatch.setenv("JAX_PROCESS_ID", "3")
    assert detect() == Cluster("SLURM job 4242", "10.0.0.1:77", 5, 3, None)


def test_open_mpi_without_its_old_daemon_needs_the_address_alone(monkeypatch):
    names = ("SIZE", "RANK", "LOCAL_RANK", "LOCAL_SIZE")
    set_all(monkeypatch, {f"OMPI_COMM_WORLD_{n}": v for n, v in zip(names, "4311", strict=True)})
    monkeypatch.setattr(cluster, "_known_to_jax", lambda: None)
    with pytest.raises(InputError, match=r"set JAX_COORDINATOR_ADDRESS \(Open MPI does not tell"):
        detect()
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "a:1")
    assert detect() == Cluster("Open MPI", "a:1", 4, 3, None)


def test_the_script_of_sbatch_is_no_task_and_a_step_of_one_is_alone():
    batch = {"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_JOB_ID": "1"}
    assert launched(batch) is None
    assert launched(slurm(0, 1, "1", 0, 0, SLURM_NTASKS="8")).tasks == 1


@pytest.mark.parametrize(
    ("per_node", "node", "beside"),
    [("4(x2),3", 2, 3), ("4(x2),3", 1, 4), ("8", 0, 8), ("", 0, None)],
)
def test_tasks_beside_are_those_of_the_own_node(per_node, node, beside):
    assert launched(slurm(0, 11, per_node, node, 0)).beside == beside


EIGHT = {"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7", "SLURM_GPUS_ON_NODE": "8"}


@pytest.mark.parametrize(
    ("beside", "local", "variables", "gpus", "expected"),
    [
        (1, 0, EIGHT, 8, None),  # alone: all, where JAX itself would take GPU 0
        (8, 5, EIGHT, 8, (5,)),
        (2, 1, EIGHT, 8, (4, 5, 6, 7)),
        # The scheduler has given each its own, numbered anew.
        (8, 5, {"CUDA_VISIBLE_DEVICES": "0", "SLURM_GPUS_ON_NODE": "8"}, 1, None),
        (2, 1, {"CUDA_VISIBLE_DEVICES": "4,5,6,7", "SLURM_GPUS_ON_NODE": "8"}, 8, None),
        (4, 3, {"CUDA_VISIBLE_DEVICES": "3"}, 4, None),  # bound by a wrapper under mpirun
        (4, 3, {}, 4, (3,)),
        (2, 1, {}, 0, None),  # no GPUs
        (None, 2, {}, 4, (2,)),  # nobody says how many: one for each, as JAX does
        (8, 5, {**EIGHT, "JAX_LOCAL_DEVICE_IDS": "1"}, 8, None),  # JAX reads it itself
    ],
)
def test_the_gpus_of_a_task(beside, local, variables, gpus, expected):
    assert devices_of(Task("SLURM", 16, 0, local, beside), variables, gpus) == expected


def test_gpus_that_do_not_divide_are_refused():
    with pytest.raises(InputError, match=r"3 tasks of SLURM share 8 GPU\(s\)"):
        devices_of(Task("SLURM", 3, 0, 0, 3), EIGHT, 8)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID"),
        ({"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2"}, "set JAX_PROCESS_ID"),
        ({"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES must be a whole number, not 'two'"),
        (
            {"JAX_COORDINATOR_ADDRESS": "a", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"},
            "must be host:port",
        ),
        (
            {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "2"},
            "process 2 of 2: processes are numbered from 0 to 1",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_one_line(monkeypatch, variables, words):
    set_all(monkeypatch, variables)
    monkeypatch.setattr(cluster, "_known_to_jax", lambda: None)
    with pytest.raises(InputError, match=re.escape(words)):
        detect()


def test_joining_passes_everything_on(monkeypatch):
    called = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a, **how: called.append((a, how)))
    monkeypatch.setattr(cluster, "_count_alike", lambda *a: None)
    monkeypatch.setattr(cluster, "detect", lambda within: Cluster("X", "a:1", 4, 3, (2,)))
    losses = []
    monkeypatch.setattr(cluster, "explain_loss", lambda *how: losses.append(how))
    said = []
    cluster.join_processes(7, 11, said.append)
    ((where, how),) = called
    assert where == ("a:1", 4, 3)
    assert how["local_device_ids"] == (2,)
    assert how["heartbeat_timeout_seconds"] == 7
    assert how["initialization_timeout"] > 11
    assert losses == [(3, "a:1", 7)]
    assert said == ["X: process 3 of 4 at a:1, with 8 local device(s) (cpu) of 8"]


def test_several_tasks_without_distributed_are_refused(monkeypatch):
    parser = OneLineParser()
    add_distributed(parser)
    set_all(monkeypatch, slurm(0, 2, "2", 0, 0))
    with pytest.raises(InputError, match="started 2 tasks of this command: with --distributed"):
        distributed(parser.parse_args([]))
    joined = []
    monkeypatch.setattr(command_line, "join_processes", lambda *how: joined.append(how))
    distributed(parser.parse_args(["--distributed", "--join-within=9", "--heartbeat=8"]))
    assert joined == [(8, 9)]
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS")
    distributed(parser.parse_args([]))


CODE = "from sdnjax.training.cluster import *; join_processes(within={within})"


def start(port, processes, index, within=3):
    told = {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": str(processes),
        "JAX_PROCESS_ID": str(index),
    }
    return subprocess.Popen(
        [sys.executable, "-c", CODE.format(within=within)],
        env={**os.environ, **told},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize(
    ("index", "words"),
    [(1, "process 0 cannot be met at 127.0.0.1"), (0, "not all of the 2 processes have come")],
)
def test_waiting_in_vain_ends_in_one_line(port, index, words):
    process = start(port, 2, index)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.count("\n")) == (1, 1), err
    assert words in err and "within 3 s" in err and "--join-within" in err


@pytest.mark.slow
def test_processes_that_count_differently_end_in_one_line_each(port):
    both = [start(port, 2, 0, 30), start(port, 3, 1, 30)]
    for index, process in enumerate(both):
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err.count("\n")) == (2, 1), err
        assert f"process {index} is one of {2 + index}" in err
