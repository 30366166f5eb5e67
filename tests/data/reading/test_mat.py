"""Label maps in MATLAB files, against files that SciPy writes."""

import io
import random
import struct
import zlib

import numpy as np
import pytest
import scipy.io

from sdnjax.data.reading.mat import decode_mat
from sdnjax.errors import InputError
from tests.data.conftest import one_line
from tests.data.miniatures import mat, sbd_mat

RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 460, (11, 7))
CLASSES = RNG.integers(0, 21, (11, 7)).astype(np.uint8)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["u2", "i2", "u4", "i4", "i8", "u8", "f4", "f8"])
def test_matrix_of_every_type(kind, compressed):
    data = mat({"LabelMap": IDS.astype(kind)}, do_compression=compressed)
    result = decode_mat(data, "x")
    assert result.dtype == np.int32
    np.testing.assert_array_equal(result, IDS)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (2, 2), (1, 5)])
def test_small_matrices(shape):
    """Four bytes and fewer are stored in another form."""
    ids = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    np.testing.assert_array_equal(decode_mat(mat({"LabelMap": ids}), "x"), ids)


def test_structure_of_sbd():
    np.testing.assert_array_equal(decode_mat(sbd_mat(CLASSES), "x"), CLASSES)
    # What SciPy reads in the same file.
    theirs = scipy.io.loadmat(io.BytesIO(sbd_mat(CLASSES)))["GTcls"][0]["Segmentation"][0]
    np.testing.assert_array_equal(theirs, CLASSES)


def test_other_variables_are_passed_over():
    data = mat({"note": "text", "cells": np.array([1, "a"], object), "LabelMap": IDS, "z": 1.0})
    np.testing.assert_array_equal(decode_mat(data, "x"), IDS)


def test_big_endian():
    def element(kind, payload):
        return struct.pack(">II", kind, len(payload)) + payload + bytes(-len(payload) % 8)

    values = IDS.astype(">u2").tobytes(order="F")
    parts = element(6, struct.pack(">II", 11, 0)) + element(5, struct.pack(">ii", *IDS.shape))
    parts += element(1, b"LabelMap") + element(4, values)
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI"
    np.testing.assert_array_equal(decode_mat(header + element(14, parts), "x"), IDS)


def header(text=b"MATLAB 5.0 MAT-file", version=b"\x00\x01IM"):
    return text.ljust(124) + version


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"<html>not found</html>", "not a MATLAB file"),
        (header(version=b"\x00\x00XX"), "not a MATLAB file"),
        (header(b"MATLAB 7.3 MAT-file", b"\x00\x02IM"), "a MATLAB 7.3 file; write it again"),
        (header(), "no variable LabelMap or GTcls in it"),
        (mat({"labels": IDS}), "no variable LabelMap or GTcls in it, only 'labels'"),
        (mat({"LabelMap": IDS + 0.5}), "whole numbers from 0 to 65535"),
        (mat({"LabelMap": IDS - 300.0}), "whole numbers from 0 to 65535"),
        (mat({"LabelMap": IDS * np.nan}), "whole numbers from 0 to 65535"),
        (mat({"LabelMap": IDS + 70000}), "whole numbers from 0 to 65535"),
        (mat({"LabelMap": IDS * 1j}), "no matrix of real numbers"),
        (mat({"LabelMap": "text"}), "no matrix of real numbers"),
        (mat({"LabelMap": IDS[None]}), "no matrix of real numbers"),
        (mat({"LabelMap": np.zeros((0, 3))}), "no matrix of real numbers"),
        (mat({"GTcls": CLASSES}), "GTcls is no structure with the field Segmentation"),
        (mat({"GTcls": {"Boundaries": CLASSES}}), "GTcls has no field Segmentation"),
        (mat({"GTcls": {"Segmentation": "text"}}), "no matrix of real numbers"),
        (header() + struct.pack("<II", 14, 1 << 31), "truncated or damaged"),
        (header() + b"\x00" * 16000, "too many elements"),
        (header() + struct.pack("<II", 15, 8) + zlib.compress(b"x")[:8], "truncated or damaged"),
    ],
)
def test_what_is_wrong_is_said(data, message):
    with pytest.raises(InputError) as error:
        decode_mat(data, "cls/a.mat")
    assert one_line(error).startswith("cls/a.mat: ")
    assert message in one_line(error)


def test_compressed_data_may_not_swell_without_end(monkeypatch):
    from sdnjax.data.reading import mat as module

    monkeypatch.setattr(module, "_LIMIT", 4000)
    assert decode_mat(mat({"LabelMap": np.zeros((60, 60), np.uint8)}), "x").shape == (60, 60)
    with pytest.raises(InputError, match="incomplete or too large"):
        decode_mat(mat({"LabelMap": np.zeros((70, 60), np.uint8)}), "x")


@pytest.mark.parametrize("compressed", [False, True])
def test_cut_short_anywhere(compressed):
    data = mat({"LabelMap": IDS.astype(np.uint16)}, do_compression=compressed)
    for kept in range(len(data) - 8):  # the last bytes may be padding
        with pytest.raises(InputError):
            decode_mat(data[:kept], "x")


@pytest.mark.parametrize(
    "original", [mat({"LabelMap": IDS}, do_compression=False), sbd_mat(CLASSES)]
)
def test_damage_ends_in_an_input_error_or_in_labels(original):
    """Random bytes are replaced, those of the structure above all."""
    chance = random.Random(0)
    refused = 0
    for trial in range(3000):
        data = bytearray(original)
        end = min(len(data), 400 if trial % 2 else len(data))
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(124, end)] = chance.choice((0, 1, 2, 14, 15, 127, 255))
        try:
            result = decode_mat(bytes(data), "x")
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
        else:
            assert result.dtype == np.int32
            assert result.ndim == 2
    assert refused > 1000


def test_altered_compressed_file_is_noticed():
    original = sbd_mat(CLASSES)
    for place in range(140, len(original)):
        data = bytearray(original)
        data[place] ^= 0x10
        with pytest.raises(InputError):
            decode_mat(bytes(data), "x")
