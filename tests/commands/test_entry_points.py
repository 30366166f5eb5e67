"""train.py, eval.py and predict.py as a user calls them, on a miniature CamVid."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from sdnjax.commands.check import check_split
from sdnjax.commands.evaluate import evaluate_run
from sdnjax.commands.predict import predict_pictures
from sdnjax.commands.trained import load_network
from sdnjax.commands.workdir import load_experiment
from sdnjax.errors import InputError
from sdnjax.models.model_settings import Model
from sdnjax.training.checkpoints import describe, find_checkpoint, finished_steps
from sdnjax.training.metrics_log import read_metrics
from tests.report.made import Page
from tests.training.tiny import Tiny

SMALL = ("--steps=6", "--batch_size=8", "--data.crop_size=16,16", "--checkpoint_every=3")
SMALL = (*SMALL, "--tensorboard=false", "--optimizer.learning_rate=0.01")


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch):
    """The named networks take half a minute to compile; what is around them does not care."""
    monkeypatch.setattr(Model, "build", lambda self, num_classes, dtype=None: Tiny(num_classes))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder for the run that `trained` copies."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def trained(call, config, camvid, tmp_path, kept):
    """Arguments of a run that has finished, and its work directory. It trained once for all."""
    workdir, first = tmp_path / "run", kept / "run"
    words = (config, "--data.dir", camvid, "--workdir", workdir, *SMALL)
    if not first.is_dir():
        status, out, err = call("train.py", *words)
        assert (status, err) == (0, ""), err
        assert "step 6/6" in out
        shutil.copytree(workdir, first)
        (kept / "data").write_text(str(camvid))
        return words, workdir
    shutil.copytree(first, workdir)
    there = (kept / "data").read_text()
    for file in workdir.glob("*.json"):
        file.write_text(file.read_text().replace(there, str(camvid)))
    return words, workdir


def assert_one_line(result, *parts, status=2):
    code, _, err = result
    assert code == status
    assert err.startswith(("error: ", "stopped: "))
    assert err.count("\n") == 1, err
    for part in parts:
        assert str(part) in err, err


def test_evaluation_repeats_the_validation_of_training_exactly(trained, call):
    _, workdir = trained
    logged = [x["val"] for x in read_metrics(workdir) if "val" in x][-1]
    status, out, err = call("eval.py", workdir)
    assert (status, err) == (0, "")
    written = json.loads((workdir / "evaluation" / "val_6_whole.json").read_text())
    assert written["results"] == logged
    assert "bicyclist" in out
    assert "compiled for 2 size(s)" in out  # 20×24 and 24×30
    assert out.isascii()  # what a log in any encoding can hold
    rows = (workdir / "evaluation" / "val_6_whole_confusion.csv").read_text().splitlines()
    counts = np.array([row.split(",")[1:] for row in rows[1:]], int)
    assert rows[0].split(",")[1:] == [row.split(",")[0] for row in rows[1:]]
    iou = np.diag(counts) / (counts.sum(0) + counts.sum(1) - np.diag(counts))
    assert np.nanmean(iou) == pytest.approx(logged["mIoU"], rel=1e-12)
    picture = np.asarray(Image.open(workdir / "evaluation" / "val_6_whole_confusion.png"))
    assert picture.shape[0] > 400
    assert f"mIoU {100 * logged['mIoU']:.2f}" in out
    # The report evaluates for its pictures: the same scores, and the worst one first.
    status, out, err = call("report.py", workdir, "--pictures", 1)
    assert (status, err) == (0, "")
    page = Page((workdir / "report.html").read_text())
    (overview,) = (row["text"] for row in page.all("tr") if "step 6, all of it" in row["text"])
    assert f"{100 * logged['mIoU']:.2f}" in overview
    assert "F 9px" in [e["text"] for e in page.all("button")]
    pictures = [e["alt"].partition(": ")[2] for e in page.all("img")]
    kinds = ("picture", "truth", "run", "run: ")
    words = [p.rpartition("wrong: ")[2] for p in pictures]
    assert len(words) == 8 and all(map(str.startswith, words, 2 * kinds)), words
    assert len(page.all("svg", **{"class": "matrix"})) == 1
    worst, typical = (float(e["text"].split()[1][:-1]) for e in page.all("h4"))
    assert worst >= typical
    wrong = call("report.py", workdir, "--pictures", 1, "--evaluation.flip", "true")
    assert_one_line(wrong, "--evaluation.flip has no effect")


def test_evaluation_with_other_protocols(trained, call, tmp_path):
    _, workdir = trained
    words = ("--evaluation.scales", ".5,1", "--evaluation.flip", "true")
    assert call("eval.py", workdir, *words)[0] == 0
    found = json.loads((workdir / "evaluation" / "val_6_whole_scales0.5-1_flip.json").read_text())
    assert found["evaluation"]["scales"] == [0.5, 1.0]
    slide = ("--evaluation.mode=slide", "--evaluation.window=16,16", "--evaluation.stride=8,8")
    small = ("--protocol", "pascal_context", "--evaluation.resize_to=32,32")
    small = (*small, "--evaluation.window=16,16", "--evaluation.stride=16,16")
    assert call("eval.py", workdir, *small, "--evaluation.trimap_widths=2")[0] == 0
    name = "val_6_slide16x16-16x16_resize32x32.json"
    found = json.loads((workdir / "evaluation" / name).read_text())
    assert found["evaluation"]["boundary_absent"] == "skip"  # the protocol's
    assert found["evaluation"]["trimap_widths"] == [2]
    assert 0 < found["results"]["trimap_iou"]["2px"] < 1
    wrong = call("eval.py", workdir, "--protocol", "pascal_contxt")
    assert_one_line(wrong, "did you mean pascal_context?")
    out = tmp_path / "somewhere" / "else" / "scores.json"
    words = (*slide, "--split", "train", "--step", 3, "--out", out)
    status, text, _ = call("eval.py", workdir, *words)
    assert status == 0
    assert text.endswith(f"written to {out} and scores_confusion.csv, .png\n")
    assert json.loads(out.read_text())["step"] == 3
    assert (out.parent / "scores_confusion.png").is_file()
    status, text, _ = call("eval.py", workdir, "--protocol", "ade20k", "--help")
    assert status == 0
    assert "[2048,512]" in text


def test_a_network_other_than_the_saved_one_is_refused(trained):
    _, workdir = trained
    own = load_experiment(workdir)
    assert load_network(workdir, dataclasses.replace(own, seed=9)).step == 6
    other = dataclasses.replace(own, model=dataclasses.replace(own.model, name="fcn_r34-d8"))
    message = "6 holds another network: model.name is fcn_r18-d8 there, fcn_r34-d8 here"
    with pytest.raises(InputError, match=message):
        load_network(workdir, other)


def test_work_directory_says_everything_about_its_run(trained):
    _, workdir = trained
    assert json.loads((workdir / "config.json").read_text())["batch_size"] == 8
    (start,) = json.loads((workdir / "runs.json").read_text())
    assert {"time", "command", "versions", "devices", "git_commit"} <= set(start)
    assert start["versions"]["jax"]
    seal = json.loads((workdir / "checkpoints" / "6" / "sdnjax.json").read_text())
    assert seal["description"]["classes"][3] == "road"
    assert seal["description"]["experiment"]["seed"] == 0


def test_prediction_needs_the_work_directory_alone(trained, call, camvid, tmp_path):
    _, workdir = trained
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(1)
    for name, size in (("a.jpg", (33, 21)), ("b.png", (20, 20)), ("a.png", (9, 40))):
        Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(photos / name)
    camvid.rename(tmp_path / "gone")
    status, out, err = call("predict.py", workdir, photos)
    assert (status, err) == (0, "")
    assert "3 of 3 picture(s)" in out
    found = sorted(p.name for p in (workdir / "predictions").glob("[!.]*"))
    stems = ("a_jpg", "a_png", "b")
    assert found == sorted(
        [f"{s}_{k}.png" for s in stems for k in ("labels", "overlay")] + ["legend.png"]
    )
    labels = Image.open(workdir / "predictions" / "a_jpg_labels.png")
    assert (labels.mode, labels.size) == ("P", (21, 33))
    assert np.asarray(labels).max() < 11
    assert labels.getpalette()[9:12] == [128, 64, 128]  # road


def test_run_is_never_overwritten_unasked(trained, call):
    words, workdir = trained
    before = (workdir / "metrics.jsonl").read_text()
    assert_one_line(call("train.py", *words), workdir, "step 6", "--resume", "--overwrite")
    other = (*words, "--seed=1")
    assert_one_line(
        call("train.py", *other, "--resume"), "another configuration", "seed is 0 there, 1 here"
    )
    assert (workdir / "metrics.jsonl").read_text() == before
    status, out, _ = call("train.py", *words, "--resume")
    assert status == 0
    assert "is finished" in out
    assert call("train.py", *other, "--overwrite")[0] == 0
    assert json.loads((workdir / "config.json").read_text())["seed"] == 1
    assert len(json.loads((workdir / "runs.json").read_text())) == 1


def test_folder_with_something_else_is_left_alone(call, config, camvid, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("x")
    for extra in ((), ("--overwrite",), ("--resume",)):
        words = (config, "--data.dir", camvid, "--workdir", tmp_path / "home", *SMALL, *extra)
        assert_one_line(call("train.py", *words), tmp_path / "home", "holds no run")
    assert (tmp_path / "home" / "thesis.txt").read_text() == "x"


def break_label_value(camvid):
    path = camvid / "trainannot" / "2.png"
    Image.fromarray(np.full((20, 24), 37, np.uint8)).save(path)
    return path, "37"


def break_truncated_png(camvid):
    path = camvid / "train" / "3.png"
    path.write_bytes(path.read_bytes()[:200])
    return path, "truncated"


def break_truncated_jpeg(camvid):
    path = camvid / "train" / "1.png"
    Image.open(path).convert("RGB").save(path, format="JPEG")
    path.write_bytes(path.read_bytes()[:-300])
    return path, "truncated"


def break_size(camvid):
    path = camvid / "trainannot" / "4.png"
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(path)
    return path, "9"


BREAKS = [break_label_value, break_truncated_png, break_truncated_jpeg, break_size]


@pytest.mark.parametrize("damage", BREAKS)
def test_bad_file_stops_training_with_its_name(call, config, camvid, tmp_path, damage):
    path, part = damage(camvid)
    words = (config, "--data.dir", camvid, "--workdir", tmp_path / "run", *SMALL)
    assert_one_line(call("train.py", *words), path.name, part)


def test_bad_files_are_skipped_counted_and_named_on_request(call, config, camvid, tmp_path):
    broken = [damage(camvid)[0] for damage in BREAKS]
    words = (config, "--data.dir", camvid, "--workdir", tmp_path / "run", *SMALL)
    status, out, err = call("train.py", *words, "--on-bad-image", "skip")
    assert (status, err) == (0, "")
    assert out.count("left out: ") == len(broken)
    for path in broken:
        assert path.name in out
    assert "4 example(s) left out" in out


def test_bad_picture_in_evaluation_and_prediction(trained, call, camvid, tmp_path):
    _, workdir = trained
    bad = camvid / "val" / "1.png"
    bad.write_bytes(bad.read_bytes()[:100])
    assert_one_line(call("eval.py", workdir), bad.name)
    status, out, _ = call("eval.py", workdir, "--on-bad-image", "skip")
    assert status == 0
    assert "(2 images)" in out
    assert "1 example(s) left out" in out
    assert_one_line(call("predict.py", workdir, camvid / "val"), bad.name)
    status, out, _ = call("predict.py", workdir, camvid / "val", "--on-bad-image", "skip")
    assert status == 0
    assert "2 of 3 picture(s)" in out
    assert_one_line(call("predict.py", workdir, tmp_path / "no.jpg"), "no.jpg", "no such file")
    assert_one_line(
        call("predict.py", workdir, camvid / "val", "--format", "ade20k"), "150 classes", "has 11"
    )


def test_mistakes_in_the_call(call, config, camvid, tmp_path):
    workdir = tmp_path / "run"
    ok = (config, "--data.dir", camvid, "--workdir", workdir)
    missing = call("train.py", config, "--data.dir", tmp_path / "nowhere", "--workdir", workdir)
    assert_one_line(missing, tmp_path / "nowhere", "trainannot")
    assert_one_line(call("train.py", config, "--workdir", workdir), "--data.dir")
    unknown = call("train.py", *ok, "--data.crop_sice", "3,3")
    assert_one_line(unknown, "--data.crop_sice", "did you mean --data.crop_size?")
    assert_one_line(call("train.py", *ok, "--steps", "x"), "--steps must be int")
    nothing = call("train.py", tmp_path / "none.py")
    assert_one_line(nothing, "no configuration file", "none.py")
    assert_one_line(call("train.py", *ok, "--batch_size=6"), "multiple of 8")
    assert_one_line(call("eval.py", tmp_path / "run"), "no work directory")
    assert_one_line(
        call("train.py", *ok, "--model.name", "fcn_r18"), "did you mean fpn_r18 or fcn_r18-d8"
    )
    assert not workdir.exists()


def test_diverging_run_stops_with_the_steps_and_keeps_what_was_saved(
    call, config, camvid, tmp_path
):
    workdir = tmp_path / "run"
    words = (config, "--data.dir", camvid, "--workdir", workdir, *SMALL)
    result = call("train.py", *words, "--optimizer.learning_rate=1e20", "--checkpoint_every=1")
    assert_one_line(result, "not finite at step", "optimizer.learning_rate", status=1)
    saved = [p.name for p in (workdir / "checkpoints").iterdir()]
    assert saved
    bad = int(result[2].split("at step ")[1].split(":")[0].split(",")[0])
    assert max(map(int, saved)) < bad


def test_checkpoint_cut_short(trained, call):
    words, workdir = trained
    folder = workdir / "checkpoints" / "6" / "params"
    file = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    file.write_bytes(file.read_bytes()[:-10])
    for result in (call("eval.py", workdir), call("predict.py", workdir, ".")):
        if "no pictures" not in result[2]:
            assert_one_line(result, "checkpoints/6", file.name, "from step 3")
    assert call("eval.py", workdir, "--step", 3)[0] == 0
    # A scheduler's restart does not wait for somebody who deletes it.
    status, out, err = call("train.py", *words, "--resume")
    assert (status, err) == (0, "")
    assert "WARNING: checkpoint" in out and file.name in out and "from step 3 to 6" in out
    assert call("eval.py", workdir)[0] == 0


@pytest.mark.parametrize("script", ["train.py", "eval.py", "predict.py", "check.py", "convert.py"])
def test_without_any_argument_is_a_mistake(call, script):
    first = "from-torch" if script == "convert.py" else f"python {script} "
    assert_one_line(call(script), "error: name the ", first, "--help")


@pytest.mark.parametrize("script", ["train.py", "eval.py", "predict.py"])
def test_help_is_complete_without_any_argument(call, script):
    status, out, err = call(script, "--help")
    assert (status, err) == (0, "")
    for key in ("--evaluation.mode", "--data.mean", "--on-bad-image"):
        assert key in out
    # What a command does not use, it does not offer.
    assert ("--model.neck.operator" in out) == (script == "train.py")
    assert ("folder that holds the data set" in out) == (script != "predict.py")
    assert ("--evaluation.boundary_absent" in out) == (script != "predict.py")
    if script != "train.py":
        assert "cityscapes_slide769" in out


def test_paths_may_be_text(trained, camvid, tmp_path):
    run = str(trained[1])
    experiment = load_experiment(run)
    assert load_network(run).step == 6
    assert evaluate_run(run, experiment, out=str(tmp_path / "a" / "scores.json"), report=list)
    picture = str(camvid / "val" / "0.png")
    (file,) = predict_pictures(run, experiment, [picture], str(tmp_path / "out"), report=list)
    assert file.is_file()
    check_split(experiment.data, "val", str(tmp_path / "check"), report=list)
    directory = f"{run}/checkpoints"
    assert finished_steps(directory)[-1] == 6
    assert describe(str(find_checkpoint(directory)))["classes"]
    assert read_metrics(run)
