"""TensorFlow's PNG decoder gives what Pillow gives, or leaves the file to it."""

import io

import numpy as np
import pytest
from PIL import Image

from sdnjax.data.reading import images
from sdnjax.data.reading.tf_png import decode_png
from sdnjax.errors import InputError
from tests.data.conftest import png

RNG = np.random.default_rng(0)
SMOOTH = np.add.outer(np.arange(40) * 3, np.arange(50) * 2)[..., None] + [0, 5, 30]
SMOOTH = (SMOOTH + RNG.integers(0, 9, SMOOTH.shape)).clip(0, 255).astype(np.uint8)


def by_pillow(data):
    """None where it is damaged."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "_by_tensorflow", lambda data: None)
        try:
            return images.decode_image(data, "a.png")
        except InputError:
            return None


def encoded(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def test_plain_files():
    for pixels in (SMOOTH, SMOOTH[:1, :1], SMOOTH[:, :7]):
        for options in ({}, {"compress_level": 0}, {"optimize": True}):
            decoded = decode_png(encoded(Image.fromarray(pixels), **options))
            np.testing.assert_array_equal(decoded, pixels)
            assert decoded.dtype == np.uint8
    # A colour marked as transparent, and a gamma, change nothing, as with Pillow.
    data = encoded(Image.fromarray(SMOOTH), transparency=tuple(SMOOTH[0, 0].tolist()))
    np.testing.assert_array_equal(decode_png(data), SMOOTH)
    np.testing.assert_array_equal(by_pillow(data), SMOOTH)


def test_other_files_are_left_to_pillow():
    rgb = Image.fromarray(SMOOTH)
    others = [rgb.convert(mode) for mode in ("L", "P", "RGBA", "1", "LA")]
    others.append(Image.fromarray(SMOOTH[..., 0].astype(np.uint16)))
    assert [decode_png(encoded(image)) for image in others] == [None] * 6
    buffer = io.BytesIO()
    rgb.save(buffer, "JPEG")
    for data in (b"", b"\x89PNG", png(SMOOTH)[:25], buffer.getvalue()):
        assert decode_png(data) is None


def test_damaged_files():
    """Cut anywhere, or with any byte changed: what TensorFlow accepts is what Pillow sees."""
    data = png(SMOOTH)
    accepted = 0
    for place in RNG.choice(len(data), 150, replace=False):
        changed = bytearray(data)
        changed[place] ^= 1 << RNG.integers(8)
        for damaged in (data[:place], bytes(changed)):
            pixels = decode_png(damaged)
            if pixels is not None:
                accepted += 1
                expected = by_pillow(damaged)
                assert expected is not None, place
                np.testing.assert_array_equal(pixels, expected)
    assert accepted < 20
    # The line that Pillow's error makes.
    with pytest.raises(InputError, match=r"^a\.png: the image is truncated or damaged"):
        images.decode_image(data[:-40], "a.png")
