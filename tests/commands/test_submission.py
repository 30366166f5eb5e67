"""predict.py for test servers: label values, names, folders of cities."""

import numpy as np
import pytest
from PIL import Image

import sdnjax.commands.predict
from sdnjax.commands.predict import predict_pictures
from sdnjax.commands.submission import check_names, class_values
from sdnjax.commands.trained import Trained
from sdnjax.data.sets import label_space
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from tests.inference.fake import Fake


@pytest.fixture
def network(monkeypatch):
    """Calls that take a work directory get a network without parameters."""

    def of(num_classes):
        names = tuple(map(str, range(num_classes)))
        palette = ((0, 0, 0),) * num_classes
        network = Trained(Experiment(), Fake(num_classes), {}, names, palette, 1)
        monkeypatch.setattr(sdnjax.commands.predict, "load_network", lambda *_: network)

    return of


def picture(path, size=(24, 40), **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, **how)
    return path


def predict(folder, out, format=None):
    lines = []
    written = predict_pictures(
        folder, Experiment(), [folder], out, format=format, report=lines.append
    )
    return written, lines


def test_cityscapes_files_read_back_as_the_prediction(network, tmp_path):
    network(19)
    for name in ("berlin/berlin_000000_000019", "bonn/bonn_000003_000019"):
        picture(tmp_path / "test" / f"{name}_leftImg8bit.png")
    written, _ = predict(tmp_path / "test", tmp_path / "out", "cityscapes")
    assert sorted(p.name for p in (tmp_path / "out").glob("[!.]*")) == [
        "berlin_000000_000019_leftImg8bit.png",
        "bonn_000003_000019_leftImg8bit.png",
    ]
    for file, city in zip(written, ("berlin", "bonn"), strict=True):
        found = Image.open(file)
        assert (found.mode, found.size) == ("L", (40, 24))
        raw = np.asarray(found)
        predict(tmp_path / "test" / city, tmp_path / "plain")
        expected = np.asarray(Image.open(tmp_path / "plain" / f"{file.stem}_labels.png"))
        np.testing.assert_array_equal(label_space("cityscapes").map_labels(raw, "x"), expected)
        assert set(np.unique(raw)) <= {7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33}
        assert len(np.unique(raw)) > 5


def test_ade20k_files_hold_1_to_150(network, tmp_path):
    network(150)
    folder = tmp_path / "testing"
    picture(folder / "ADE_test_00000001.jpg")
    # Labels belong to the image as it is stored, whatever its orientation tag says.
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(folder / "ADE_test_00000002.jpg", exif=exif)
    written, _ = predict(folder, tmp_path / "out", "ade20k")
    assert [p.name for p in written] == ["ADE_test_00000001.png", "ADE_test_00000002.png"]
    predict(folder, tmp_path / "plain")
    raw = np.asarray(Image.open(written[0]))
    expected = np.asarray(Image.open(tmp_path / "plain" / "ADE_test_00000001_labels.png"))
    np.testing.assert_array_equal(raw.astype(int) - 1, expected)
    assert np.asarray(Image.open(written[1])).shape == (24, 40)


def test_ade20k_values_are_those_of_the_label_space():
    try:
        space = label_space("ade20k")
    except InputError:
        pytest.skip("no label space of this name")
    values = class_values("ade20k", 150)
    np.testing.assert_array_equal(space.map_labels(values, "x"), np.arange(150))


def test_one_line_for_what_a_server_would_refuse(network, tmp_path):
    network(11)
    picture(tmp_path / "berlin_000000_000019.png")
    with pytest.raises(InputError, match="needs a network of its 19 classes, this one has 11"):
        predict(tmp_path, tmp_path / "out", "cityscapes")
    network(150)
    picture(tmp_path / "berlin_000000_000019.jpg")
    with pytest.raises(InputError, match="two of the pictures have one name"):
        predict(tmp_path, tmp_path / "out", "ade20k")
    with pytest.raises(InputError, match=r"finds no file called street\.png"):
        check_names("cityscapes", ["berlin_000000_000019", "street"])
    with pytest.raises(InputError, match="are one image to the server"):
        check_names("cityscapes", ["bonn_000000_000019_a", "bonn_000000_000019_b"])
    assert not (tmp_path / "out").exists()
