import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from sdnjax.data.data_settings import Data
from sdnjax.data.pixels import Pixels
from sdnjax.data.reading.images import decode_image, orientation_of, read_image
from sdnjax.data.reading.labels import decode_label, read_label
from sdnjax.errors import InputError
from tests.data.conftest import one_line, png

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3)).astype(np.uint8)
GREY = RNG.integers(0, 256, (5, 7)).astype(np.uint8)


def encoded(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def test_rgb_is_exact():
    np.testing.assert_array_equal(decode_image(png(RGB), "a"), RGB)


def test_grey_is_repeated():
    np.testing.assert_array_equal(decode_image(png(GREY), "a"), GREY[..., None].repeat(3, 2))


def test_an_opaque_alpha_is_dropped_and_any_other_is_refused():
    opaque = np.full((*GREY.shape, 1), 255, np.uint8)
    rgba = Image.fromarray(np.concatenate([RGB, opaque], 2))
    np.testing.assert_array_equal(decode_image(encoded(rgba), "a"), RGB)
    rgba = Image.fromarray(np.concatenate([RGB, GREY[..., None]], 2))
    with pytest.raises(InputError, match=r"a has 4 bands, .* --data\.channels 4"):
        decode_image(encoded(rgba), "a")
    four = decode_image(encoded(rgba), "a", Pixels(channels=4))
    np.testing.assert_array_equal(four, np.asarray(rgba))


def test_palette_is_looked_up():
    image = Image.fromarray(RGB).quantize(16)
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decode_image(encoded(image), "a"), expected)
    with pytest.raises(InputError, match="transparency must be flattened"):
        decode_image(encoded(image, transparency=3), "a")


DEEP = (GREY.astype(np.uint16) << 4) + 7  # 12 bits


def test_deep_values_are_scaled_by_the_declared_range_and_refused_without():
    data = encoded(Image.fromarray(DEEP))
    with pytest.raises(
        InputError, match=rf"uint16 values, {DEEP.min()} to {DEEP.max()}: .*value_range"
    ):
        decode_image(data, "a")
    found = decode_image(data, "a", Pixels(value_range=(0, 4095)))
    expected = np.floor(DEEP.astype(float) / 4095 * 255 + 0.5)
    np.testing.assert_array_equal(found, expected[..., None].repeat(3, 2))
    with pytest.raises(InputError, match=r"outside data\.value_range 0,1000"):
        decode_image(data, "a", Pixels(value_range=(0, 1000)))


def test_floats_are_scaled_too_and_must_be_finite():
    values = GREY.astype(np.float32) / 255
    data = encoded(Image.fromarray(values), "TIFF")
    with pytest.raises(InputError, match="float32 values"):
        decode_image(data, "a")
    one = decode_image(data, "a", Pixels(channels=1, value_range=(0, 1)))
    np.testing.assert_array_equal(one, GREY[..., None])
    values[0, 0] = np.nan
    with pytest.raises(InputError, match="not finite"):
        decode_image(encoded(Image.fromarray(values), "TIFF"), "a", Pixels(value_range=(0, 1)))


def test_png_of_three_deep_bands_is_not_cut_to_eight_bits():
    row = b"\0" + (DEEP[:, :1].repeat(3, 1).astype(">u2").tobytes())[: 6 * 1]
    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(row)), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks
    )
    for pixels in (Pixels(), Pixels(value_range=(0, 4095))):
        with pytest.raises(InputError, match=r"more than 8 bits in each of 3 bands"):
            decode_image(data, "a", pixels)


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_arrays_are_pictures_of_any_number_of_bands(channels):
    array = RNG.integers(0, 256, (5, 7, channels)).astype(np.uint8)
    data = array_file(array)
    np.testing.assert_array_equal(decode_image(data, "a", Pixels(channels=channels)), array)
    if channels not in (1, 4):
        with pytest.raises(InputError, match=rf"a has {channels} band\(s\), data\.channels is 3"):
            decode_image(data, "a")


def array_file(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        array_file(np.zeros((2, 2, 2, 2))),
        array_file(np.zeros((2, 2), complex)),
        array_file(np.zeros((2, 2)))[:-9],
        array_file(np.zeros(3, object)),
    ],
)
def test_arrays_that_are_no_pictures(data):
    with pytest.raises(InputError, match=r"^a(:| holds)") as error:
        decode_image(data, "a")
    assert "\n" not in str(error.value)


def test_three_equal_bands_are_grey():
    grey = GREY[..., None]
    same = np.repeat(grey, 3, axis=2)
    np.testing.assert_array_equal(decode_image(png(same), "a", Pixels(channels=1)), grey)
    with pytest.raises(InputError, match=r"a has 3 band\(s\), data\.channels is 1"):
        decode_image(png(RGB), "a", Pixels(channels=1))


