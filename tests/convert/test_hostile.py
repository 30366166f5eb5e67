"""Whatever is in a foreign file, the answer is arrays or one short, printable line."""

import io
import json
import pickle
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from sdnjax.convert.files import read_file, write_file
from sdnjax.convert.state_dict import as_array, find_tensors
from sdnjax.errors import InputError
from tests.convert.test_files import Call, Id, Writer, entry, safetensors, tensor, write_pth

WANTED = {"a", "b"}


def outcome(path):
    """ "read", or the line that a user gets; anything else that is raised fails the test."""
    try:
        state = find_tensors(read_file(path), WANTED, str(path)).state
        for name in state.keys() & WANTED:
            as_array(state[name], f"{path}: {name}")
    except InputError as error:
        line = str(error).replace(str(path.parent), "")
        assert line.isprintable() and len(line) < 600, line[:200]
        return line
    return "read"


def legacy(path, content, storages):
    """`storages`: key → array, of float32."""
    with path.open("wb") as file:
        for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(part, file, 2)
        Writer(file, 2).dump(content)
        pickle.dump(list(storages), file, 2)
        for array in storages.values():
            file.write(array.size.to_bytes(8, "little") + array.tobytes())
    return path


def test_a_legacy_file_that_also_holds_a_module(tmp_path):
    module = Id(("module", "!my.network.Head", "network.py", "class Head: ..."))
    content = {"state_dict": {"a": tensor()}, "head": [module]}
    data = {"0": np.arange(6, dtype="<f4")}
    path = legacy(tmp_path / "x.pth", content, data)
    found = find_tensors(read_file(path), WANTED, "x").state["a"]
    np.testing.assert_array_equal(as_array(found, "a"), data["0"].reshape(2, 3))


