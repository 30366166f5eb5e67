"""Plans of a small network with the SDN neck for accelerators that are only described."""

import re
import subprocess
import sys

import pytest

from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from sdnjax.models import Model, Neck
from sdnjax.planning.devices import DEVICES, parse_target
from sdnjax.planning.plan import plan_of
from tests.compile_only.described import needs_cuda, needs_tpu


def plan(target, images=2, dtype="bfloat16"):
    target = parse_target(target)
    model = Model("fcn_r18-d8", neck=Neck(operator="sdc"), dtype=dtype)
    recipe = Experiment(model=model, data=Data(crop_size=(64, 96))).build(19)
    return plan_of(recipe, target, images * target.count, steps=100)


@pytest.mark.parametrize(
    ("few", "many"),
    [
        pytest.param("h100:8", "h100:32x8", marks=needs_cuda, id="h100"),
        pytest.param("v5e:2x2", "v5e:16x16", marks=[needs_tpu, pytest.mark.slow], id="v5e"),
    ],
)
def test_memory_and_traffic_do_not_grow_with_devices(few, many):
    one, other = plan(few), plan(many)
    assert other["memory"]["total"] < 1.05 * one["memory"]["total"]
    for found in (one, other):
        assert list(found["collectives"]) == ["all-reduce"]
        assert found["activations_moved"] == []
        assert found["fits"]
    assert other["collectives"] == one["collectives"]
    ratio = other["operations"]["flops"] / one["operations"]["flops"]
    assert ratio == pytest.approx(other["devices"] / one["devices"], rel=0.01)


@needs_cuda
def test_a_loss_on_masks_moves_no_activations():
    """Its loop over classes and its matching are each device's own; XLA would share the loop."""
    target = parse_target("h100:8")
    recipe = Experiment(model=Model("maskformer_r50-d32"), data=Data(crop_size=(64, 64))).build(19)
    found = plan_of(recipe, target, 16, steps=100)
    assert list(found["collectives"]) == ["all-reduce"]
    # Costs of 100 queries and 19 masks in 6 layers for 2 images, what is there, and the matches.
    assert found["to_host"] == 2 * (6 * 100 * 19 * 4 + 19 + 6 * 19 * 4)


@needs_cuda
def test_kernels_of_sdc_count_about_what_xlas_form_does():
    """The kernels multiply whole tiles, and not the centre's tap."""
    kernels, plain = plan("h100:1"), plan("h100:1", dtype="float32")
    kinds = kernels["operations"]["flops_by_kind"]
    assert {"sdc_product", "sdc_map_gradient", "sdc_kernel_gradient"} < set(kinds)
    assert kernels["operations"]["uncertain_flops"] == 0
    ratio = kernels["operations"]["flops"] / plain["operations"]["flops"]
    assert ratio == pytest.approx(1, rel=0.1)


@needs_cuda
def test_the_description_is_the_device_that_is_compiled_for():
    """Memory and its speed are said twice: to XLA and to us."""
    for name in ("h100", "a100"):
        device = DEVICES[name]
        assert f"device_memory_size: {device.memory}\n" in device.description
        said = float(device.description.partition("memory_bandwidth: ")[2].split()[0])
        assert device.bandwidth == pytest.approx(said, rel=0.01)
    assert plan("a100:1")["memory"]["total"] > 0


@needs_cuda
@pytest.mark.slow
def test_the_commands_of_the_page_on_planning(request, tmp_path):
    """As printed, each a process of its own; some minutes."""
    pytest.importorskip("PIL", reason="plan.py needs the whole library")
    root = request.config.rootpath
    page = (root / "docs/planning.md").read_text()
    commands = re.findall(r"^    python (plan\.py .*)$", page, re.MULTILINE)
    assert commands
    for command in commands:
        words = [str(root / w) if "/" in w or w == "plan.py" else w for w in command.split()]
        how = {"cwd": tmp_path, "text": True, "capture_output": True}
        done = subprocess.run([sys.executable, *words], check=False, **how)
        assert done.returncode == 0, done.stderr
        assert "fits: " in done.stdout
