"""Twenty ugly pictures and masks through check, train, eval and predict: what becomes of each."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from sdnjax.commands.check import check_split
from sdnjax.commands.evaluate import evaluate_run
from sdnjax.commands.predict import predict_pictures
from sdnjax.commands.train import train
from sdnjax.data.data_settings import Data
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from tests.training.tiny import Tiny

SIZE = (24, 32)
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
LABEL = RNG.integers(0, 2, SIZE, dtype=np.uint8)


def file(array, form="PNG", **options):
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def turned(tag):
    exif = Image.Exif()
    exif[0x0112] = tag
    return exif


PLAIN, MASK = file(RGB), file(LABEL)
ALPHA = np.dstack([RGB, RNG.integers(0, 256, SIZE, dtype=np.uint8)])
DEEP = RNG.integers(0, 4096, SIZE).astype(np.uint16)
PALETTE = Image.fromarray(LABEL, "L").copy()
PALETTE.putpalette([0, 0, 0, 255, 0, 0])

# Name → the picture's file, the mask's file, and a word of what check says of it ("": it is used).
UGLY = {
    "plain.png": (PLAIN, MASK, ""),
    "jpeg.JPG": (file(RGB, "JPEG"), MASK, ""),
    "grey.png": (file(RGB[..., 0]), MASK, ""),
    "opaque.png": (file(np.dstack([RGB, np.full(SIZE, 255, np.uint8)])), MASK, ""),
    "half_turn.jpg": (file(RGB, "JPEG", exif=turned(3)), MASK, "turned"),
    "quarter_turn.jpg": (file(RGB.transpose(1, 0, 2), "JPEG", exif=turned(6)), MASK, "turned"),
    "stored.jpg": (file(RGB, "JPEG", exif=turned(8)), MASK, "EXIF orientation is 8"),
    "four_bands.png": (file(ALPHA), MASK, "4 bands"),
    "deep.png": (file(DEEP), MASK, "data.value_range"),
    "float.tif": (file(RGB[..., 0].astype(np.float32) / 255, "TIFF"), MASK, "data.value_range"),
    "black.png": (file(RGB // 64), MASK, "dull"),
    "six_bands.npy": (npy(np.dstack([RGB, RGB])), MASK, "6 band(s)"),
    "array.npy": (npy(RGB), MASK, ""),
    "cut.png": (PLAIN[:200], MASK, "truncated or damaged"),
    "empty.png": (b"", MASK, "the file is empty"),
    "page.png": (b"<html>", MASK, "page of the web"),
    "no_mask.png": (PLAIN, None, "has no label"),
    "palette.png": (PLAIN, file(PALETTE), ""),
    "grey_as_rgb.png": (PLAIN, file(np.dstack([LABEL] * 3)), ""),
    "unknown_value.png": (PLAIN, file(LABEL + 7), "label value 7"),
    "jpeg_mask.png": (PLAIN, file(LABEL, "JPEG"), "JPEG changes the values"),
    "all_void.png": (PLAIN, file(np.full(SIZE, 255, np.uint8)), "void"),
    "other_size.png": (PLAIN, file(LABEL[:20]), "must have one size"),
}
NOT_TAKEN = ("notes.txt", "._plain.png", ".ipynb_checkpoints/plain.png")
USED = [name for name, (*_, word) in UGLY.items() if word in ("", "turned", "dull", "void")]


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "mine"
    for split in ("train", "val"):
        for name, (picture, mask, _) in UGLY.items():
            stem = name.rpartition(".")[0]
            for half, end, content in (("images", name, picture), ("labels", f"{stem}.png", mask)):
                path = root / half / split / end
                path.parent.mkdir(parents=True, exist_ok=True)
                if content is not None:
                    path.write_bytes(content)
        for name in NOT_TAKEN:
            path = root / "images" / split / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(PLAIN)
    (root / "classes.csv").write_text(
        "class,value,color\nground,0,#000000\nthing,1,#ff0000\nvoid,255,#ffffff\n"
    )
    return root


def test_what_becomes_of_each(folder, tmp_path):
    data = Data(name="folder", dir=str(folder), crop_size=(16, 16), workers=2)
    lines = []
    found = check_split(data, "train", tmp_path / "check", report=lines.append)
    told = dict.fromkeys(UGLY, "")
    for name in UGLY:
        stem = name.rpartition(".")[0]
        told[name] = found["unusable"].get(stem, "")
        for kind, names in found["notes"].items():
            told[name] += kind * any(n.split(" ")[0] == stem for n in names)
    wrong = {
        name: told[name]
        for name, (*_, word) in UGLY.items()
        if (word not in told[name]) or (not word and told[name])
    }
    assert not wrong
    assert all("\n" not in message for message in found["unusable"].values())
    assert next(line for line in lines if "left out" in line).endswith("notes.txt")
    assert sum("ATTENTION" in line for line in lines) == 2  # dull, void

    own = Experiment(model=Tiny, data=data, steps=2, tensorboard=False, log_every=1)
    with pytest.raises(InputError, match="no_mask"):
        train(own, tmp_path / "run", report=lambda line: None)
    skipping = dataclasses.replace(own, data=dataclasses.replace(data, on_bad_image="skip"))
    lines.clear()
    train(skipping, tmp_path / "run", report=lines.append)
    assert any(line.startswith("left out: ") for line in lines)
    results = evaluate_run(tmp_path / "run", skipping, report=lambda line: None)
    bad = len(UGLY) - len(USED)
    assert (results["images"], results["skipped_images"]) == (len(USED), bad)

    lines.clear()
    pictures = folder / "images" / "train"
    written = predict_pictures(
        tmp_path / "run", skipping, [pictures], tmp_path / "out", report=lines.append
    )
    unread = [line for line in lines if line.startswith("left out: ")]
    # Masks do not matter here, nor what does not fit them.
    readable = len(UGLY) - len(unread)
    assert len(written) == readable
    for word in ("4 bands", "value_range", "6 band", "truncated", "empty", "page of the web"):
        assert any(word in line for line in unread), word
    assert any("notes.txt" in line for line in lines)
