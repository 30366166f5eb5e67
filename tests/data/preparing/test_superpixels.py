import dataclasses
import importlib.util
import io

import numpy as np
import pytest
from PIL import Image

from sdnjax.data.data_settings import Data
from sdnjax.data.pipeline.batches import train_batches
from sdnjax.data.pipeline.in_order import evaluation_examples
from sdnjax.data.preparing import slic as module
from sdnjax.data.preparing.command import main
from sdnjax.data.preparing.prepare import prepare
from sdnjax.data.preparing.slic import slic
from sdnjax.data.reading import examples
from sdnjax.data.reading.superpixels import decode_superpixels, encode_superpixels
from sdnjax.data.sources import open_source
from sdnjax.errors import InputError
from tests.data.conftest import one_line, png

needs_skimage = pytest.mark.skipif(
    importlib.util.find_spec("skimage") is None, reason="scikit-image is not installed"
)


def scene(h=120, w=160, seed=0):
    """Soft colour fields with a little noise, which SLIC can divide as it does photographs."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8))
    image = np.asarray(coarse.resize((w, h), Image.Resampling.BICUBIC)).astype(int)
    return np.clip(image + rng.integers(-6, 7, image.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """CamVid's layout with images that have superpixels, of two sizes."""
    root = tmp_path_factory.mktemp("photos") / "camvid"
    for split, count in (("train", 3), ("val", 2)):
        (root / split).mkdir(parents=True)
        (root / f"{split}annot").mkdir()
        for k in range(count):
            image = scene(100 + 20 * (k % 2), 160, k)
            (root / split / f"{split}_{k}.png").write_bytes(png(image))
            (root / f"{split}annot" / f"{split}_{k}.png").write_bytes(png(image[..., 0] % 11))
    return root


@pytest.fixture(scope="module")
def prepared(photos, tmp_path_factory):
    pytest.importorskip("skimage")
    root = tmp_path_factory.mktemp("prepared")
    target, _ = prepare("camvid", root, photos, superpixels=40, partial=True, progress=False)
    assert target == root / "camvid" / "slic40" / "1.0.0"
    return root


def test_stored_form_keeps_sixteen_bits():
    superpixels = (np.arange(300 * 250) % 65536).reshape(300, 250)
    data = encode_superpixels(superpixels)
    assert data.startswith(b"\x89PNG")
    read = decode_superpixels(data, "x")
    assert read.dtype == np.int32
    np.testing.assert_array_equal(read, superpixels)
    # Pillow, told nothing about us, reads the same numbers.
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), superpixels)
    with pytest.raises(InputError, match=r"a\.png: its superpixels are damaged"):
        decode_superpixels(data[:-200], "a.png")


@needs_skimage
@pytest.mark.parametrize("segments", [25, 60])
def test_slic_is_scikit_images(segments):
    from skimage.segmentation import slic as theirs

    image = scene()
    expected = theirs(image, n_segments=segments, start_label=0)
    assert 0.5 * segments < len(np.unique(expected)) <= segments
    ours = slic(image, segments)
    assert ours.dtype == np.int32
    np.testing.assert_array_equal(ours, expected)


@needs_skimage
@pytest.mark.parametrize("shape", [(512, 683), (90, 60), (17, 23), (7, 5), (1, 1)])
@pytest.mark.parametrize("kind", ["flat", "noise"])
def test_slic_never_finds_more_than_asked(shape, kind):
    image = np.zeros((*shape, 3), np.uint8)
    if kind == "noise":
        image = np.random.default_rng(0).integers(0, 256, image.shape, np.uint8)
    for segments in (1, 20, 100):
        found = slic(image, segments)
        assert found.shape == shape
        np.testing.assert_array_equal(np.unique(found), np.arange(found.max() + 1))
        assert found.max() < segments


@needs_skimage
def test_one_that_finds_more_than_asked_exists():
    """What the test before this one is there for."""
    from skimage.segmentation import slic as theirs

    image = np.zeros((512, 683, 3), np.uint8)
    assert theirs(image, n_segments=100, start_label=0).max() >= 100
    assert 80 <= slic(image, 100).max() < 100


def test_prepared_superpixels_come_with_the_example(prepared, photos):
    from skimage.segmentation import slic as theirs

    data = Data(name="camvid", dir=str(prepared), superpixels=40)
    plain = Data(name="camvid", dir=str(photos))
    for split in ("train", "val"):
        source, folder = open_source(data, split), open_source(plain, split)
        assert len(source) == len(folder)
        for k in range(len(source)):
            example = source[k]
            np.testing.assert_array_equal(example.image, folder[k].image)
            np.testing.assert_array_equal(example.label, folder[k].label)
            assert folder[k].superpixels is None
            assert example.superpixels.dtype == np.int32
            expected = theirs(folder[k].image, n_segments=40, start_label=0)
            assert expected.max() < 40
            np.testing.assert_array_equal(example.superpixels, expected)