def test_the_limit_of_pixels_is_a_setting():
    data = png(RGB)
    with pytest.raises(InputError, match=r"a has 7×5 pixels, more than data\.max_pixels 34"):
        decode_image(data, "a", Pixels(most_pixels=34))
    large = encoded(Image.new("1", (20000, 10000)))  # more than twice Pillow's own limit
    assert decode_image(large, "a", Pixels(channels=1)).shape == (10000, 20000, 1)


def test_cmyk_jpeg_keeps_its_colours():
    flat = Image.new("RGB", (16, 16), (200, 60, 30))
    result = decode_image(encoded(flat.convert("CMYK"), "JPEG", quality=95), "a")
    assert result.shape == (16, 16, 3)
    np.testing.assert_allclose(result.mean((0, 1)), (200, 60, 30), atol=4)


FORMS = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "TIFF": {},
    "WEBP": {"lossless": True},
}


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("form", FORMS)
def test_exif_orientation_is_a_choice(form, tag):
    """All eight, in all forms: Pillow treats TIFF otherwise than the rest."""
    smooth = np.add.outer(15 * np.arange(8), 9 * np.arange(16))[..., None].repeat(3, 2)
    upright = smooth.astype(np.uint8)
    image = Image.fromarray(upright)
    exif = Image.Exif()
    exif[0x0112] = tag
    data = encoded(image, form, exif=exif, **FORMS[form])
    assert orientation_of(data) == tag
    stored = decode_image(data, "a", Pixels("stored")).astype(int)
    assert stored.shape == upright.shape
    assert np.abs(stored - upright).max() <= 4
    # EXIF's table: where row 0 and column 0 of the stored picture are when it is shown.
    shown = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright[::-1].transpose(1, 0, 2),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: upright[:, ::-1].transpose(1, 0, 2),
    }[tag].astype(int)
    turned = decode_image(data, "a", Pixels("upright")).astype(int)
    assert turned.shape == shown.shape
    assert np.abs(turned - shown).max() <= 4


def test_label_keeps_values_and_palette_indices():
    np.testing.assert_array_equal(decode_label(png(GREY), "a"), GREY)
    coloured = Image.fromarray(GREY, "L").copy()
    coloured.putpalette(list(RNG.integers(0, 256, 768)))
    assert coloured.mode == "P"
    np.testing.assert_array_equal(decode_label(encoded(coloured), "a"), GREY)
    np.testing.assert_array_equal(
        decode_label(encoded(Image.fromarray(GREY.astype(np.uint16))), "a"), GREY
    )


def test_label_in_colours_is_refused():
    with pytest.raises(InputError) as error:
        decode_label(png(RGB), "annot/a.png")
    assert "annot/a.png: a label must be a grey or palette image" in one_line(error)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("kept", [0, 1, 10, 60, 0.5, 0.9])
def test_cut_short_at(form, kept):
    image = Image.fromarray(RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8))
    data = encoded(image, form)
    kept = int(kept * len(data)) if isinstance(kept, float) else kept
    with pytest.raises(InputError) as error:
        decode_image(data[:kept], "some/a.img")
    assert one_line(error).startswith("some/a.img: ")


def test_altered_png_is_noticed():
    data = bytearray(png(RNG.integers(0, 256, (64, 64, 3))))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(InputError, match=r"a\.png: the image is truncated or damaged"):
        decode_image(bytes(data), "a.png")


def test_text_is_not_an_image():
    with pytest.raises(InputError, match=r"a\.png: not an image"):
        decode_image(b"<html>not found</html>", "a.png")


@pytest.mark.parametrize("read", [read_image, read_label])
def test_paths(read, tmp_path):
    (tmp_path / "a.png").write_bytes(png(GREY))
    assert read(tmp_path / "a.png").shape[:2] == (5, 7)
    with pytest.raises(InputError) as error:
        read(tmp_path / "b.png")
    assert one_line(error) == f"{tmp_path / 'b.png'}: no such file"
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path)


def test_normalize():
    data = Data()
    expected = (RGB.astype(np.float64) - data.mean) / data.std
    result = data.normalization(RGB)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_a_tiff_of_more_bands_than_pillow_reads_is_told_by_its_bands():
    """Little-endian, uncompressed, four bands of 8 bits, black is zero."""
    tags = [(256, 1, 2), (257, 1, 1), (258, 4, 134), (259, 1, 1), (262, 1, 1), (273, 1, 8)]
    tags += [(277, 1, 4), (278, 1, 1), (279, 1, 8)]
    entries = b"".join(struct.pack("<HHII", tag, 3, count, value) for tag, count, value in tags)
    data = b"II*\0" + struct.pack("<I", 16) + bytes(8) + struct.pack("<H", len(tags)) + entries
    data += struct.pack("<I", 0)
    data = data.ljust(134, b"\0") + struct.pack("<4H", 8, 8, 8, 8)
    with pytest.raises(InputError, match=r"a\.tif: a TIFF of 4 bands of 8 bits cannot be read"):
        decode_image(data, "a.tif")
