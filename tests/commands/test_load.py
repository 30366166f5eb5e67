"""A trained network in three lines: pictures in, results out; folders of its own; the hub."""

import dataclasses
import json
import shutil
import subprocess
import sys
import types
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import sdnjax
from sdnjax.commands import hub
from sdnjax.commands.directions import SegFix
from sdnjax.commands.initial import _network_there
from sdnjax.commands.predict import predict_pictures
from sdnjax.commands.workdir import check_workdir, load_experiment
from sdnjax.errors import InputError
from sdnjax.inference.protocols import Evaluation
from tests.commands.loaded import CLASSES, PALETTE, named, picture, seen, tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What `save_pretrained` wrote, for all."""
    path = tmp_path_factory.mktemp("networks")
    tiny(path).save_pretrained(path / "untrained")
    return path / "untrained"


@pytest.fixture(scope="module")
def network(folder):
    return sdnjax.load(folder, trust_code=True)


@pytest.fixture
def copy(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_a_path_an_image_and_an_array_are_one_picture(network, tmp_path):
    values = picture()
    Image.fromarray(values).save(tmp_path / "street.png")
    result = network(tmp_path / "street.png")
    assert (result.labels.shape, result.labels.dtype) == ((40, 56), np.uint8)
    assert (result.classes, result.palette) == (CLASSES, PALETTE)
    assert len(np.unique(result.labels)) > 1
    with Image.open(tmp_path / "street.png") as opened:
        others = [str(tmp_path / "street.png"), values, Image.fromarray(values), opened]
        for other in network(others):
            np.testing.assert_array_equal(other.labels, result.labels)
    # Each picture of a list has its own size.
    sizes = [r.labels.shape for r in network([values, picture((32, 48))])]
    assert sizes == [(40, 56), (32, 48)]


def test_a_picture_is_read_as_predict_py_reads_it(network, folder, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    Image.fromarray(picture()).save(tmp_path / "turned.jpg", exif=exif)
    (labels,) = predict_pictures(
        folder,
        load_experiment(folder, trust_code=True),
        [tmp_path / "turned.jpg"],
        tmp_path / "out",
        report=print,
    )
    expected = np.asarray(Image.open(labels))
    assert expected.shape == (56, 40)
    for given in (tmp_path / "turned.jpg", Image.open(tmp_path / "turned.jpg")):
        np.testing.assert_array_equal(network(given).labels, expected)
    files = network(tmp_path / "turned.jpg").save(tmp_path / "saved")
    assert [f.name for f in files] == ["turned_labels.png", "turned_overlay.png", "legend.png"]
    for file in files:
        assert file.read_bytes() == (tmp_path / "out" / file.name).read_bytes()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((8, 8, 3), np.float32), "value_range LOW,HIGH"),
        (np.zeros((8, 8, 5), np.uint8), r"5 band\(s\), data.channels is 3"),
        (np.zeros((2, 8, 8, 3), np.uint8), "is no picture"),
        (np.zeros((0, 8, 3), np.uint8), "no pixels"),
        (3, "a picture is a path, a Pillow image or an array"),
        ("nowhere.png", "nowhere.png: no such file"),
        (Image.fromarray(np.zeros((8, 8), np.uint16)), "holds uint16 values"),
    ],
)
def test_what_is_no_picture_is_one_line(network, given, message):
    with pytest.raises(InputError, match=message) as error:
        network(given)
    assert "\n" not in str(error.value)


def test_deep_bands_that_pillow_would_cut_off_are_refused(network, tmp_path):
    def chunk(name, data):
        check = zlib.crc32(name + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + name + data + check

    header = b"\x00\x00\x00\x02\x00\x00\x00\x02" + bytes([16, 2, 0, 0, 0])  # 2×2, 16 bits, RGB
    rows = zlib.compress(2 * (b"\x00" + bytes(12)))
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    for given in (tmp_path / "deep.png", Image.open(tmp_path / "deep.png")):
        with pytest.raises(InputError, match="more than 8 bits in each of 3 bands"):
            network(given)


def test_probabilities_are_kept_or_made_again(network):
    plain, kept = network(picture()), network(picture(), probabilities=True)
    p = kept.probabilities()
    assert (p.shape, p.dtype) == ((40, 56, 3), np.float32)
    assert kept.probabilities() is p
    np.testing.assert_array_equal(plain.probabilities(), p)
    np.testing.assert_array_equal(p.argmax(-1), plain.labels)
    np.testing.assert_array_equal(kept.labels, plain.labels)


def test_pictures_of_a_result(network, tmp_path):
    result = network(picture())
    assert result.overlay().size == (56, 40)
    np.testing.assert_array_equal(np.asarray(result.overlay(alpha=0)), result.picture)
    colours = np.asarray(PALETTE, np.uint8)[result.labels]
    np.testing.assert_array_equal(np.asarray(result.overlay(alpha=1)), colours)
    assert result.legend().mode == "RGB"
    assert repr(result).startswith("Result(56×40: ")
    assert result._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="alpha must lie between 0 and 1"):
        result.overlay(2)
    with pytest.raises(InputError, match=r"save\(folder, name\)"):
        result.save(tmp_path)
    with pytest.raises(InputError, match="without folders"):
        result.save(tmp_path, "../x")
    result.save(tmp_path / "out", "x")
    result.save(tmp_path / "out", "x")  # its own files
    (tmp_path / "y_overlay.png").touch()
    with pytest.raises(InputError, match=r"y_overlay\.png would be overwritten"):
        result.save(tmp_path, "y")


def test_the_protocol_is_the_runs_own_or_another(network, folder):
    own = network.experiment.evaluation
    flipped = sdnjax.load(folder, evaluation={"flip": True}, trust_code=True)
    assert flipped.experiment.evaluation == dataclasses.replace(own, flip=True)
    other = sdnjax.load(
        folder, evaluation=Evaluation(scales=(1.25,), size_multiple=64), trust_code=True
    )
    before = network(picture()).probabilities()
    assert np.abs(flipped(picture()).probabilities() - before).max() > 1e-4
    assert np.abs(other(picture()).probabilities() - before).max() > 1e-4
    with pytest.raises(InputError, match="unknown setting of evaluation 'flips'; did you mean"):
        sdnjax.load(folder, evaluation={"flips": True}, trust_code=True)
    with pytest.raises(InputError, match="an Evaluation or settings of one"):
        sdnjax.load(folder, evaluation="ade20k", trust_code=True)
    with pytest.raises(InputError, match="step 7 alone"):
        sdnjax.load(folder, step=3, trust_code=True)
    with pytest.raises(InputError, match="revision has no effect"):
        sdnjax.load(folder, revision="main")


def test_a_folder_holds_the_network_and_nothing_of_this_machine(tmp_path):
    here = named("segformer_mit-b0")
    here.save_pretrained(tmp_path / "new" / "net")
    folder = tmp_path / "new" / "net"
    assert {p.name for p in folder.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    there = sdnjax.load(folder)
    assert repr(there) == "Trained(segformer_mit-b0, operator none; 3 classes; step 7)"
    assert jax.tree.structure(dict(there.variables)) == jax.tree.structure(dict(here.variables))
    pairs = zip(jax.tree.leaves(there.variables), jax.tree.leaves(here.variables), strict=True)
    for a, b in pairs:
        np.testing.assert_array_equal(a, b)
    assert "secret" not in (folder / "config.json").read_text()
    card = (folder / "README.md").read_text()
    assert 'sdnjax.load("net")' in card and "segformer_mit-b0" in card and "2 sky" in card
    _, leaves, step = _network_there(folder)  # for init_from
    assert step == 7 and any(name.startswith("params/backbone/") for name in leaves)
    mended = seen(here, finish=SegFix(run="runs/segfix"))
    with pytest.raises(InputError, match="SegFix with the run runs/segfix, which the folder would"):
        mended.save_pretrained(tmp_path / "other")


def test_code_comes_along_and_runs_only_where_that_is_asked_for(folder, copy, tmp_path):
    assert {p.name for p in (folder / "code").iterdir()} == {"tiny.py"}
    assert "trust_code=True" in (folder / "README.md").read_text()
    with pytest.raises(InputError, match=r"made with code of its own \(tiny\.network\)"):
        sdnjax.load(folder)
    (tmp_path / "again").mkdir()
    again = tmp_path / "again" / "net"
    sdnjax.load(folder, trust_code=True).save_pretrained(again)
    assert (again / "code" / "tiny.py").read_bytes() == (folder / "code" / "tiny.py").read_bytes()
    (copy / "code" / "tiny.py").write_text("raise SystemExit")
    with pytest.raises(InputError, match="is not what the run was made with"):
        sdnjax.load(copy, trust_code=True)
    assert sdnjax.load(copy, config=folder / "code" / "tiny.py").classes == CLASSES
    bare = sdnjax.load(folder, trust_code=True)
    bare = dataclasses.replace(bare, experiment=dataclasses.replace(bare.experiment, code=None))
    with pytest.raises(InputError, match="no folder can hold the code"):
        bare.save_pretrained(tmp_path / "bare")


def test_nothing_is_overwritten(network, copy):
    before = {p.name: p.stat().st_mtime_ns for p in copy.iterdir()}
    with pytest.raises(InputError, match="not an empty folder"):
        network.save_pretrained(copy)
    assert before == {p.name: p.stat().st_mtime_ns for p in copy.iterdir()}
    assert [p.name for p in copy.parent.iterdir()] == ["copy"]


def test_a_folder_is_no_work_directory(network, copy):
    for how in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(InputError, match="holds a network alone, no run: --init_from"):
            check_workdir(copy, network.experiment, **how)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("byte", "is not the file that config.json was written with"),
        ("no config", "no work directory: it has no config.json"),
        ("foreign", "unknown key architectures"),
        ("classes", "does not fit the network"),
        ("no digest", "says nothing of a network"),
    ],
)
def test_damage_is_said(copy, damage, message):
    weights, config = copy / "model.safetensors", copy / "config.json"
    values = json.loads(config.read_text())
    if damage == "byte":
        data = bytearray(weights.read_bytes())
        data[-100] ^= 1
        weights.write_bytes(data)
    elif damage == "no config":
        config.unlink()
    elif damage == "foreign":
        config.write_text(json.dumps({"architectures": ["ResNet"]}))
    elif damage == "classes":
        values["network"] |= {"classes": ["one", "two"], "palette": [[0, 0, 0]] * 2}
        config.write_text(json.dumps(values))
    else:
        del values["network"]["sha256"]
        config.write_text(json.dumps(values))
    with pytest.raises(InputError, match=message) as error:
        sdnjax.load(copy, trust_code=True)
    assert "\n" not in str(error.value)


class Hub(types.ModuleType):
    """A stand-in for huggingface_hub with one place for files."""

    def __init__(self, root):
        super().__init__("huggingface_hub")
        self.root, self.calls = root, []

    def snapshot_download(self, name, *, revision, allow_patterns, **_):
        self.calls.append((name, revision))
        if not (self.root / name).is_dir():
            raise OSError(f"404: no {name}\nand more lines")
        assert "model.safetensors" in allow_patterns
        return str(self.root / name)

    def hf_hub_download(self, name, file, **_):
        return str(self.root / name / file)

    def HfApi(self, token):
        return self

    def create_repo(self, name, *, private, exist_ok):
        (self.root / name).mkdir(parents=True, exist_ok=exist_ok)
        return f"https://hub/{name}"

    def list_repo_files(self, name):
        return [p.name for p in (self.root / name).iterdir()]

    def upload_folder(self, *, repo_id, folder_path, commit_message, ignore_patterns):
        skip = shutil.ignore_patterns(*(ignore_patterns or ()))
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True, ignore=skip)
        self.calls.append((repo_id, commit_message))


@pytest.fixture
def stub(monkeypatch, tmp_path):
    found = Hub(tmp_path / "hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", found)
    monkeypatch.chdir(tmp_path)
    return found


def test_the_hub_takes_and_gives(network, stub):
    assert network.push_to_hub("user/model") == "https://hub/user/model"
    assert stub.calls == [("user/model", f"Step 7, by sdnjax {sdnjax.__version__}")]
    again = sdnjax.load("user/model", revision="v1", trust_code=True)
    assert stub.calls[-1] == ("user/model", "v1")
    np.testing.assert_array_equal(again(picture()).labels, network(picture()).labels)
    card = stub.root / "user" / "model" / "README.md"
    assert 'sdnjax.load("user/model", trust_code=True)' in card.read_text()
    card.write_text("mine")
    network.push_to_hub("user/model", message="again")
    assert card.read_text() == "mine"
    assert stub.calls[-1] == ("user/model", "again")


def test_the_hubs_other_models_are_left_alone(network, stub):
    other = stub.root / "user" / "bert"
    other.mkdir(parents=True)
    (other / "config.json").write_text('{"architectures": ["Bert"]}')
    with pytest.raises(InputError, match="holds a model that is not of sdnjax"):
        network.push_to_hub("user/bert")
    assert [p.name for p in other.iterdir()] == ["config.json"]
    with pytest.raises(InputError, match=r"holds no model\.safetensors"):
        sdnjax.load("user/bert")
    with pytest.raises(InputError, match=r"nor can it be fetched from the hub \(404: no user/x\)"):
        sdnjax.load("user/x")


def test_a_slip_in_a_path_asks_nobody(stub, monkeypatch):
    Path("runs/camvid").mkdir(parents=True)
    with pytest.raises(InputError, match="runs/camvit: no such folder; did you mean runs/camvid"):
        sdnjax.load("runs/camvit")
    with pytest.raises(InputError, match="no such folder"):
        sdnjax.load("/nowhere/at/all")
    assert stub.calls == []
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"pip install sdnjax\[hub\]"):
        sdnjax.load("user/model")


def test_neither_loading_nor_predicting_needs_tensorflow(folder, tmp_path):
    """And the package alone imports nothing, though its names are there."""
    Image.fromarray(picture()).save(tmp_path / "x.png")
    code = (
        "import sys, sdnjax\n"
        "assert not {'jax', 'numpy', 'flax'} & set(sys.modules)\n"
        "assert {'load', 'models', 'ops'} <= set(dir(sdnjax))\n"
        f"print(sdnjax.load({str(folder)!r}, trust_code=True)({str(tmp_path / 'x.png')!r}))\n"
        "assert not {'tensorflow', 'torch', 'skimage', 'huggingface_hub'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stdout.startswith("Result(56×40"), done.stderr
    assert done.returncode == 0, done.stderr


def test_every_name_of_the_package_is_there():
    for name in sdnjax.__all__:
        assert getattr(sdnjax, name) is not None
    assert sdnjax.models.create_model
    with pytest.raises(AttributeError, match="'sdnjax' has no attribute 'modles'"):
        _ = sdnjax.modles
    assert hub.client  # imported without the hub's own client