@pytest.mark.parametrize("on", ["host", "device"])
def test_they_are_given_to_those_who_ask(prepared, on):
    """Asked for or not, the examples and their order are the same."""
    one_size = {"crop_size": (64, 64), "augment_on": on, "train_split": "train"}
    data = Data(name="camvid", dir=str(prepared), superpixels=40, **one_size)
    source = open_source(data, "train")
    if on == "device":  # the middle one has another size
        source._records = [source._records[0], source._records[2]]
    options = {"seed": 0, "batch_size": 2, "stop_step": 1, "source": source}
    with train_batches(data, **options, extras=("superpixels", "picture")) as batches:
        asked = next(batches)
    with train_batches(data, **options) as batches:
        plain = next(batches)
    assert asked.pop("superpixels").shape == asked["label"].shape
    assert asked.keys() == plain.keys()
    for key in plain:
        np.testing.assert_array_equal(asked[key], plain[key])


def test_evaluation_gives_them_to_those_who_ask(prepared, monkeypatch):
    data = Data(name="camvid", dir=str(prepared), superpixels=40)
    source = open_source(data, "val")
    for k, example in enumerate(evaluation_examples(data, extras=("superpixels",))):
        np.testing.assert_array_equal(example.superpixels, source[k].superpixels)
    monkeypatch.setattr(examples, "decode_superpixels", None)  # would fail if it were called
    assert [e.superpixels for e in evaluation_examples(data)] == [None, None]
    with pytest.raises(InputError, match=r"superpixels are needed, .* --data\.superpixels 200"):
        evaluation_examples(dataclasses.replace(data, superpixels=None), extras=("superpixels",))


def test_tfds_reads_them_too(prepared):
    import tensorflow as tf
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(prepared / "camvid" / "slic40" / "1.0.0")
    assert builder.info.config_name == "slic40"
    assert "40 segments" in builder.info.config_description
    skip = {"superpixels": tfds.decode.SkipDecoding()}  # TFDS would need OpenCV for 16 bits
    example = builder.as_data_source("train", decoders=skip)[1]
    decoded = tf.io.decode_png(example["superpixels"], dtype=tf.uint16)
    ours = open_source(Data(name="camvid", dir=str(prepared), superpixels=40), "train")[1]
    assert builder.info.features["superpixels"].np_dtype == np.uint16
    np.testing.assert_array_equal(decoded[..., 0], ours.superpixels)


def test_superpixels_that_are_missing_name_the_command(prepared, photos, tmp_path):
    data = Data(name="camvid", dir=str(prepared), superpixels=41)
    with pytest.raises(InputError) as error:
        open_source(data, "train")
    assert f"{prepared / 'camvid' / 'slic41' / '1.0.0'} does not exist" in one_line(error)
    assert (
        "`python -m sdnjax.data.prepare camvid --source DIR "
        f"--data-dir {prepared} --superpixels 41` prepares it" in one_line(error)
    )
    with pytest.raises(InputError, match=f"--source {photos} --data-dir {photos} --superpixels 41"):
        open_source(dataclasses.replace(data, dir=str(photos)), "train")
    with pytest.raises(InputError, match=r"data\.superpixels must be at least 1, not 0"):
        open_source(dataclasses.replace(data, superpixels=0), "train")


def test_the_command_in_the_error_works(photos, tmp_path, capsys):
    pytest.importorskip("skimage")
    command = ["camvid", "--source", str(photos), "--data-dir", str(tmp_path)]
    command += ["--superpixels", "30", "--partial", "--workers", "2"]
    assert main(command) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'camvid' / 'slic30' / '1.0.0'}\n"
    source = open_source(Data(name="camvid", dir=str(tmp_path), superpixels=30), "val")
    assert source[1].superpixels.max() < 30
    assert [p.name for p in (tmp_path / "camvid" / "slic30").iterdir()] == ["1.0.0"]


def test_without_scikit_image_one_line_says_how_to_install_it(
    photos, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    command = ["camvid", "--source", str(photos), "--data-dir", str(tmp_path / "out")]
    assert main([*command, "--superpixels", "40", "--partial"]) == 2
    assert capsys.readouterr().err == (
        "error: superpixels are computed by scikit-image, which is missing: "
        'pip install "scikit-image>=0.25,<0.27"\n'
    )
    assert not (tmp_path / "out").exists()


def test_the_bounds_are_those_of_the_extra(request):
    import configparser

    setup = configparser.ConfigParser()
    setup.read(request.config.rootpath / "setup.cfg")
    (wanted,) = setup["options.extras_require"]["superpixels"].split()
    assert f'"{wanted}"' in module._INSTALL