def test_storages_that_many_tensors_share_are_not_copied(tmp_path):
    count, size = 200, 10**6
    flat = np.arange(size, dtype="<f4")
    content = {
        f"w{i}": tensor(
            shape=(size // count,), strides=(1,), offset=i * (size // count), count=size
        )
        for i in range(count)
    }
    path = legacy(tmp_path / "x.pth", content, {"0": flat})
    tracemalloc.start()
    state = find_tensors(read_file(path), set(content), "x").state
    arrays = [as_array(state[name], name) for name in content]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < flat.nbytes
    np.testing.assert_array_equal(np.concatenate(arrays), flat)


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_what_is_not_wanted_is_not_read(tmp_path, kind):
    """A file with a gibibyte beside the two numbers that are wanted (a sparse one)."""
    size, path = 2**30, tmp_path / f"x.{kind}"
    if kind == "safetensors":
        header = {"z": entry(shape=(size // 4,), stop=size), "a": entry(start=size, stop=size + 8)}
        text = json.dumps(header).encode()
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.seek(size, io.SEEK_CUR)
            file.write(np.array([1, 2], "<f4").tobytes())
    else:
        big = {"shape": (size // 4,), "strides": (1,), "count": size // 4, "key": "1"}
        small = {"shape": (2,), "strides": (1,), "count": 2}
        legacy(path, {"z": tensor(**big), "a": tensor(**small)}, {"0": np.array([1, 2], "<f4")})
        data = bytearray(path.read_bytes())
        at = data.rindex(pickle.dumps(["0"], 2))
        keys = pickle.dumps(["1", "0"], 2)
        with path.open("wb") as file:
            file.write(data[:at] + keys + (size // 4).to_bytes(8, "little"))
            file.seek(size, io.SEEK_CUR)
            file.write((2).to_bytes(8, "little") + np.array([1, 2], "<f4").tobytes())
    tracemalloc.start()
    found = find_tensors(read_file(path), {"a"}, "x").state
    np.testing.assert_array_equal(as_array(found["a"], "a"), [1, 2])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found["z"].shape == (size // 4,)
    assert peak < 10**6


HUGE = 10**4200  # Python reads it and would rather not print it
HEADERS = {
    "no sizes": entry(shape=(HUGE,)),
    "digits": b'{"a": {"dtype": "F32", "shape": [' + b"9" * 5000 + b'], "data_offsets": [0, 8]}}',
    "a list": {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]},
    "a dict": {"dtype": {}, "shape": [2], "data_offsets": [0, 8]},
    "more than 64 axes": entry(shape=[1] * 65),
    "64 axes": entry(shape=[2**62] * 100_000),
    "64 axes, or none": {"dtype": "F32", "shape": None, "data_offsets": [0, 8]},
    "no dtype": {"dtype": "F32", "shape": [2], "data_offsets": 8},
    "known are": entry(dtype="\x1b[2J" * 10**5),
}


@pytest.mark.parametrize("message", HEADERS)
def test_hostile_headers(tmp_path, message):
    header = HEADERS[message]
    path, start = tmp_path / "x.safetensors", time.process_time()
    safetensors(path, header if isinstance(header, bytes) else {"a": header})
    assert message in outcome(path)
    assert time.process_time() - start < 10  # a minute, where all sizes are multiplied


@pytest.mark.parametrize("name", ["a\nb", "\x1b]0;x\x07", "n" * 1_500_000, "\ud800", "a" * 400])
def test_names_that_are_none(tmp_path, name):
    path = tmp_path / "x.safetensors"
    safetensors(path, {name: entry(), "a": entry(start=8, stop=20)}, bytes(20))
    assert outcome(path) != "read"
    safetensors(path, {name: entry(), "a": entry(start=8, stop=16)}, bytes(16))
    assert "without a printable name" in outcome(path)
    write_pth(tmp_path / "y.pth", {name.replace("\ud800", "\0"): tensor(), "a": tensor()})
    assert "without a printable name" in outcome(tmp_path / "y.pth")
    (tmp_path / "x.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    assert "no file beside it" in outcome(tmp_path / "x.index.json") or len(name) == 400


TENSORS = {
    "larger than any file": tensor(count=10**5000),
    "would be larger than any": tensor(count=2**61),
    "no array can be": tensor(shape=(1,) * 65, strides=(0,) * 65),
    "100000 axes": tensor(shape=(2,) * 100_000, strides=(1,) * 100_000),
    "no sizes": tensor(shape=(10**5000,), strides=(1,)),
    "x/data/": tensor(key="\x1b[2J" * 10**5),
    "cannot be read": tensor(shape=None, strides=None),
}


@pytest.mark.parametrize("message", TENSORS)
def test_hostile_tensors(tmp_path, message):
    start = time.process_time()
    assert message in outcome(write_pth(tmp_path / "x.pth", {"a": TENSORS[message]}))
    path = legacy(tmp_path / "y.pth", {"a": TENSORS[message]}, {"0": np.zeros(6, "<f4")})
    assert outcome(path) != "read"
    assert time.process_time() - start < 10  # a minute, where all sizes are multiplied


def test_mappings_that_never_end(tmp_path):
    inner = {}
    inner["inner"] = inner
    with (tmp_path / "x.pkl").open("wb") as file:
        pickle.dump({"more": inner, "epoch": 3}, file, 2)
    assert "holds no tensors" in outcome(tmp_path / "x.pkl")
    deep = {"a": np.ones(2)}
    for _ in range(300):
        deep = {"x": deep}
    with (tmp_path / "y.pkl").open("wb") as file:
        pickle.dump(deep, file, 2)
    assert "holds no tensors" in outcome(tmp_path / "y.pkl")


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_numpy_beside_tensors_and_alone(tmp_path, protocol):
    """Caffe2's and detectron2's files are pickles of arrays by name."""
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.asfortranarray(np.arange(6, dtype=">f8").reshape(3, 2)),
        "objects": np.array([{}, None]),
        "words": np.array(["x"]),
    }
    with (tmp_path / "x.pkl").open("wb") as file:
        pickle.dump({"model": arrays, "__author__": "us"}, file, protocol)
    write_pth(tmp_path / "y.pth", {"model": {**arrays, "c": tensor()}}, protocol=protocol)
    for name in ("x.pkl", "y.pth"):
        found = find_tensors(read_file(tmp_path / name), WANTED, "x").state
        assert ("c" in found) == (name == "y.pth")
        for key in ("a", "b"):
            np.testing.assert_array_equal(as_array(found[key], key), arrays[key])


# --- Fuzz: values of any kind in any place ---


def strange(rng, depth=0):
    """A value as it might stand where another is expected."""
    simple = [
        *(None, True, -1, 0, 1, 2**31, 2**61, 10**5000, 1.5, float("nan")),
        *("", "a", "a.b", "\x1b[2J", "x" * 2000, "0", "torch.float32", b"\x00\xff"),
        *((), [], {}, "!torch.FloatStorage", "!os.path", Id(("storage",))),
    ]
    draw = rng.integers(0, 8 if depth < 3 else 4)
    if draw < 4:
        return simple[rng.integers(len(simple))]
    inner = [strange(rng, depth + 1) for _ in range(rng.integers(0, 4))]
    names = ("torch._utils._rebuild_tensor_v2", "collections.OrderedDict", "numpy.dtype")
    names += ("numpy.core.multiarray._reconstruct", "torch.Size", "_codecs.encode", "my.Thing")
    names += ("torch._utils._rebuild_parameter", "numpy.core.numeric._frombuffer")
    kinds = [
        lambda: tuple(inner),
        lambda: {f"k{i}": x for i, x in enumerate(inner)},
        lambda: Call(names[rng.integers(len(names))], *inner),
        lambda: tensor(**{("shape", "strides", "offset", "count")[rng.integers(4)]: strange(rng)}),
    ]
    return kinds[draw - 4]()


@pytest.mark.parametrize("seed", range(4))
def test_fuzz_of_pickles(tmp_path, seed):
    rng, answers = np.random.default_rng(seed), []
    for _ in range(120):
        content = {"a": strange(rng), "state_dict": {"a": strange(rng), "b": tensor()}}
        try:
            write_pth(tmp_path / "x.pth", content if rng.random() < 0.8 else strange(rng))
        except (TypeError, RecursionError, OverflowError, ValueError):  # of the writer
            continue
        answers.append(outcome(tmp_path / "x.pth"))
    assert 5 < answers.count("read") < len(answers) - 5


@pytest.mark.parametrize("seed", range(2))
def test_fuzz_of_headers(tmp_path, seed):
    rng, answers = np.random.default_rng(seed), []
    values = (
        None,
        True,
        -1,
        0,
        2,
        8,
        2**63,
        1e308,
        "F32",
        "F33",
        "x" * 500,
        [],
        {},
        [[2]],
        [2, -2],
    )
    for _ in range(200):
        header = {"a": entry(), "b": entry(start=8, stop=16)}
        place = header[("a", "b")[rng.integers(2)]]
        key = ("dtype", "shape", "data_offsets")[rng.integers(3)]
        place[key] = values[rng.integers(len(values))]
        if rng.random() < 0.1:
            header["b"] = values[rng.integers(len(values))]
        safetensors(tmp_path / "x.safetensors", header, bytes(16))
        answers.append(outcome(tmp_path / "x.safetensors"))
    assert 0 < answers.count("read") < 100


@pytest.mark.parametrize("kind", ["x.pth", "x.safetensors", "x.npz", "x.pkl", "x.index.json"])
def test_fuzz_of_first_bytes(tmp_path, kind):
    """Files are known by their content: every beginning leads to one line."""
    rng = np.random.default_rng(0)
    beginnings = [
        b"PK\x03\x04",
        b"\x80\x02",
        b"\x80\x04",
        b"{",
        b"\x08\0\0\0\0\0\0\0{",
        b"",
        b"\x1f\x8b",
    ]
    for beginning in beginnings:
        for size in (0, 1, 40, 600):
            (tmp_path / kind).write_bytes(beginning + rng.bytes(size))
            assert outcome(tmp_path / kind) != "read"


def test_what_people_take_for_checkpoints(tmp_path):
    path = tmp_path / "x.pth"
    for content, message in {
        b"<!DOCTYPE html><html>": "is a web page: the download did not give the file",
        b"version https://git-lfs.github.com/spec/v1\noid": "is a pointer of Git LFS: fetch",
        b"\x1f\x8b\x08\x00": "is compressed with gzip: unpack it first",
        b"\x89HDF\r\n\x1a\n": "is an HDF5 file",
        bytes(257) + b"ustar\0": "is a tar archive: unpack it first",
        b"\x93NUMPY\x01\x00": "is a single array without a name",
    }.items():
        path.write_bytes(content)
        assert message in outcome(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/model.pth", "x")
    assert "a zip archive that holds neither" in outcome(path)
    (tmp_path / "x.txt").write_bytes(b"hello there")
    assert "is no checkpoint: neither safetensors" in outcome(tmp_path / "x.txt")


NAMES = {
    ".pth": ("x.pth.tar", "x", "x.bin", "x.safetensors"),
    ".safetensors": ("x.pt", "weights"),
    ".npz": ("x.bin", "x.pth"),
}


@pytest.mark.parametrize(
    ("written", "name"), [(written, name) for written in NAMES for name in NAMES[written]]
)
def test_files_are_known_by_their_content(tmp_path, written, name):
    state = {"a": np.arange(3, dtype=np.float32)}
    write_file(tmp_path / f"whole{written}", state)
    (tmp_path / f"whole{written}").rename(tmp_path / name)
    assert outcome(tmp_path / name) == "read"


def test_shards_and_folders(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(InputError, match=r"is a folder without a checkpoint: model.safetensors"):
        read_file(folder)
    for i, name in enumerate("ab"):
        write_file(folder / f"part{i}.safetensors", {name: np.full(2, i, np.float32)})
    with pytest.raises(InputError, match=r"holds part0.safetensors, part1.safetensors: name one"):
        read_file(folder)
    index = folder / "model.safetensors.index.json"
    places = {"a": "part0.safetensors", "b": "part1.safetensors"}
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    for source in (index, folder, str(folder)):
        found = read_file(source)
        assert {k: np.asarray(v).tolist() for k, v in found.items()} == {"a": [0, 0], "b": [1, 1]}
    for changed, message in (
        ({**places, "c": "part0.safetensors"}, "'c' is not in 'part0.safetensors'"),
        ({**places, "b": "part2.safetensors"}, "'part2.safetensors', which is not beside it"),
        ({**places, "b": "../x.pth"}, "'../x.pth', which is no file beside it"),
        ({"a": index.name}, "names itself"),
        ({"b": "part0.safetensors"}, "'b' is not in"),
        ([], "is no index of shards"),
    ):
        index.write_text(json.dumps({"weight_map": changed}))
        with pytest.raises(InputError, match=message):
            read_file(index)
    write_file(folder / "model.safetensors", {"a": np.ones(2, np.float32)})
    assert list(read_file(folder)) == ["a"]
