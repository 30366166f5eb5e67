"""The launch scripts: their syntax, the command lines in them, and SLURM's with a stand-in."""

import json
import os
import subprocess
import sys

import jax
import pytest

from sdnjax.commands.workdir import load_experiment
from sdnjax.training.checkpoints import finished_steps
from tests.commands.test_interrupted_command import camvid  # noqa: F401  (a fixture)

CONFIG = "configs/camvid_fcn_r18_sdn.py"
SCRIPTS = ("train.sbatch", "ssh.sh", "tpu.sh")

# What stands in place of a command: it runs, here, what the real one runs elsewhere.
SSH = '#!/bin/bash\nshift 2\nexec bash -c "$*"\n'
GCLOUD = (
    '#!/bin/bash\nfor w; do case $w in --command=*) exec bash -c "${w#--command=}";; esac; done\n'
)
SRUN_ONCE = '#!/bin/bash\nwhile [ "${1#-}" != "$1" ]; do shift; done\nexec "$@"\n'
PYTHON = f"""#!{sys.executable}
import json, os, sys
names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
said = {{name: os.environ[name] for name in names if name in os.environ}}
with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps([said, sys.argv[1:]]) + "\\n")
"""
# Two tasks of one node, as `srun` starts them; its status is the highest.
SRUN = f"""#!{sys.executable}
import os, subprocess, sys
command = sys.argv[1:]
while command[0].startswith("-"):
    command.pop(0)
step = {{
    "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2",
    "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_NODEID": "0",
}}
tasks = [
    subprocess.Popen(command, env={{**os.environ, **step, "SLURM_PROCID": i, "SLURM_LOCALID": i}})
    for i in "01"
]
sys.exit(max(task.wait() for task in tasks))
"""


@pytest.fixture
def launch(request, tmp_path):
    """Runs a script of examples/launch with stand-ins for the commands that it calls."""
    root = request.config.rootpath

    def launch(script, *words, commands, **variables):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        for name, text in commands.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        environment = {
            **{k: v for k, v in os.environ.items() if k != "PYTHON"},  # `make PYTHON=` sets it
            **variables,
            "PATH": f"{folder}:{os.environ['PATH']}",
            "CALLS": str(tmp_path / "calls"),
        }
        return subprocess.run(
            ["bash", root / "examples" / "launch" / script, *map(str, words)],
            env=environment,
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )

    return launch


@pytest.fixture
def accepted(call, monkeypatch):
    """Whether train.py takes a command line, up to where the processes join."""

    class Joined(Exception):
        pass

    def join(*where, **how):
        raise Joined

    def accepted(words, said):
        assert words[0] == "train.py" and "--distributed" in words
        monkeypatch.setattr(jax.distributed, "initialize", join)
        for name, value in {"JAX_COORDINATOR_ADDRESS": "a:1", **said}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("JAX_NUM_PROCESSES", said.get("JAX_NUM_PROCESSES", "2"))
        monkeypatch.setenv("JAX_PROCESS_ID", said.get("JAX_PROCESS_ID", "1"))
        with pytest.raises(Joined):
            call(*words)

    return accepted


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_scripts_are_bash(request, script):
    path = request.config.rootpath / "examples" / "launch" / script
    done = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_scripts_call_train_as_it_can_be_called(tmp_path, launch, accepted, script):
    commands = {"ssh": SSH, "gcloud": GCLOUD, "srun": SRUN_ONCE, "scontrol": "#!/bin/bash\n"}
    commands |= {"python": PYTHON, "python3": PYTHON}
    done = launch(
        script,
        *(CONFIG, tmp_path / "run", "--steps=7"),
        commands=commands,
        **{"HOSTS": "one two", "TPU": "pod", "ZONE": "z", "FOLDER": ".", "SLURM_JOB_ID": "1"},
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    calls = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    for said, words in calls:
        assert [CONFIG, "--workdir", str(tmp_path / "run"), "--resume"] == words[1:5]
        assert "--steps=7" in words
        accepted(words, said)
    told = sorted(said.get("JAX_PROCESS_ID", "") for said, _ in calls)
    assert told == (["0", "1"] if script == "ssh.sh" else [""])
    if script == "ssh.sh":
        assert {said["JAX_COORDINATOR_ADDRESS"] for said, _ in calls} == {"one:61000"}
        assert {said["JAX_NUM_PROCESSES"] for said, _ in calls} == {"2"}


def test_the_jobset_calls_train_as_it_can_be_called(request, tmp_path, accepted):
    yaml = pytest.importorskip("yaml")
    text = (request.config.rootpath / "examples" / "launch" / "jobset.yaml").read_text()
    job_set = yaml.safe_load(text)
    job = job_set["spec"]["replicatedJobs"][0]
    spec = job["template"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    name = job_set["metadata"]["name"]
    assert environment["JAX_COORDINATOR_ADDRESS"] == f"{name}-{job['name']}-0-0.{name}:61000"
    assert environment["JAX_NUM_PROCESSES"] == str(spec["parallelism"]) == str(spec["completions"])
    program, *words = container["command"]
    assert program == "python"
    # Here gcsfs may be missing.
    words = [word.replace("gs://BUCKET", str(tmp_path)) for word in words]
    accepted(words, {"JAX_NUM_PROCESSES": environment["JAX_NUM_PROCESSES"]})


def test_a_status_of_75_puts_the_job_back_into_the_queue(tmp_path, launch):
    commands = {"srun": "#!/bin/bash\nexit $ENDS\n", "scontrol": '#!/bin/bash\necho "$@"\n'}
    for status, said in ((75, "requeue 31\n"), (1, ""), (0, "")):
        variables = {"ENDS": str(status), "SLURM_JOB_ID": "31"}
        done = launch("train.sbatch", CONFIG, tmp_path / "run", commands=commands, **variables)
        assert (done.returncode, done.stdout) == (status, said)


@pytest.mark.slow
def test_two_tasks_of_slurm_train_together(tmp_path, launch, camvid):  # noqa: F811
    words = (
        *(CONFIG, tmp_path / "run", "--data.dir", camvid, "--steps=4", "--batch_size=8"),
        *("--tensorboard=false", "--data.crop_size=32,32", "--model.neck.guidance_channels=16"),
    )
    commands = {"srun": SRUN, "python": f'#!/bin/bash\nexec {sys.executable} "$@"\n'}
    # The port is a function of the job's number.
    how = {"XLA_FLAGS": "--xla_backend_optimization_level=0", "SLURM_JOB_ID": str(os.getpid())}
    done = launch("train.sbatch", *words, commands=commands, **how)
    assert done.returncode == 0, done.stderr
    for index in (0, 1):
        assert f"SLURM job {os.getpid()}: process {index} of 2 at 127.0.0.1:" in done.stdout
    assert "2 device(s); from step 0 to 4" in done.stdout
    assert finished_steps(tmp_path / "run" / "checkpoints") == [4]
    assert load_experiment(tmp_path / "run").steps == 4
    done = launch("train.sbatch", *words, "--steps=6", commands=commands, **how)
    assert done.returncode == 0, done.stderr
    assert "from step 4 to 6" in done.stdout
