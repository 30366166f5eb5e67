"""A miniature data set, and the scripts of the root as a user calls them."""

import importlib.util
import sys

import numpy as np
import pytest
from PIL import Image

from sdnjax.commands.command_line import run


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """Variables of a command's process: compiled functions are kept, as for users, here for the
    commands of the tests alone."""
    cache = str(tmp_path_factory.mktemp("cache"))
    return {"JAX_ENABLE_COMPILATION_CACHE": "true", "XDG_CACHE_HOME": cache}


@pytest.fixture
def camvid(tmp_path):
    """SegNet's layout: six pairs to train and three to validate, of two sizes."""
    return make_camvid(tmp_path)


def make_camvid(tmp_path):
    """`camvid` in a folder."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for folder in (split, split + "annot"):
            (tmp_path / "camvid" / folder).mkdir(parents=True)
        for i in range(count):
            size = (20, 24) if i % 3 else (24, 30)
            label = rng.integers(0, 12, size).astype(np.uint8)
            image = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / "camvid" / split / f"{i}.png")
            Image.fromarray(label).save(tmp_path / "camvid" / f"{split}annot" / f"{i}.png")
    return tmp_path / "camvid"


@pytest.fixture
def call(request, monkeypatch, capsys):
    """Runs a script of the root with arguments: (status, standard output, error output)."""

    def call(script, *words):
        path = request.config.rootpath / script
        spec = importlib.util.spec_from_file_location(path.stem + "_script", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, "argv", [script, *map(str, words)])
        try:
            status = run(module.main)
        except SystemExit as stop:  # --help
            status = stop.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def config(request):
    return request.config.rootpath / "configs" / "camvid_fcn_r18_sdn.py"
