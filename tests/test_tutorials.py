"""The tutorial and the page on fine-tuning, done as they are printed, with a tiny network."""

import re
import types

import numpy as np
import pytest
from PIL import Image

from sdnjax.commands.trained import load_network
from sdnjax.convert import batch_norm, conv
from sdnjax.convert.files import read_file, write_file
from sdnjax.convert.state_dict import find_state_dict
from sdnjax.convert.tables import OF_FAMILY
from sdnjax.models.model_settings import Model
from tests.commands.conftest import *  # noqa: F403 (the root's scripts as a user calls them)
from tests.commands.test_init_from import Necked

STEP = re.compile(r"^```python\n(?P<block>.*?)^```|^    python (?P<command>[^\n]+)$", re.M | re.S)
SHORT = ("--steps=2", "--evaluate_every=2", "--batch_size=8", "--data.crop_size=16,16")


def network(self, num_classes, dtype=None):
    return Necked(num_classes, neck=self.neck.operator != "none")


@pytest.fixture
def follow(request, call, tmp_path, monkeypatch):
    """Follows a page in a folder of its own: what each command printed, and the blocks' names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Model, "build", network)
    root = request.config.rootpath

    def follow(page):
        printed, names = {}, {}
        for step in STEP.finditer((root / page).read_text()):
            block, command = step["block"], step["command"]
            file = block and re.match(r"# (\w+\.py)\n", block)
            if file:
                (tmp_path / file[1]).write_text(block)
            elif block:
                exec(block, names)
            else:
                script, *words = command.split("#")[0].split()
                if not (root / script).exists():
                    exec((tmp_path / script).read_text(), {})
                    continue
                words = [str(root / w) if w.startswith("configs/") else w for w in words]
                words += (*SHORT, "--tensorboard=false") if script == "train.py" else ()
                status, out, err = call(script, *words)
                assert (status, err) == (0, ""), (command, err)
                printed[script] = out
        return printed, names

    return follow


def test_the_tutorial(follow, request, tmp_path):
    page = (request.config.rootpath / "docs/tutorial.md").read_text()
    printed, names = follow("docs/tutorial.md")
    assert list(printed) == [
        *("check.py", "train.py", "eval.py", "report.py", "predict.py", "export.py")
    ]
    for line in printed["check.py"].splitlines():
        assert f"\n{line}\n" in page
    # Where the training decides, the words and not the numbers.
    rows = [line.split()[0] for line in printed["eval.py"].splitlines() if line.strip()]
    assert rows[rows.index("class") :][2:5] == ["soil", "leaf", "stem"]
    for row in ("class", "soil", "leaf", "stem", "mIoU"):
        assert row in rows and f"\n{row} " in page
    assert "48 images to train, 12 to validate" in printed["train.py"]
    assert "typical" in (tmp_path / "runs/leaves/report.html").read_text()
    assert (tmp_path / "runs/leaves/predictions/07_overlay.png").is_file()
    assert (tmp_path / "overlay.png").is_file()
    # The exported file is the network that was loaded.
    assert (np.asarray(names["labels"]) == names["result"].labels).mean() > 0.99


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """`fcn_r50-d8.pth`, a file of PyTorch's with the tensors of the tiny network."""
    rows = [
        *conv("backbone", "net.0"),
        *batch_norm("norm", "net.1"),
        *conv("classifier", "head", bias=True),
    ]
    table = types.SimpleNamespace(rows=lambda _: rows, IGNORED=())
    monkeypatch.setitem(OF_FAMILY, "fcn", table)
    rng = np.random.default_rng(0)
    shapes = {"net.0.weight": (4, 3, 3, 3), "head.weight": (19, 4, 1, 1), "head.bias": (19,)}
    shapes |= {f"net.1.{name}": (4,) for name in ("weight", "bias", "running_mean", "running_var")}
    state = {k: rng.uniform(0.5, 1, shape).astype(np.float32) for k, shape in shapes.items()}
    write_file(tmp_path / "fcn_r50-d8.pth", state)
    return state


@pytest.mark.slow
def test_fine_tuning(follow, theirs, request, tmp_path):
    page = (request.config.rootpath / "docs/tutorial.md").read_text()
    (tmp_path / "make_leaves.py").write_text(STEP.search(page)["block"])
    exec((tmp_path / "make_leaves.py").read_text(), {})
    printed, _ = follow("docs/fine_tuning.md")
    assert list(printed) == ["convert.py", "train.py", "eval.py", "predict.py"]
    assert "classifier" in printed["train.py"] and "neck" in printed["train.py"]
    # The rate of the backbone is a tenth of the neck's: it has moved less from where it began.
    found = load_network(tmp_path / "runs/fine_tuned").variables["params"]
    moved = np.abs(found["backbone"]["kernel"] - theirs["net.0.weight"].transpose(2, 3, 1, 0))
    assert 0 < moved.max() < 0.1


def test_the_commands_for_checkpoints_of_pytorch(request, call, theirs, monkeypatch, tmp_path):
    """But for those that need Cityscapes and what PyTorch saved: they ask for these."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Model, "build", network)
    root = request.config.rootpath
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save("street.jpg")
    wants = {"eval.py": "FOLDER", "convert.py compare": "activations.safetensors"}
    commands = [s["command"] for s in STEP.finditer((root / "docs/pytorch.md").read_text())]
    assert len(commands) == 6
    for command in commands:
        words = [
            str(root / w) if w.startswith("configs/") else w for w in command.split("#")[0].split()
        ]
        status, _, err = call(*words)
        missing = [what for name, what in wants.items() if command.startswith(name)]
        assert status == 2 * len(missing), (command, err)
        assert all(what in err and err.count("\n") == 1 for what in missing), err
    written = find_state_dict(read_file(tmp_path / "back.pth"), "")
    assert all(np.array_equal(written[name], value) for name, value in theirs.items())
