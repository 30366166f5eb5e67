"""Superpixels as they are stored: PNG files of 16 bits."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from sdnjax.errors import InputError


def encode_superpixels(superpixels: np.ndarray) -> bytes:
    """[H, W] of 0…65535 as a PNG of 16 bits."""
    buffer = io.BytesIO()
    Image.fromarray(superpixels.astype(np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


def decode_superpixels(data: bytes, name: str) -> np.ndarray:
    """The int32 [H, W] of `encode_superpixels`; InputError that names the image if damaged."""
    try:
        return np.asarray(Image.open(io.BytesIO(data))).astype(np.int32)
    except (OSError, SyntaxError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{name}: its superpixels are damaged ({reason})") from None
