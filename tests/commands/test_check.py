"""check.py as a user calls it, on a miniature CamVid."""

import json

import numpy as np
import pytest
from PIL import Image

from sdnjax.data.sets import label_space


def labels_of(camvid, names):
    return np.concatenate(
        [np.asarray(Image.open(camvid / "trainannot" / f"{n}.png")).ravel() for n in names]
    )


def test_a_sound_split(call, config, camvid, tmp_path):
    words = (config, "--data.dir", camvid, "--data.crop_size", "16,24", "--out", tmp_path / "out")
    status, out, err = call("check.py", *words)
    assert status == 0, err
    assert "camvid, train: 6 examples, 367 were published" in out
    assert "all of them can be used" in out
    found = json.loads((tmp_path / "out" / "train.json").read_text())
    assert found["sizes"] == {"24×20": 4, "30×24": 2}
    raw = labels_of(camvid, range(6))
    assert found["void"] == (raw == 11).mean()
    for k, entry in enumerate(found["classes"]):
        assert entry["class"] == label_space("camvid").classes[k]
        assert entry["share"] == (raw == k).sum() / (raw != 11).sum()
    # Six augmented samples of 16×24, each as image, label and both, enlarged.
    sheet = np.asarray(Image.open(tmp_path / "out" / "train_samples.png"))
    assert sheet.shape[0] > 6 * 16
    assert sheet.shape[1] > 3 * 24
    assert (tmp_path / "out" / "legend.png").is_file()


def test_everything_that_is_wrong_is_named(call, config, camvid, tmp_path):
    cut = camvid / "train" / "1.png"
    cut.write_bytes(cut.read_bytes()[:200])
    wrong = np.full((20, 24), 77, np.uint8)
    Image.fromarray(wrong).save(camvid / "trainannot" / "2.png")
    Image.fromarray(wrong[:9]).save(camvid / "trainannot" / "4.png")
    words = (config, "--data.dir", camvid, "--data.crop_size", "16,24", "--out", tmp_path / "out")
    status, out, _ = call("check.py", *words)
    assert status == 1
    for text in ("train/1.png: the image is truncated", "label value 77", "24×20 but"):
        assert text in out
    assert "3 cannot be used" in out
    found = json.loads((tmp_path / "out" / "train.json").read_text())
    assert sorted(found["unusable"]) == ["1", "2", "4"]
    raw = labels_of(camvid, (0, 3, 5))  # the others count nowhere
    assert found["void"] == (raw == 11).mean()


def test_nothing_can_be_used(call, config, camvid, tmp_path):
    for file in (camvid / "val").iterdir():
        file.write_bytes(b"")
    words = (config, "--data.dir", camvid, "--split", "val", "--out", tmp_path / "out")
    status, out, _ = call("check.py", *words)
    assert status == 1
    assert out.count("the file is empty") == 3
    assert not (tmp_path / "out" / "val_samples.png").exists()


def test_a_wrong_split_is_one_line(call, config, camvid):
    status, _, err = call("check.py", config, "--data.dir", camvid, "--split", "vall")
    assert status == 2
    assert err.endswith("has no split 'vall'; did you mean val?\n")


@pytest.fixture
def own(tmp_path):
    """Ten undivided pictures with masks of 0 and 255."""
    rng = np.random.default_rng(0)
    for i in range(10):
        for folder, array in (
            ("images", rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)),
            ("labels", rng.choice(np.array([0, 255], np.uint8), (20, 24))),
        ):
            (tmp_path / "own" / folder).mkdir(parents=True, exist_ok=True)
            name = f"{i}_mask.png" if folder == "labels" else f"{i}.png"
            Image.fromarray(array).save(tmp_path / "own" / folder / name)
    return tmp_path / "own"


def checked(call, request, own, classes, *words):
    (own / "classes.csv").write_text(classes)
    config = request.config.rootpath / "configs" / "own_folder.py"
    fixed = ("--data.dir", own, "--data.crop_size", "16,16", "--out", own.parent / "out")
    return call("check.py", config, *fixed, *words)


def test_a_part_of_ones_own_pictures(call, request, own):
    classes = "class,value\nno,0\nyes,255\n"
    counts = {}
    for words in (("--data.val_share", "0.3"), ("--data.fold", "1,3")):
        for split in ("train", "val"):
            status, out, _ = checked(call, request, own, classes, *words, "--split", split)
            assert status == 0
            assert "_mask.png for " in out
            found = json.loads((own.parent / "out" / f"{split}.json").read_text())
            counts[words, split] = found["examples"]
            assert f"{found['examples']} of the 10 examples of 'all' ({words[0][2:]} " in out
        assert counts[words, "train"] + counts[words, "val"] == 10
    status, _, err = checked(call, request, own, classes)
    assert status == 2
    assert "--data.val_share 0.2" in err


def test_void_that_may_be_an_object(call, request, own):
    words = ("--data.val_share", "0.3")
    status, out, _ = checked(call, request, own, "class,value\nno,0\nyes,1\nvoid,255\n", *words)
    assert status == 0
    assert "warning: yes in no image, and void in" in out
    all_void = "class,value\nno,1\nyes,2\nvoid,0\nvoid,255\n"
    status, out, _ = checked(call, request, own, all_void, *words)
    assert status == 1
    assert "error: every pixel is void" in out
