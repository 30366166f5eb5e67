"""Label files of every depth and form hold the numbers that were written into them."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from sdnjax.data.reading.examples import decode
from sdnjax.data.reading.labels import decode_label
from sdnjax.data.sets.items import Encoded
from sdnjax.data.sets.label_space import LabelSpace
from sdnjax.errors import InputError
from tests.data.conftest import one_line

GREY = np.random.default_rng(0).integers(0, 256, (5, 7)).astype(np.uint8)


def encoded(picture, form="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def raw_png(samples, depth, kind, palette=b""):
    """A PNG of any depth, written by hand: Pillow writes few."""

    def chunk(name, data):
        crc = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + crc

    h, w = samples.shape[:2]
    bits = ((samples.reshape(h, -1, 1) >> np.arange(depth)[::-1]) & 1).astype(np.uint8)
    rows = np.packbits(bits.reshape(h, -1), axis=1)
    header = struct.pack(">IIBBBBB", w, h, depth, kind, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    plte = chunk(b"PLTE", palette) if palette else b""
    parts = chunk(b"IHDR", header) + plte + chunk(b"IDAT", content) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_grey_of_every_depth(depth):
    samples = np.random.default_rng(depth).integers(0, 2**depth, (5, 9))
    np.testing.assert_array_equal(decode_label(raw_png(samples, depth, 0), "a"), samples)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palette_of_every_depth(depth):
    samples = np.random.default_rng(depth).integers(0, 2**depth, (5, 9))
    palette = np.random.default_rng(9).integers(0, 256, 3 * 2**depth).astype(np.uint8).tobytes()
    data = raw_png(samples, depth, 3, palette=palette)
    np.testing.assert_array_equal(decode_label(data, "a"), samples)


def test_32_bit_tiff():
    deep = np.array([[0, 70000], [2**31 - 1, 1]], np.int32)
    np.testing.assert_array_equal(decode_label(encoded(Image.fromarray(deep), "TIFF"), "a"), deep)


def test_grey_in_three_channels_is_grey():
    three = GREY[..., None].repeat(3, 2)
    np.testing.assert_array_equal(decode_label(encoded(Image.fromarray(three)), "a"), GREY)
    opaque = np.dstack([three, np.full_like(GREY, 255)])
    np.testing.assert_array_equal(decode_label(encoded(Image.fromarray(opaque)), "a"), GREY)
    three[0, 0, 2] ^= 1
    with pytest.raises(InputError, match="not RGB whose channels are not equal"):
        decode_label(encoded(Image.fromarray(three)), "a")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (encoded(Image.fromarray(GREY), "JPEG"), "a.png: JPEG changes the values of pixels"),
        (encoded(Image.fromarray(GREY), "WEBP"), "a.png: WEBP changes the values"),
        (encoded(Image.fromarray(GREY), "TIFF", compression="jpeg"), "JPEG in TIFF changes"),
        (raw_png(np.ones((2, 6, 3), int), 16, 2), "a 16-bit colour image"),
        (encoded(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"), "not F"),
        (encoded(Image.new("RGBA", (2, 2), (1, 1, 1, 0))), "some pixels are transparent"),
    ],
    ids=["jpeg", "webp", "tiff_jpeg", "rgb16", "float", "transparent"],
)
def test_what_may_not_be_what_was_painted_is_refused(data, message):
    with pytest.raises(InputError) as error:
        decode_label(data, "a.png")
    assert "a.png: " in one_line(error)
    assert message in one_line(error)


def space(*rows, colors=()):
    names = tuple(dict.fromkeys(n for n, _ in rows if n != "void"))
    number = {n: k for k, n in enumerate(names)} | {"void": 255}
    return LabelSpace(
        "mine",
        names,
        ((0, 0, 0),) * len(names),
        tuple((value, number[n]) for n, value in rows),
        tuple((rgb, number[n]) for n, rgb in colors),
    )


@pytest.mark.parametrize("large", [65535, 2**31 - 1])
def test_ids_above_255(large):
    mine = space(("a", 0), ("b", 300), ("void", large))
    raw = np.array([[0, 300], [large, 0]], np.uint16 if large < 65536 else np.int32)
    np.testing.assert_array_equal(mine.map_labels(raw, "x"), [[0, 1], [255, 0]])
    for wrong in (44, 299, 301, 65534):  # 44: 300 in eight bits
        with pytest.raises(InputError, match=f"x: label value {wrong} at 1 pixels"):
            mine.map_labels(np.array([[0, wrong]], raw.dtype), "x")


def test_values_beyond_the_table_are_named():
    mine = space(("a", 0), ("b", 1))
    with pytest.raises(InputError, match="label value 256 at 1"):
        mine.map_labels(np.array([[0, 256]], np.uint16), "x")
    with pytest.raises(InputError, match="label value -1 at 1"):
        mine.map_labels(np.array([[0, -1]], np.int32), "x")


def test_grey_rgb_where_values_and_colours_are_listed():
    white, black, red = (255, 255, 255), (0, 0, 0), (255, 0, 0)
    mine = space(
        ("a", 0), ("b", 1), ("void", 255), colors=(("a", red), ("b", black), ("void", white))
    )

    def three(*values):
        return np.array(values, np.uint8)[None, :, None].repeat(3, 2)

    np.testing.assert_array_equal(mine.map_labels(three(0, 1), "x"), [[0, 1]])  # no color #010101
    np.testing.assert_array_equal(mine.map_labels(three(255), "x"), [[255]])  # void either way
    with pytest.raises(InputError, match="x: can be read in two ways: 0 in red"):
        mine.map_labels(three(0, 255), "x")
    mixed = np.array([[red, black]], np.uint8)
    np.testing.assert_array_equal(mine.map_labels(mixed, "x"), [[0, 1]])


def test_a_palette_that_contradicts_the_class_file():
    red, blue = (255, 0, 0), (0, 0, 255)
    mine = space(("a", 0), ("b", 1), colors=(("a", red), ("b", blue)))
    image = encoded(Image.new("RGB", (2, 1)))

    def read(palette):
        label = Image.fromarray(np.array([[0, 1]], np.uint8)).copy()
        label.putpalette([*palette[0], *palette[1]])
        return decode(Encoded("n", image, encoded(label), "i.png", "l.png"), mine).label

    np.testing.assert_array_equal(read((red, blue)), [[0, 1]])
    np.testing.assert_array_equal(read(((1, 2, 3), (4, 5, 6))), [[0, 1]])  # says nothing
    with pytest.raises(InputError, match=r"l.png: value 0 is 'a', but the file's palette paints"):
        read((blue, red))
    with pytest.raises(InputError, match=r"value 1 is 'b'.*#ff0000, the color of 'a'"):
        read(((9, 9, 9), red))
