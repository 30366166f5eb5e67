"""A profiler trace of some of a run's steps."""

import jax.numpy as jnp
import pytest

from sdnjax.commands.train import train
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.training.profiling import TracedStep


def test_a_trace_of_chosen_steps(tmp_path):
    """Files are there for the steps that were asked for, and the trace ends with the run."""
    lines, calls = [], []

    def step(*arguments):
        calls.append(arguments)
        return jnp.zeros(())

    traced = TracedStep(step, 0, (2, 3), tmp_path / "profile", lines.append)
    traced("state", "batch")
    assert not (tmp_path / "profile").exists()
    traced("state", "batch")
    assert not lines
    traced("state", "batch")
    assert "up to step 3" in lines[0] and list((tmp_path / "profile").rglob("*.xplane.pb"))
    traced("state", "batch")
    traced.close()
    assert len(lines) == 1 and calls == [("state", "batch")] * 4
    cut = TracedStep(step, 4, (5, 9), tmp_path / "cut", lines.append)
    cut()
    cut.close()
    assert "up to step 5" in lines[1] and list((tmp_path / "cut").rglob("*.xplane.pb"))
    TracedStep(step, 5, (5, 9), tmp_path / "late", lines.append)()
    assert "step 5 is done already" in lines[2] and not (tmp_path / "late").exists()
    with pytest.raises(InputError, match=r"profile is \(3, 99\): .* from 1 to 10"):
        Experiment(steps=10, profile=(3, 99))
    with pytest.raises(InputError, match="profile: a trace is written to disks"):
        train(Experiment(profile=(1, 2)), "s3://bucket/run")
