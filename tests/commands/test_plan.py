"""plan.py as a user calls it, for this machine's virtual devices."""

import json

import pytest

CONFIG = """
from flax import linen as nn
from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.losses import CrossEntropy


class Net(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x, *, train):
        return {"logits": nn.Conv(self.classes, (3, 3))(nn.relu(nn.Conv(16, (3, 3))(x)))}


def config():
    return Experiment(name="toy", model=Net, data=Data(name="DATA", crop_size=(16, 24)), steps=7)
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "toy.py"
    path.write_text(CONFIG.replace("DATA", "camvid"))
    return path


@pytest.fixture
def planned(call, config, tmp_path):
    def planned(*words):
        """The plan as it is written, and the text that is printed."""
        path = tmp_path / "out" / "plan.json"
        status, out, err = call("plan.py", config, "--json", path, *words)
        assert (status, err) == (0, "")
        return json.loads(path.read_text()), out

    return planned


def test_as_it_is_called(planned):
    """Without the data set, whose record knows its classes."""
    plan, out = planned("--target", "cpu:2")
    assert (plan["name"], plan["classes"]) == ("toy", 11)
    assert (plan["batch_size"], plan["devices"]) == (8, 2)
    assert plan["notes"] == plan["variations"] == [] and plan["steps"] == 7
    assert "cpu:2: 2 × this machine's CPU" in out and "batch 8, 4 on each, 16×24, 11 classes" in out
    flops = 2 * 8 * 16 * 24 * 9 * 16 * (2 * 3 + 3 * 11)  # the images have no gradient
    assert plan["operations"]["flops"] == flops


def test_what_is_given_changes_what_is_planned(planned):
    one, _ = planned("--target", "cpu:1", "--batch_size", "4")
    two, out = planned("--target", "cpu:1", "--per-device", "2", "--classes", "5")
    assert (one["batch_size"], one["notes"]) == (4, [])
    assert (two["batch_size"], two["classes"]) == (2, 5)
    assert "planned with a batch of 2, 2 on each device, not the recipe's 8 (--per-device)" in out
    # A third convolution's worth of classes less, and half the images.
    assert two["operations"]["flops"] * 2 * (2 * 3 + 3 * 11) == one["operations"]["flops"] * (
        2 * 3 + 3 * 5
    )
    longer, _ = planned("--target", "cpu:1", "--data.crop_size", "32,24", "--steps", "9")
    assert longer["image_size"] == [32, 24] and longer["steps"] == 9


def test_a_batch_that_does_not_split_over_the_devices(planned):
    plan, out = planned("--target", "cpu:6")
    assert plan["batch_size"] == 12
    assert "8 does not split over 6 devices" in out


def test_trying_what_takes_less(planned):
    plan, out = planned("--target", "cpu:2", "--try")
    tried = {one["variation"]: one["total"] for one in plan["variations"]}
    assert list(tried) == [
        "state_sharding fully_sharded",
        "remat blocks",
        "accumulate 2",
        "--per-device 2",
    ]
    assert tried["--per-device 2"] < plan["memory"]["total"]
    assert "what takes less:" in out


def test_mistakes_are_one_line(call, config, tmp_path):
    def says(*words):
        status, _, err = call("plan.py", config, *words)
        assert status == 2 and err.count("\n") == 1
        return err

    assert "--target" in says()
    assert "did you mean h100" in says("--target", "h10:8")
    assert "--per-device must be at least 1" in says("--target", "cpu:1", "--per-device", "0")
    assert "--classes must be at least 2" in says("--target", "cpu:1", "--classes", "1")
    assert "has no effect on this command" in says("--target", "cpu:1", "--evaluate_every", "3")
    theirs = tmp_path / "theirs.json"
    theirs.write_text('{"a": 1}')
    assert "no plan of ours" in says("--target", "cpu:1", "--json", theirs)
    assert theirs.read_text() == '{"a": 1}'
    config.write_text(CONFIG.replace("DATA", "folder"))
    assert "are in its folder: give --classes K" in says("--target", "cpu:1")


@pytest.mark.parametrize(
    ("target", "missing"),
    [("h100:8", "has_cuda_compiler"), ("v5e:2x2", "has_tpu_compiler")],
)
def test_a_compiler_that_is_not_here(call, config, monkeypatch, target, missing):
    monkeypatch.setattr(f"sdnjax.planning.devices.{missing}", lambda: False)
    status, _, err = call("plan.py", config, "--target", target)
    assert status == 2 and "make plan-environment" in err and err.count("\n") == 1
