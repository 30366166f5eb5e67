"""After the first run: longer, from its folder alone, the best checkpoint, other pictures."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from sdnjax.commands import train as module
from sdnjax.commands.evaluate import evaluate_run
from sdnjax.commands.train import has_ended, train
from sdnjax.commands.trained import load_network
from sdnjax.errors import InputError
from sdnjax.training.best import Best, history, score, waited
from sdnjax.training.checkpoints import finished_steps
from tests.commands.test_train import experiment


def silent(line):
    pass


@pytest.fixture
def scored(monkeypatch):
    """Validations that find the scores that the test sets, in turn."""
    values = []

    def score_split(*_, **__):
        value = values.pop(0)
        return None, {"mIoU": value, "pixel_accuracy": value, "boundary_f": {"1px": value}}

    monkeypatch.setattr(module, "score_split", score_split)
    return values


def test_a_run_goes_on_to_more_steps_and_says_what_that_does_to_the_rate(camvid, tmp_path):
    own = experiment(camvid, steps=3)
    train(own, tmp_path / "run", report=silent)
    longer = dataclasses.replace(own, steps=6)
    with pytest.raises(InputError, match=r"another configuration \(steps is 3 there, 6 here\)"):
        train(longer, tmp_path / "run", report=silent)
    lines = []
    state = train(longer, tmp_path / "run", resume=True, report=lines.append)
    assert int(state.step) == 6
    (said,) = [line for line in lines if line.startswith("steps was 3, now 6")]
    assert said.endswith("the learning rate at step 3 is 0.00541, it was 0.0001")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["steps"] == 6
    with pytest.raises(InputError, match="saved up to step 6, which is more than steps 3"):
        train(own, tmp_path / "run", resume=True, report=silent)
    with pytest.raises(InputError, match="--resume goes on, with --steps N"):
        train(longer, tmp_path / "run", report=silent)
    other = dataclasses.replace(longer, seed=1)
    with pytest.raises(InputError, match="another configuration"):
        train(other, tmp_path / "run", resume=True, report=silent)


def test_a_work_directory_alone_goes_on(camvid, tmp_path, call, monkeypatch):
    own = experiment(camvid, steps=2, model=experiment(camvid).model)
    train(own, tmp_path / "run", report=silent)
    asked = []

    def record(experiment, workdir, **how):
        asked.append((experiment, workdir, how))
        return train(own, tmp_path / "again", report=silent)

    # The network is the test's own, which only its code could make again.
    monkeypatch.setattr("sdnjax.commands.command_line.load_experiment", lambda *_, **__: own)
    monkeypatch.setattr(module, "train", record)
    run = tmp_path / "run"
    assert call("train.py", run, "--resume", "--steps", 4)[0] == 75
    (found, workdir, how) = asked[0]
    assert (found.steps, found.data, workdir, how["resume"]) == (4, own.data, run, True)
    status, _, err = call("train.py", run)
    assert (status, "--resume goes on there" in err) == (2, True)
    status, _, err = call("train.py", run, "--resume", "--workdir", tmp_path / "b")
    assert (status, "goes on where it is" in err) == (2, True)


def test_the_best_checkpoint_is_kept_and_used(camvid, tmp_path, scored):
    scored += [0.2, 0.5, None, 0.4, 0.3]
    own = experiment(camvid, steps=5, evaluate_every=1, keep_best="mIoU", keep_checkpoints=1)
    own = dataclasses.replace(own, checkpoint_every=1)
    lines = []
    train(own, tmp_path / "run", report=lines.append)
    assert finished_steps(tmp_path / "run" / "checkpoints") == [5]
    assert finished_steps(tmp_path / "run" / "best") == [2]
    assert load_network(tmp_path / "run", own, "best").step == 2
    assert load_network(tmp_path / "run", own).step == 5
    assert [line for line in lines if line.startswith("best")] == [
        "best mIoU so far: 0.2000, kept",
        "best mIoU so far: 0.5000, kept",
    ]
    assert any("mIoU not defined" in line for line in lines)
    assert any("no pixel of val has a label" in line for line in lines)


def test_the_lowest_can_be_the_best_and_none_never_is(camvid, tmp_path, scored):
    scored += [None, 0.4, 0.3, 0.35]
    own = experiment(camvid, steps=4, evaluate_every=1, keep_best="boundary_f.1px")
    train(dataclasses.replace(own, best_is="lowest"), tmp_path / "run", report=silent)
    assert finished_steps(tmp_path / "run" / "best") == [3]


@pytest.mark.slow
def test_training_ends_when_nothing_becomes_better_also_over_an_interruption(
    camvid, tmp_path, scored
):
    own = experiment(camvid, steps=9, evaluate_every=1, keep_best="mIoU", stop_after=3)
    scored += [0.2, 0.5, 0.4]
    stopped = dataclasses.replace(own, steps=3)
    train(stopped, tmp_path / "run", report=silent)
    scored += [0.5, 0.3, 0.9]  # equal is not better
    lines = []
    state = train(own, tmp_path / "run", resume=True, report=lines.append)
    assert int(state.step) == 5
    assert "mIoU has not become better for 3 validation(s)" in lines[-1]
    assert has_ended(own, tmp_path / "run", state)
    lines.clear()
    train(own, tmp_path / "run", resume=True, report=lines.append)
    assert "is finished" in lines[-1]
    assert finished_steps(tmp_path / "run" / "best") == [2]


def test_what_will_be_repeated_is_not_counted_twice(tmp_path):
    (tmp_path / "scores.json").write_text(
        json.dumps(
            {
                **{"name": "mIoU", "highest": True},
                "scores": [{"step": s, "score": v} for s, v in ((2, 0.3), (4, 0.2), (6, 0.1))],
            }
        )
    )
    best = Best(tmp_path, "mIoU", highest=True, patience=2, start_step=4, description={})
    assert not best.enough
    best.close()
    assert waited(history(tmp_path), 1.0) == 2
    assert waited([], 1.0) == 0


def test_names_of_scores():
    results = {"mIoU": 0.3, "boundary_f": {"1px": None}, "images": 4, "per_class": [{}]}
    assert score(results, "mIoU") == 0.3
    assert score(results, "boundary_f.1px") is None
    assert score({"mIoU": float("nan")}, "mIoU") is None
    for name in ("miou", "boundary_f", "images", "boundary_f.2px", "per_class"):
        with pytest.raises(InputError, match=r"keep_best: there is no score"):
            score(results, name)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"keep_best": "mIOU"}, "did you mean mIoU"),
        ({"stop_after": 2}, "needs keep_best and evaluate_every"),
        ({"stop_after": 2, "keep_best": "mIoU"}, "needs keep_best and evaluate_every"),
    ],
)
def test_settings_that_cannot_work_together(camvid, tmp_path, changes, match):
    with pytest.raises(InputError, match=match):
        train(experiment(camvid, **changes), tmp_path / "run", report=silent)
    assert not (tmp_path / "run").exists()


def test_training_without_a_validation_split(camvid, tmp_path):
    shutil.rmtree(camvid / "val")
    own = experiment(camvid)
    own = dataclasses.replace(own, data=dataclasses.replace(own.data, val_split=None))
    lines = []
    state = train(own, tmp_path / "run", report=lines.append)
    assert int(state.step) == 2
    assert "6 images to train, none to validate" in lines[0]
    assert not any("validation" in line for line in lines)
    for changes in ({"evaluate_every": 1}, {"keep_best": "mIoU"}):
        with pytest.raises(InputError, match=r"data\.val_split is none"):
            dataclasses.replace(own, **changes)
    with pytest.raises(InputError, match="name the split with --split"):
        evaluate_run(tmp_path / "run", own, report=silent)


@pytest.mark.slow
def test_scores_of_other_pictures_do_not_take_the_place_of_the_first(camvid, tmp_path):
    own = experiment(camvid)
    run = tmp_path / "run"
    train(own, run, report=silent)
    shutil.copytree(camvid, tmp_path / "other")
    other = dataclasses.replace(own, data=dataclasses.replace(own.data, dir=f"{tmp_path}/other"))
    lines = []
    evaluate_run(run, own, report=lines.append)
    assert f"step 2 of {run} on camvid of {camvid}, val: 3 image(s)" in lines
    evaluate_run(run, other, report=silent)
    evaluate_run(run, own, report=silent)  # the same once more takes its own place
    names = sorted(path.name for path in (run / "evaluation").glob("*.json"))
    assert names == ["val_2_whole.json", "val_2_whole_2.json"]
    data = [json.loads((run / "evaluation" / name).read_text())["data"] for name in names]
    assert [d["dir"] for d in data] == [str(camvid), f"{tmp_path}/other"]


def test_state_of_the_best_checkpoint_is_that_of_its_step(camvid, tmp_path, scored):
    scored += [0.5, 0.2]
    own = experiment(camvid, steps=2, evaluate_every=1, keep_best="mIoU")
    train(own, tmp_path / "run", report=silent)
    one = dataclasses.replace(own, steps=2, keep_best=None, evaluate_every=0, checkpoint_every=1)
    scored += [0.0]
    train(one, tmp_path / "plain", report=silent)
    best = load_network(tmp_path / "run", own, "best")
    first = load_network(tmp_path / "plain", one, 1)
    jax.tree.map(np.testing.assert_array_equal, best.variables, first.variables)


@pytest.mark.slow
def test_another_score_cannot_go_on_from_the_history_of_the_first(camvid, tmp_path, scored):
    scored += [0.5, 0.6, 0.1]
    own = experiment(camvid, steps=2, evaluate_every=1, keep_best="mIoU")
    train(own, tmp_path / "run", report=silent)
    longer = dataclasses.replace(own, steps=3)
    for changes in ({"keep_best": "boundary_f.1px"}, {"best_is": "lowest"}):
        with pytest.raises(InputError, match=r"keep_best was mIoU, best_is highest .* delete"):
            other = dataclasses.replace(longer, **changes)
            train(other, tmp_path / "run", resume=True, report=silent)
    train(longer, tmp_path / "run", resume=True, report=silent)
    assert finished_steps(tmp_path / "run" / "best") == [2]


@pytest.mark.slow
def test_a_run_made_in_python_without_resolving_its_losses_goes_on(camvid, tmp_path):
    own = experiment(camvid, steps=2)
    train(own, tmp_path / "run", report=silent)
    path = tmp_path / "run" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "losses": None}))
    state = train(dataclasses.replace(own, steps=3), tmp_path / "run", resume=True, report=silent)
    assert int(state.step) == 3
