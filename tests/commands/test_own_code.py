"""Runs whose configuration holds objects of its own: kept with their source, run on request."""

import json
import shutil
import sys
import types

import numpy as np
import pytest
from PIL import Image

import sdnjax
from sdnjax.commands.evaluate import evaluate_run
from sdnjax.commands.train import train
from sdnjax.commands.trained import load_network
from sdnjax.commands.workdir import load_experiment
from sdnjax.config_file import load_config, sources
from sdnjax.data.data_settings import Data
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from tests.commands.test_entry_points import assert_one_line
from tests.training.tiny import Tiny

HELPERS = """
import dataclasses
import jax.numpy as jnp
from sdnjax.losses import CrossEntropy, Mean

@dataclasses.dataclass(frozen=True)
class Entropy:
    weight: float = 0.5

    def __call__(self, outputs, batch):
        x = outputs["logits"]
        return {"entropy": Mean(jnp.sum(x * x), jnp.asarray(x.size))}
"""
CONFIG = """
from my_losses import CrossEntropy, Entropy
from sdnjax.data.data_settings import Data
from sdnjax.experiment import Experiment
from tests.training.tiny import Tiny

SCALE = 1.0

class Doubled(Tiny):
    def __call__(self, x, *, train):
        return super().__call__(SCALE * x, train=train)

def network(num_classes):
    return Doubled(num_classes)

def config():
    data = Data(name="camvid", crop_size=(16, 16), workers=2)
    return Experiment(name="own", model=network, losses=(CrossEntropy(), Entropy()), data=data,
                      steps=4, tensorboard=False, log_every=1)
"""


@pytest.fixture
def mine(tmp_path):
    """A configuration and the module beside it, in a folder of their own."""
    folder = tmp_path / "research"
    folder.mkdir()
    (folder / "my_losses.py").write_text(HELPERS)
    (folder / "mine.py").write_text(CONFIG)
    return folder / "mine.py"


@pytest.fixture
def trained(call, mine, camvid, tmp_path):
    words = (mine, "--data.dir", camvid, "--workdir", tmp_path / "run", "--losses.1.weight=0.25")
    status, out, err = call("train.py", *words)
    assert (status, err) == (0, ""), err
    assert ": network, " in out
    return tmp_path / "run", words


def logged(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_the_work_directory_keeps_the_code_and_runs_it_only_where_that_is_asked_for(
    trained, call, mine, camvid, tmp_path
):
    workdir, _ = trained
    first = logged(workdir)[0]["train"]
    terms = first["loss_decoder"] + 0.25 * first["loss_entropy"]
    assert first["loss"] == pytest.approx(terms, rel=1e-5)
    assert {p.name for p in (workdir / "code").iterdir()} >= {"mine.py", "my_losses.py"}
    shutil.rmtree(mine.parent)  # the directory is enough

    for script, rest in (("eval.py", ()), ("predict.py", (camvid / "val",))):
        asked = call(script, workdir, *rest)
        assert_one_line(asked, "code of its own (mine.network", "--trust-code", "--config FILE")
        status, _, err = call(script, workdir, *rest, "--trust-code")
        assert (status, err) == (0, ""), err
    found = json.loads((workdir / "evaluation" / "val_4_whole.json").read_text())["results"]
    assert found == logged(workdir)[-1]["val"]

    with pytest.raises(InputError, match=r"code of its own \(mine\.network"):
        sdnjax.load(workdir)
    result = sdnjax.load(workdir, step=4, trust_code=True)(camvid / "val" / "0.png")
    written = np.asarray(Image.open(workdir / "predictions" / "0_labels.png"))
    np.testing.assert_array_equal(result.labels, written)


def test_changed_code_is_another_run(trained, call, mine, camvid):
    workdir, words = trained
    mine.write_text(CONFIG.replace("SCALE = 1.0", "SCALE = 2.0"))
    assert_one_line(call("train.py", *words, "--resume"), "mine.py is not the code", "code/mine.py")
    same = (workdir / "code" / "mine.py", *words[1:])
    status, out, _ = call("train.py", *same, "--resume")
    assert (status, "is finished" in out) == (0, True)
    # A file that the user names is run, whatever it holds; what the directory keeps is checked.
    assert call("eval.py", workdir, "--config", mine)[0] == 0
    kept = workdir / "code" / "my_losses.py"
    kept.write_text(kept.read_text() + "\nEVIL = 1\n")
    assert_one_line(call("eval.py", workdir, "--trust-code"), kept, "not what the run was made")
    mine.write_text(CONFIG.replace("def network", "def net").replace("=network", "=net"))
    assert_one_line(call("eval.py", workdir, "--config", mine), "was mine.network", "mine.net")


def test_what_was_made_in_python_says_that_it_cannot_be_made_again(camvid, tmp_path):
    data = Data(name="camvid", dir=str(camvid), crop_size=(16, 16), workers=2)
    experiment = Experiment(model=Tiny, data=data, steps=2, tensorboard=False)
    train(experiment, tmp_path / "run", report=lambda line: None)
    with pytest.raises(InputError, match=r"tests\.training\.tiny\.Tiny.*--config FILE") as error:
        load_network(tmp_path / "run")
    assert "--trust-code" not in str(error.value)  # nothing is kept that could be trusted
    with pytest.raises(InputError, match="keeps no code"):
        load_experiment(tmp_path / "run", trust_code=True)
    # Whoever has the experiment needs no code.
    results = evaluate_run(tmp_path / "run", experiment, report=lambda line: None)
    assert results["images"] == 3
    other = Experiment(data=data, steps=2)
    with pytest.raises(InputError, match="another network: model was tests"):
        load_network(tmp_path / "run", other)


@pytest.mark.parametrize(
    "value",
    [
        {"type": "os.system", "command": "x"},
        {"type": "subprocess.Popen", "args": ["x"]},
        {"function": "os.system"},
        {"function": "sdnjax.data.archives.shutil.rmtree"},
        {"type": "sdnjax.training.loop.Feed"},
    ],
)
def test_a_hostile_description_runs_nothing(value, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model": value}))
    with pytest.raises(InputError) as error:
        load_experiment(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def config(:", r"line 1: "),
        ("import no_such_module", "line 1: ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = 1\ndef config():\n    return y", "line 3: NameError"),
    ],
)
def test_mistakes_in_the_code_name_file_and_line(text, message, tmp_path):
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(InputError, match=f"bad.py, {message}"):
        load_config(tmp_path / "bad.py", Experiment)


def test_a_configuration_builds_on_the_one_beside_it(mine):
    (mine.parent / "longer.py").write_text(
        "import dataclasses\nfrom mine import config as base\n"
        "def config():\n    return dataclasses.replace(base(), steps=9)\n"
    )
    assert load_config(mine.parent / "longer.py", Experiment).steps == 9


def test_modules_that_only_claim_to_have_a_file_are_passed_over(mine, monkeypatch):
    """As `torch.classes`, whose `__file__` is "_classes.py" and lies nowhere."""
    made_up = types.ModuleType("made_up")
    made_up.__file__ = "_made_up.py"
    monkeypatch.setitem(sys.modules, "made_up", made_up)
    monkeypatch.chdir(mine.parent)
    load_config(mine, Experiment)
    assert {"mine.py", "my_losses.py"} <= sources(mine.resolve()).keys()
