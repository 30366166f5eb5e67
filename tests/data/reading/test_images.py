import io

import numpy as np
import pytest
from PIL import Image

from sdnjax.data.data_settings import Data
from sdnjax.data.reading.images import decode_image, read_image
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


def test_transparency_is_dropped():
    rgba = np.concatenate([RGB, GREY[..., None]], 2)
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(rgba)), "a"), RGB)


def test_palette_is_looked_up():
    image = Image.fromarray(RGB).quantize(16)
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decode_image(encoded(image), "a"), expected)
    data = encoded(image, transparency=3)
    np.testing.assert_array_equal(decode_image(data, "a"), expected)


def test_high_byte_of_16_bits_is_kept():
    deep = (GREY.astype(np.uint16) << 8) + 77
    np.testing.assert_array_equal(
        decode_image(encoded(Image.fromarray(deep)), "a"), GREY[..., None].repeat(3, 2)
    )


def test_cmyk_jpeg_keeps_its_colours():
    flat = Image.new("RGB", (16, 16), (200, 60, 30))
    result = decode_image(encoded(flat.convert("CMYK"), "JPEG", quality=95), "a")
    assert result.shape == (16, 16, 3)
    np.testing.assert_allclose(result.mean((0, 1)), (200, 60, 30), atol=4)


def test_exif_orientation_is_a_choice():
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    data = encoded(Image.fromarray(RGB), "JPEG", exif=exif)
    assert decode_image(data, "a").shape == (5, 7, 3)
    assert decode_image(data, "a", exif_orientation=True).shape == (7, 5, 3)


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
