"""SegFix from its configuration to moved labels: train, resume, evaluate, predict, the command."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from sdnjax.commands import directions as module
from sdnjax.commands.directions import Directions, SegFix
from sdnjax.commands.evaluate import evaluate_run
from sdnjax.commands.predict import predict_pictures
from sdnjax.commands.segfix import main, move_label_files
from sdnjax.commands.train import train
from sdnjax.commands.workdir import load_experiment
from sdnjax.config_file import load_config
from sdnjax.data.sets.segfix import CODES
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment, experiment_from_dict
from sdnjax.inference.protocols import Evaluation, protocol_name
from sdnjax.settings import to_dict
from sdnjax.training.metrics_log import read_metrics
from sdnjax.visualize import save_png
from tests.commands.conftest import *  # noqa: F403 (the root's scripts as a user calls them)
from tests.training.devices import histories

STEPS = 4


def silent(line):
    pass


# Without a network: what a run would say comes from the picture itself.


class Said:
    """In the place of `Directions`: red says where the boundary is, green which direction."""

    def __init__(self, run, experiment=None, step=None):
        self.run = run

    def __call__(self, picture):
        return picture[..., 0] > 0, picture[..., 1] % 8


@pytest.fixture
def said(monkeypatch):
    monkeypatch.setattr(module, "Directions", Said)
    monkeypatch.setattr("sdnjax.commands.segfix.Directions", Said)


def picture(size=(9, 12), seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2, (*size, 3), dtype=np.uint8) * np.uint8(3) + rng.integers(
        0, 2, (*size, 3), dtype=np.uint8
    )


def moved(labels, picture, distance=2):
    """Pixel by pixel."""
    steps = [(0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1)]
    out = labels.copy()
    for y, x in np.ndindex(*labels.shape[:2]):
        if picture[y, x, 0] > 0:
            down, right = steps[picture[y, x, 1] % 8]
            v = min(max(y + distance * down, 0), labels.shape[0] - 1)
            u = min(max(x + distance * right, 0), labels.shape[1] - 1)
            out[y, x] = labels[v, u]
    return out


def test_the_value_moves_what_is_most_probable_or_what_came_before(said):
    image = picture()
    probabilities = np.random.default_rng(1).random((9, 12, 5)).astype(np.float32)
    labels = probabilities.argmax(-1)
    assert np.array_equal(SegFix(run="r")(probabilities, image), moved(labels, image))
    assert not np.array_equal(moved(labels, image), labels)
    found = SegFix(run="r", distance=1)(probabilities, image)
    assert np.array_equal(found, moved(labels, image, 1))

    def least(p, _):
        return np.argmin(p, axis=-1)

    found = SegFix(run="r", before=least)(probabilities, image)
    assert np.array_equal(found, moved(probabilities.argmin(-1), image))
    with pytest.raises(InputError, match="SegFix needs run"):
        SegFix()


def test_the_value_is_a_setting_that_is_written_down():
    own = Experiment(evaluation=Evaluation(finish=SegFix(run="runs/x", distance=3)))
    values = json.loads(json.dumps(to_dict(own)))
    assert experiment_from_dict(values) == own
    assert protocol_name(own.evaluation).endswith("SegFix")


def test_a_run_that_is_not_there_is_named_before_training(tmp_path):
    with pytest.raises(InputError, match=r"nothing is no work directory"):
        SegFix(run=str(tmp_path / "nothing")).check()


KINDS = {
    "grey": lambda x: x,
    "deep": lambda x: x.astype(np.uint16) * 1000,
    "colours": lambda x: np.stack([x * 40, 255 - x, x * 7], -1),
}


@pytest.fixture
def labelled(tmp_path):
    """Pictures, and label maps of a program whose results are called NAME.png."""
    rng = np.random.default_rng(5)
    for name in ("pictures", "labels"):
        (tmp_path / name).mkdir()
    for i in range(3):
        Image.fromarray(picture(seed=i)).save(tmp_path / "pictures" / f"{i}.png")
        labels = rng.integers(0, 6, (9, 12)).astype(np.uint8)
        Image.fromarray(labels).save(tmp_path / "labels" / f"{i}.png")
    return tmp_path


def fix(folder, **how):
    where = (folder / "pictures"), folder / "labels", folder / how.pop("out", "out")
    lines = []
    how = {"report": lines.append, **how}
    return move_label_files("run", Experiment(), [where[0]], *where[1:], **how), lines


@pytest.mark.parametrize("kind", [*KINDS, "palette"])
def test_label_files_of_every_kind_stay_what_they_are(said, labelled, kind):
    before = np.asarray(Image.open(labelled / "labels" / "1.png"))
    file = labelled / "labels" / "1.png"
    if kind == "palette":
        save_png(file, before, [(9 * k, 0, 255 - k) for k in range(6)])
    else:
        Image.fromarray(KINDS[kind](before)).save(file)
    written, lines = fix(labelled)
    assert [path.name for path in written] == ["0.png", "1.png", "2.png"]
    there, here = Image.open(file), Image.open(written[1])
    assert here.mode == there.mode
    assert here.getpalette() == there.getpalette()
    expected = moved(np.asarray(there), picture(seed=1))
    assert np.array_equal(np.asarray(here), expected)
    assert np.asarray(here).dtype == np.asarray(there).dtype
    share = (expected != np.asarray(there)).reshape(9, 12, -1).any(-1).mean()
    assert f"{share:.2%} with another label" in lines[1]
    assert "3 of 3 label map(s)" in lines[-1]


def test_what_is_missing_or_does_not_fit_is_named(said, labelled):
    for i in (0, 2):
        (labelled / "labels" / f"{i}.png").rename(labelled / "labels" / f"{i}_pred.png")
    with pytest.raises(InputError, match=r"no NAME\.png or NAME_labels\.png for 2 of 3.*0\.png, 2"):
        fix(labelled)
    (labelled / "labels" / "1.png").rename(labelled / "labels" / "1_pred.png")
    assert len(fix(labelled, ending="_pred.png")[0]) == 3
    shutil.copy(labelled / "labels" / "1_pred.png", labelled / "labels" / "1_labels.png")
    shutil.copy(labelled / "labels" / "1_pred.png", labelled / "labels" / "1.png")
    with pytest.raises(InputError, match=r"1\.png and 1_labels\.png are both there: --ending"):
        fix(labelled)
    with pytest.raises(InputError, match=r"--distance must be at least 1, not 0"):
        fix(labelled, ending="_pred.png", distance=0)
    Image.fromarray(np.zeros((9, 13), np.uint8)).save(labelled / "labels" / "1_pred.png")
    with pytest.raises(InputError, match=r"1_pred\.png is 13×9, its picture .*1\.png 12×9"):
        fix(labelled, ending="_pred.png", out="other")
    Image.fromarray(np.zeros((9, 12), np.uint8)).save(labelled / "labels" / "1_pred.jpg")
    with pytest.raises(InputError, match="JPEG changes the values"):
        for i in (0, 2):
            shutil.copy(labelled / "labels" / "1_pred.jpg", labelled / "labels" / f"{i}_pred.jpg")
        fix(labelled, ending="_pred.jpg", out="jpg")


def test_nothing_of_others_is_overwritten(said, labelled):
    written, _ = fix(labelled)
    fix(labelled)  # its own
    with pytest.raises(InputError, match=r"would be overwritten, which this command has not"):
        fix(labelled, out="labels")
    written[0].with_name(".predictions.json").unlink()
    with pytest.raises(InputError, match="would be overwritten"):
        fix(labelled)


# With a network, from the small configuration.


def small(configs, **changes):
    own = load_config(configs / "shapes_segfix_hr18s.py", Experiment)
    data = dataclasses.replace(own.data, crop_size=(33, 41), workers=2)
    changes = {"steps": STEPS, "checkpoint_every": 2, "tensorboard": False, **changes}
    return dataclasses.replace(own, data=data, log_every=1, **changes)


@pytest.fixture(scope="module")
def configs(request):
    return request.config.rootpath / "configs"


@pytest.fixture(scope="module")
def trained(configs, tmp_path_factory):
    """A work directory and the state at its end."""
    run = tmp_path_factory.mktemp("segfix") / "run"
    return run, train(small(configs), run, report=silent)


@pytest.mark.slow
def test_stopped_and_resumed_is_the_unbroken_run(trained, configs, tmp_path):
    shutil.copytree(trained[0], tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts" / "checkpoints" / "4")
    resumed = train(small(configs), tmp_path / "parts", resume=True, report=silent)
    jax.tree.map(np.testing.assert_array_equal, resumed.variables, trained[1].variables)


@pytest.mark.slow
def test_what_is_recorded_and_how_the_mirror_is_used(trained):
    run, _ = trained
    losses = [x["train"] for x in read_metrics(run) if "train" in x]
    assert {"loss_boundary", "loss_direction"} <= losses[0].keys()
    own = load_experiment(run)
    logged = [x["val"] for x in read_metrics(run) if "val" in x][-1]
    assert evaluate_run(run, own, report=silent) == logged
    image = np.random.default_rng(0).integers(0, 256, (40, 52, 3), dtype=np.uint8)
    own = dataclasses.replace(own, evaluation=dataclasses.replace(own.evaluation, flip=True))
    left, turned = (Directions(run, own)(np.ascontiguousarray(x)) for x in (image, image[:, ::-1]))
    # Both see the picture and its mirror image, so they say the same of it.
    agree = CODES.mirrored
    assert np.array_equal(left[0], turned[0][:, ::-1])
    mean = (np.array(agree)[:8][turned[1][:, ::-1]] == left[1]).mean()
    assert mean > 0.999


@pytest.mark.slow
def test_labels_of_a_run_are_moved(trained, configs, tmp_path, call, monkeypatch):
    run, _ = trained
    plain = load_config(configs / "shapes_fcn_r18.py", Experiment)
    data = dataclasses.replace(plain.data, crop_size=(33, 41), workers=2)
    plain = dataclasses.replace(plain, data=data, steps=2, tensorboard=False)
    train(plain, tmp_path / "fcn", report=silent)
    status, out, err = call("eval.py", tmp_path / "fcn", "--segfix", run)
    assert (status, err) == (0, "") and "SegFix" in out
    (file,) = (tmp_path / "fcn" / "evaluation").glob("*SegFix.json")
    record = json.loads(file.read_text())["evaluation"]["finish"]
    assert record["type"].endswith(".SegFix") and record["run"] == str(run)

    (tmp_path / "pictures").mkdir()
    image = np.random.default_rng(0).integers(0, 256, (40, 52, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "pictures" / "a.png")
    words = ("predict.py", tmp_path / "fcn", tmp_path / "pictures", "--out")
    assert call(*words, tmp_path / "plain")[0] == 0
    assert call(*words, tmp_path / "fixed", "--segfix", run)[0] == 0
    status, _, err = call(*words, tmp_path / "no", "--segfix", run, "--format", "probabilities")
    assert status == 2 and "--segfix moves labels" in err
    given = [
        run,
        tmp_path / "pictures",
        "--labels",
        tmp_path / "plain",
        "--out",
        tmp_path / "moved",
    ]
    monkeypatch.setattr("sys.argv", ["segfix", *map(str, given)])
    main()
    plain, fixed, again = (
        Image.open(tmp_path / folder / "a_labels.png") for folder in ("plain", "fixed", "moved")
    )
    assert np.array_equal(np.asarray(fixed), np.asarray(again))
    assert plain.getpalette() == again.getpalette()
    with pytest.raises(InputError, match=r"has learnt classes \(ground, disc, bar, …\), not dir"):
        SegFix(run=str(tmp_path / "fcn")).check()
    status, out, err = call(
        "figures.py", "segfix", tmp_path / "fcn", run, "--examples", "2", "--out", tmp_path / "figs"
    )
    assert (status, err) == (0, "") and out.count("of the pixels wrong, moved") == 2
    assert np.asarray(Image.open(tmp_path / "figs" / "segfix.png")).shape[1] > 6 * 96
    files = predict_pictures(
        run, load_experiment(run), [tmp_path / "pictures"], tmp_path / "codes", report=silent
    )
    assert np.asarray(Image.open(files[0])).max() < 16


@pytest.mark.slow
def test_one_and_eight_devices_agree(configs, x64):
    recipe = small(configs, batch_size=8).build(16, dtype=jnp.float64)
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 16, (8, 33, 41)).astype(np.int32)
    codes[:3] = 255  # so that devices have unlike shares
    batch = {"image": rng.standard_normal((8, 33, 41, 3)), "label": codes}
    one, eight = (seen[-1] for seen in histories(recipe, [batch] * 2))
    assert one == pytest.approx(eight, rel=1e-9)
    assert {"loss_boundary", "loss_direction", "gradient_norm"} <= one.keys()
