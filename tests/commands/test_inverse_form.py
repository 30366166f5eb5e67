"""The command that trains a regressor, and runs that use one."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from sdnjax.commands.evaluate import evaluate_run
from sdnjax.commands.inverse_form import main, train_regressor
from sdnjax.commands.predict import predict_pictures
from sdnjax.commands.train import train
from sdnjax.config_file import load_config
from sdnjax.convert.tensors import read_tensors
from sdnjax.data import Data
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.losses.inverse_form import NAMES
from sdnjax.models import Neck


@pytest.fixture
def config(request):
    return request.config.rootpath / "configs" / "shapes_fcn_r18_inverse_form.py"


@pytest.fixture
def experiment(config, camvid, tmp_path):
    """The configuration on the miniature camvid, with a regressor to be trained."""
    shapes = load_config(config, Experiment)
    loss = dataclasses.replace(
        shapes.losses[3], regressor=str(tmp_path / "new" / "regressor.safetensors")
    )
    losses = (*shapes.losses[:3], loss, *shapes.losses[4:])
    data = Data("camvid", dir=str(camvid), crop_size=(33, 40), workers=2)
    return dataclasses.replace(
        shapes, data=data, losses=losses, steps=4, checkpoint_every=2, tensorboard=False
    )


def silent(line):
    pass


@pytest.fixture
def words(config, camvid, tmp_path):
    """Two steps of a small regressor."""
    out = tmp_path / "regressor.safetensors"
    return [
        *(str(config), "--data.name=camvid", f"--data.dir={camvid}", "--data.crop_size=32,32"),
        *("--losses.3.size=16,16", f"--losses.3.regressor={out}", "--steps=2", "--hidden=6,5"),
    ]


def test_the_command_writes_what_the_loss_reads(words, tmp_path, capsys):
    out = tmp_path / "regressor.safetensors"
    assert main(words) == 0
    said = capsys.readouterr()
    assert "tiles of 8×8 pixels, 0.00 M parameters, 2 steps" in said.out + said.err
    assert "on crops of val; that of the answer 0 is 1." in said.out + said.err
    found = read_tensors(str(out), NAMES)
    assert {n: x.shape for n, x in found.items()} == {
        "fc.0.weight": (6, 128),
        "fc.0.bias": (6,),
        "fc.2.weight": (5, 6),
        "fc.2.bias": (5,),
        "fc.4.weight": (4, 5),
        "fc.4.bias": (4,),
        "tile": (2,),
    }
    before = out.read_bytes()
    with pytest.raises(InputError, match="exists already: name another with --out"):
        main(words)
    assert out.read_bytes() == before


@pytest.mark.slow
def test_options_of_the_command(words, tmp_path):
    """The same seed makes the same file; what is asked for differently makes another."""
    found = []
    for i, more in enumerate(
        ([], [], ["--seed=1"], ["--steps=3"], ["--learning-rate=.1"], ["--batch_size=4"])
    ):
        out = tmp_path / f"{i}.safetensors"
        assert main([*words, *more, "--out", str(out)]) == 0
        found.append(out.read_bytes())
    assert found[0] == found[1] and len(set(found)) == len(found) - 1


def test_refused(config, experiment, tmp_path):
    plain = config.with_name("shapes_fcn_r18.py")
    with pytest.raises(InputError, match="shapes_fcn_r18 has no InverseForm among its losses"):
        main([str(plain)])
    with pytest.raises(InputError, match="unknown option --step"):
        main([str(config), "--step=3"])
    with pytest.raises(InputError, match="must be above 0"):
        train_regressor(experiment, tmp_path / "x", steps=0)
    with pytest.raises(InputError, match="two widths such as 1000,32"):
        main([str(config), "--hidden=1000"])
    assert not (tmp_path / "x").exists()


def test_a_run_without_its_regressor_does_not_begin(experiment, tmp_path):
    with pytest.raises(InputError, match=r"there is no regressor .*CONFIG makes one"):
        train(experiment, tmp_path / "run", report=silent)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_with_sdn_in_one_network(experiment, camvid, tmp_path):
    """Training resumes to the same bits; evaluation and prediction need no regressor."""
    neck = Neck(operator="sdc", reduction=8, guidance_channels=16)
    experiment = dataclasses.replace(
        experiment, model=dataclasses.replace(experiment.model, neck=neck)
    )
    train_regressor(experiment, steps=2, hidden=(6, 5), report=silent)
    whole = train(experiment, tmp_path / "whole", report=silent)
    assert "edge" in whole.params
    # As it lay there when two steps were done.
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts" / "checkpoints" / "4")
    again = train(experiment, tmp_path / "parts", resume=True, report=silent)
    jax.tree.map(np.testing.assert_array_equal, again, whole)

    shutil.rmtree(tmp_path / "new")
    scores = evaluate_run(tmp_path / "whole", experiment, report=silent)
    assert 0 <= scores["mIoU"] <= 1
    picture = camvid / "val" / "0.png"
    files = predict_pictures(
        tmp_path / "whole", experiment, [picture], tmp_path / "out", report=silent
    )
    assert np.asarray(Image.open(files[0])).shape == (24, 30)
