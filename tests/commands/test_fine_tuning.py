"""shapes → CamVid → a folder of one's own, as a user calls it, with the SDN neck kept."""

import numpy as np
import pytest
from PIL import Image

from sdnjax.commands.initial import flat
from sdnjax.commands.trained import load_network

NECK = ("--model.neck.operator=sdc", "--model.neck.reduction=8", "--model.neck.guidance_channels=8")
SHORT = ("--steps=2", "--batch_size=8", "--data.crop_size=16,16", "--tensorboard=false")
NEXT = ("--optimizer.warmup_steps=1", "--optimizer.learning_rate=0", "--data.workers=1")


@pytest.mark.slow
def test_twice_in_a_row(request, call, camvid, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    configs = request.config.rootpath / "configs"
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for i in range(3):
            for half, values in (("images", (0, 256)), ("labels", (0, 3))):
                file = tmp_path / "own" / half / split / f"{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                size = (24, 30, 3) if half == "images" else (24, 30)
                Image.fromarray(rng.integers(*values, size, dtype=np.uint8)).save(file)
    classes = "class,value\nsky,0\nlawn,1\nroad,2\n"
    (tmp_path / "own" / "classes.csv").write_text(classes)

    runs = [tmp_path / name for name in ("shapes", "camvid_run", "own_run")]
    zero = ("--optimizer.end_learning_rate=0", "--optimizer.weight_decay=0", *NEXT)
    calls = [
        ("shapes_fcn_r18_sdn.py", ()),
        ("camvid_fcn_r18_sdn.py", ("--data.dir", camvid, "--init_from", runs[0], *zero)),
        ("own_folder.py", ("--data.dir", tmp_path / "own", "--init_from", runs[1], *zero)),
    ]
    said = []
    for run, (config, words) in zip(runs, calls, strict=True):
        given = (configs / config, "--workdir", run, *SHORT, *NECK, *words)
        status, out, err = call("train.py", *given)
        assert (status, err) == (0, ""), err
        said.append(out)
    assert "kept by name" in said[1] and "2 of 3 classes kept by name" in said[2]
    first, second, third = (flat(load_network(run).variables) for run in runs)
    necks = [path for path in first if path.startswith("params/neck/")]
    assert necks
    for path in necks:
        np.testing.assert_array_equal(second[path], first[path])
        np.testing.assert_array_equal(third[path], first[path])
    # CamVid's sky and road stand at other places than the folder's.
    names = load_network(runs[1]).classes
    for k, name in ((0, "sky"), (2, "road")):
        np.testing.assert_array_equal(
            third["params/classifier/seg/kernel"][..., k],
            second["params/classifier/seg/kernel"][..., names.index(name)],
        )
