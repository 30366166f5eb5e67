import signal

import numpy as np
import pytest

from sdnjax.data.config import Data
from sdnjax.data.prepare import main, prepare
from sdnjax.data.shapes import render_scene
from sdnjax.data.sources import open_source
from sdnjax.errors import InputError
from tests.data.conftest import one_line, png


def everything(root):
    return sorted(str(p.relative_to(root)) for p in root.rglob("*"))


@pytest.fixture(scope="module")
def prepared(camvid_dir, tmp_path_factory):
    root = tmp_path_factory.mktemp("prepared")
    target, skipped = prepare("camvid", root, camvid_dir, partial=True, progress=False)
    assert target == root / "camvid" / "1.0.0"
    assert skipped == {}
    return root


@pytest.mark.parametrize("split", ["train", "val"])
def test_prepared_equals_the_folder(prepared, camvid_dir, split):
    ours = open_source(Data(name="camvid", dir=str(prepared)), split)
    theirs = open_source(Data(name="camvid", dir=str(camvid_dir)), split)
    assert type(ours) is not type(theirs)
    assert len(ours) == len(theirs)
    for k in range(len(theirs)):
        assert ours[k].name == ours.name(k) == theirs[k].name
        np.testing.assert_array_equal(ours[k].image, theirs[k].image)
        np.testing.assert_array_equal(ours[k].label, theirs[k].label)
        # Stored bytes are the files themselves.
        assert ours.encoded(k).image == theirs.encoded(k).image
        assert ours.encoded(k).label == theirs.encoded(k).label


def test_prepared_split_is_checked(prepared):
    with pytest.raises(InputError, match="did you mean val"):
        open_source(Data(name="camvid", dir=str(prepared)), "vall")


def test_damaged_index_is_named(prepared, tmp_path):
    folder = tmp_path / "camvid" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(InputError) as error:
        open_source(Data(name="camvid", dir=str(tmp_path)), "train")
    assert f"{folder}: damaged, prepare it again" in one_line(error)


def test_tfds_reads_it_too(prepared):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(prepared / "camvid" / "1.0.0")
    assert builder.info.splits["train"].num_examples == 7
    assert "CC BY-NC 4.0" in builder.info.description
    example = builder.as_data_source("val")[0]
    assert example["image"].shape == (36, 48, 3)
    assert example["label"].shape == (36, 48, 1)


def test_bad_file_leaves_nothing_behind(own_camvid, tmp_path):
    path = own_camvid / "valannot" / "val_003.png"
    path.write_bytes(png(np.full((36, 48), 77)))
    with pytest.raises(InputError) as error:
        prepare("camvid", tmp_path / "new" / "data", own_camvid, progress=False)
    assert f"{path}: label value 77" in one_line(error)
    assert not (tmp_path / "new").exists()


def test_skip_leaves_bad_pairs_out(own_camvid, tmp_path):
    (own_camvid / "train" / "train_002.png").write_bytes(b"x")
    _, skipped = prepare(
        "camvid", tmp_path / "data", own_camvid, on_bad_image="skip", progress=False
    )
    assert list(skipped) == ["train_002"]
    source = open_source(Data(name="camvid", dir=str(tmp_path / "data")), "train")
    assert [source.name(k) for k in (1, 2)] == ["train_001", "train_003"]
    assert len(source) == 6
    assert everything(tmp_path / "data")[:2] == ["camvid", "camvid/1.0.0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["camvid"], "camvid needs --source"),
        (["camvid", "--source", "/no/such/folder"], "--source /no/such/folder is not a folder"),
        (["camvid", "--source", "EMPTY"], "expected train/*.png with trainannot/*.png"),
        (["shapes", "--source", "EMPTY"], "leave out --source"),
        (["shape"], "'shape'"),
        (["camvid", "--sauce", "x"], "did you mean --source?"),
        (["shapes", "--data-dir", "FILE"], "cannot be"),
    ],
)
def test_command_says_what_is_wrong(arguments, message, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    places = {"EMPTY": str(tmp_path / "empty"), "FILE": str(tmp_path / "file" / "x")}
    data_dir = [] if "FILE" in arguments else ["--data-dir", str(tmp_path / "out")]
    assert main([places.get(a, a) for a in arguments] + data_dir) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "out").exists()


def test_command_prepares(own_camvid, tmp_path, capsys):
    (own_camvid / "val" / "val_000.png").write_bytes(b"x")
    arguments = ["camvid", "--source", str(own_camvid), "--data-dir", str(tmp_path / "out")]
    assert main([*arguments, "--on-bad-image", "skip"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'out' / 'camvid' / '1.0.0'} (1 skipped)\n"
    assert "skipped: " in err
    assert "val_000.png" in err
    assert main(arguments) == 0  # it is there: nothing is read again


def test_interrupt_leaves_nothing_behind(camvid_dir, tmp_path, monkeypatch, capsys):
    from sdnjax.data.builders import camvid

    def read_and_interrupt(pairs):
        assert list(out.glob("camvid/incomplete*"))
        yield from list(read(pairs))[:2]
        signal.raise_signal(signal.SIGINT)

    out, read = tmp_path / "out", camvid._read
    monkeypatch.setattr(camvid, "_read", read_and_interrupt)
    assert main(["camvid", "--source", str(camvid_dir), "--data-dir", str(out)]) == 130
    assert capsys.readouterr().err.endswith("interrupted; nothing was left behind\n")
    assert not out.exists()


@pytest.fixture
def few_scenes(monkeypatch):
    from sdnjax.data.builders.shapes import Shapes

    monkeypatch.setattr(Shapes, "SCENES", {"train": (0, 6), "val": (1, 3)})
    return Shapes


def test_shapes_prepares_itself_in_the_cache(few_scenes, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = open_source(Data(), "val")
    assert len(source) == 3
    image, label = render_scene(1, 2)
    np.testing.assert_array_equal(source[2].image, image)
    np.testing.assert_array_equal(source[2].label, label)
    assert everything(tmp_path)[:3] == ["sdnjax", "sdnjax/shapes", "sdnjax/shapes/1.0.0"]


def test_shapes_has_a_fixed_number_of_scenes():
    from sdnjax.data.builders.shapes import Shapes

    assert Shapes.SCENES == {"train": (0, 640), "val": (1, 128)}


def test_two_processes_may_prepare_at_once(few_scenes, tmp_path, monkeypatch):
    """The other one begins after us and has finished before we rename our folder."""
    generators, others = few_scenes._split_generators, []

    def overtaken(self, dl_manager):
        if not others:
            others.append(True)
            prepare("shapes", tmp_path, progress=False)
        return generators(self, dl_manager)

    monkeypatch.setattr(few_scenes, "_split_generators", overtaken)
    prepare("shapes", tmp_path, progress=False)
    assert others
    assert len(open_source(Data(dir=str(tmp_path)), "train")) == 6
    assert not [p for p in everything(tmp_path) if "incomplete" in p]
