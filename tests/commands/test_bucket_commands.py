"""The real commands with a work directory in a bucket, of a server on this machine.

What has to be there: s3fs and moto's server (`pip install s3fs 'moto[server]'`).
"""

import os
import socket

import pytest

from sdnjax.places import place
from sdnjax.training.checkpoints import finished_steps
from sdnjax.training.metrics_log import read_metrics
from tests.commands.test_interrupted_command import (  # noqa: F401  (fixtures)
    camvid,
    command,
    find_step,
    finish,
    start_both,
    state_of,
)
from tests.training.test_checkpoints import assert_same

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bucket():
    """`s3://bucket` of a server that lives as long as the tests of this file."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    told = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    import fsspec

    fsspec.filesystem("s3").mkdir("bucket")
    yield place("s3://bucket")
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    server.stop()


WORDS = ("--checkpoint_every=3", "--keep_checkpoints=1", "--evaluate_every=6", "--keep_best=mIoU")


def test_killed_resumed_evaluated_and_predicted(bucket, tmp_path, command, camvid):  # noqa: F811
    run = bucket / "runs" / "killed"
    words = (*WORDS, f"--workdir={run}")
    process = command(tmp_path / "x", *words)
    for line in process.stdout:
        if line.startswith("step ") and finished_steps(run / "checkpoints"):
            process.kill()
            break
    process.communicate()
    saved = finished_steps(run / "checkpoints")
    out, err = finish(command(tmp_path / "x", *words, "--resume"))
    assert "is taken over: its holder" in err
    assert find_step(out) == saved[-1] > 0
    assert "no TensorBoard files" in out
    finish(command(tmp_path / "whole", *WORDS))
    assert_same(state_of(run), state_of(tmp_path / "whole"))
    ours, theirs = (
        [x["train"]["loss"] for x in read_metrics(where) if "train" in x]
        for where in (run, tmp_path / "whole")
    )
    assert ours == theirs
    assert not (run / ".lock").exists()

    out, _ = finish(command(tmp_path / "x", run, "--step=best", script="eval.py", only=True))
    assert (run / "evaluation").is_dir() and f"written to {run}/evaluation" in out
    picture = next((camvid / "val").iterdir())
    words = (run, picture, "--out", tmp_path / "out")
    finish(command(tmp_path / "x", *words, script="predict.py", only=True))
    assert (tmp_path / "out" / f"{picture.stem}_labels.png").is_file()
    assert not list(tmp_path.glob("s3:*"))

    words = ("--steps=1", f"--workdir={bucket / 'runs' / 'second'}", f"--init_from={run}")
    out, _ = finish(command(tmp_path / "x", *words))
    assert f"of {run}; new: nothing" in out


def test_two_processes_save_in_a_bucket_and_go_on(bucket, tmp_path, command):  # noqa: F811
    run = bucket / "runs" / "two"
    words = (f"--workdir={run}", "--steps=4", "--checkpoint_every=2")
    for process in start_both(command, tmp_path / "x", *words):
        finish(process)
    assert finished_steps(run / "checkpoints") == [2, 4]
    words = (f"--workdir={run}", "--steps=6", "--resume")
    out = [finish(process)[0] for process in start_both(command, tmp_path / "x", *words)]
    assert find_step(out[0]) == 4
    finish(command(tmp_path / "x", f"--workdir={run}", "--steps=7", "--resume"))


def test_no_bucket_is_one_line(bucket, tmp_path, command):  # noqa: F811
    _, err = finish(command(tmp_path / "x", "--workdir=s3://absent/run"), status=2)
    assert err.count("\n") == 1
    assert "cannot write to work directory s3://absent/run" in err


def test_no_server_is_one_line(tmp_path, command, bucket):  # noqa: F811
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    words = ("s3://bucket/runs/x",)
    process = command(tmp_path / "x", *words, script="eval.py", only=True, AWS_ENDPOINT_URL=address)
    _, err = process.communicate(timeout=300)
    assert process.returncode in (1, 2)
    assert err.count("\n") == 1, err
