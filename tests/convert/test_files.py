"""Reading foreign files: PyTorch's, safetensors, npz; those that are damaged or hostile."""

import collections
import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest

from sdnjax.convert.files import read_file, write_file
from sdnjax.convert.state_dict import as_array, find_state_dict
from sdnjax.errors import InputError

RNG = np.random.default_rng(0)
STATE = {
    "a.weight": RNG.normal(size=(4, 3, 2, 2)).astype(np.float32),
    "a.bias": RNG.normal(size=4).astype(np.float16),
    "b": np.array(7, np.int64),
    "c": np.zeros((0, 5)),
    "d": np.array([True, False]),
}


def arrays(path):
    return find_state_dict(read_file(path), str(path))


def assert_same(found, expected):
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape, name
        assert found[name].tobytes() == value.tobytes(), name


@pytest.mark.parametrize("ending", [".safetensors", ".npz", ".pth"])
def test_what_is_written_is_read(tmp_path, ending):
    path = tmp_path / f"x{ending}"
    write_file(path, STATE)
    assert_same(arrays(path), STATE)
    with pytest.raises(InputError, match="exists"):
        write_file(path, STATE)
    with pytest.raises(InputError, match=r"written as \.safetensors, \.pth, \.npz"):
        write_file(tmp_path / "x.bin", STATE)


def test_safetensors_is_the_packages(tmp_path):
    package = pytest.importorskip("safetensors.numpy")
    package.save_file(STATE, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    assert_same(arrays(tmp_path / "theirs.safetensors"), STATE)
    write_file(tmp_path / "ours.safetensors", STATE)
    assert_same(package.load_file(tmp_path / "ours.safetensors"), STATE)


def test_npz_of_arrays_in_folders_and_compressed(tmp_path):
    state = {"Transformer/encoderblock_0/kernel": STATE["a.weight"], "cls": np.zeros((300, 300))}
    np.savez_compressed(tmp_path / "x.npz", **state)
    assert_same(arrays(tmp_path / "x.npz"), state)


# --- PyTorch's files, written by PyTorch ---


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


class Settings(dict):
    """Stands for a trainer's own classes, which a reader does not have."""


def test_pytorch_loads_what_is_written(tmp_path, torch):
    state = {**STATE, "transposed": STATE["a.weight"].transpose(2, 0, 3, 1)}
    write_file(tmp_path / "x.pth", state)
    loaded = torch.load(tmp_path / "x.pth", weights_only=True)
    assert all(x.is_contiguous() for x in loaded.values())
    assert_same({k: x.numpy() for k, x in loaded.items()}, state)


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files(tmp_path, torch, zipped):
    storage = torch.arange(60, dtype=torch.float32)
    state = collections.OrderedDict(
        transposed=storage[:12].reshape(3, 4).T,
        shared=storage[20:50:2].reshape(5, 3),
        parameter=torch.nn.Parameter(torch.randn(2, 3, dtype=torch.float64)),
        half=torch.randn(5).half(),
        bfloat16=torch.randn(6, 2).bfloat16()[1:, :],
        count=torch.tensor(3),
        flags=torch.tensor([True, False]),
        empty=torch.zeros(0, 3),
        expanded=torch.ones(1, 3).expand(4, 3),
    )
    state._metadata = {"": {"version": 1}}
    content = {
        "meta": {
            "config": Settings(a=1),
            "scalar": np.float64(3.5),
            "array": np.arange(3),
            "set": {1, 2},
            "path": tmp_path,
            "size": torch.Size([1, 2]),
            "dtype": torch.float32,
        },
        "state_dict": state,
        "optimizer": {"state": {0: {"momentum": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
    }
    path = tmp_path / "x.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    expected = {k: v.detach() for k, v in state.items()}
    expected["bfloat16"] = expected["bfloat16"].float()
    assert_same(arrays(path), {k: v.numpy() for k, v in expected.items()})
    assert read_file(path)["optimizer"]["param_groups"] == [{"lr": 0.1}]


def test_a_whole_module_is_refused(tmp_path, torch):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pt")
    with pytest.raises(InputError, match=r"whole torch.nn.modules.linear.Linear.*state_dict"):
        read_file(tmp_path / "x.pt")
    torch.save({"model": torch.nn.Linear(2, 2), "epoch": 1}, tmp_path / "y.pt")
    with pytest.raises(InputError, match=r"holds no tensors.*'model' a whole module. Save its sta"):
        arrays(tmp_path / "y.pt")
    with zipfile.ZipFile(tmp_path / "z.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("data.pkl", "constants.pkl", "code/model.py"):
            archive.writestr(f"z/{name}", "x" * 500)
    with pytest.raises(InputError, match=r"z.pt cannot be read: it is a TorchScript program: save"):
        read_file(tmp_path / "z.pt")


@pytest.mark.parametrize("kind", ["sparse", "complex"])
def test_kinds_of_tensors_that_are_not_read(tmp_path, torch, kind):
    tensor = {
        "sparse": lambda: torch.eye(3).to_sparse(),
        "complex": lambda: torch.ones(2, dtype=torch.complex64),
    }[kind]()
    torch.save({"state_dict": {"w": torch.ones(2), "x": tensor}}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"x\.pth: x is a tensor of a kind that is not read"):
        arrays(tmp_path / "x.pth")


def test_tensors_in_memory(torch):
    weight = torch.nn.Parameter(torch.randn(3, 2).bfloat16())
    np.testing.assert_array_equal(as_array(weight, ""), weight.detach().float().numpy())
    with pytest.raises(InputError, match="x is no dense tensor"):
        as_array(torch.eye(3).to_sparse(), "x")
    with pytest.raises(InputError, match="x holds complex64"):
        as_array(torch.ones(2, dtype=torch.complex64), "x")


# --- PyTorch's files, made by hand: nothing here needs PyTorch ---


class Id(tuple):
    """A persistent id."""


class Writer(pickle._Pickler):
    """A pickler of names that need not exist, and of persistent ids."""

    def persistent_id(self, value):
        return tuple(value) if isinstance(value, Id) else None

    def save(self, value, save_persistent_id=True):
        if isinstance(value, Call):
            self.save_name(value.name)
            self.save(value.arguments)
            self.write(pickle.REDUCE)
        elif isinstance(value, str) and value.startswith("!"):
            self.save_name(value[1:])
        else:
            super().save(value, save_persistent_id)

    def save_name(self, name):
        self.write(pickle.GLOBAL + "\n".join(name.rsplit(".", 1)).encode() + b"\n")


class Call:
    """A call that the reader is asked to make."""

    def __init__(self, name, *arguments):
        self.name, self.arguments = name, arguments


def tensor(*, shape=(2, 3), strides=(3, 1), offset=0, count=6, kind="torch.FloatStorage", key="0"):
    storage = Id(("storage", f"!{kind}", key, "cpu", count))
    return Call("torch._utils._rebuild_tensor_v2", storage, offset, shape, strides, False, {})


def write_pth(path, content, *, storages=None, compression=zipfile.ZIP_STORED, protocol=2):
    """A zip archive as torch.save makes it."""
    file = io.BytesIO()
    Writer(file, protocol).dump(content)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("x/data.pkl", file.getvalue())
        archive.writestr("x/byteorder", "little")
        for key, data in (storages or {"0": np.arange(6, dtype="<f4").tobytes()}).items():
            archive.writestr(f"x/data/{key}", data)
    return path


def test_a_file_made_by_hand_is_read(tmp_path):
    path = write_pth(tmp_path / "x.pth", {"state_dict": {"a": tensor()}})
    assert_same(arrays(path), {"a": np.arange(6, dtype=np.float32).reshape(2, 3)})


HOSTILE = [
    Call("os.system", "touch RAN"),
    Call("posix.system", "touch RAN"),
    Call("subprocess.Popen", ("touch", "RAN")),
    Call("builtins.eval", "__import__('os').system('touch RAN')"),
    Call("builtins.exec", "open('RAN', 'w')"),
    Call("pathlib.Path.touch", "RAN"),  # an unknown one: skipped, and not called either
]


@pytest.mark.parametrize("place", ["top", "meta", "state_dict", "tensor"])
@pytest.mark.parametrize("call", HOSTILE, ids=lambda call: call.name)
def test_nothing_is_executed(tmp_path, monkeypatch, call, place):
    monkeypatch.chdir(tmp_path)
    content = {
        "top": call,
        "meta": {"meta": [call], "state_dict": {"a": tensor()}},
        "state_dict": {"state_dict": call},
        "tensor": {"state_dict": {"a": tensor(offset=call)}},
    }[place]
    path = write_pth(tmp_path / "x.pth", content)
    if call.name == "pathlib.Path.touch" and place == "meta":
        assert list(arrays(path)) == ["a"]
    else:
        refusal = "x.pth.*(refused, nothing of it was run|whole|holds no tensors|no sizes)"
        with pytest.raises(InputError, match=refusal):
            arrays(path)
    assert os.listdir(tmp_path) == ["x.pth"]  # noqa: PTH208


def test_real_pickles_of_harm_are_refused_in_every_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Harm:
        def __reduce__(self):
            return os.system, ("touch RAN",)

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps({"state_dict": {"a": Harm()}}, protocol)
        with zipfile.ZipFile("x.pth", "w") as archive:
            archive.writestr("x/data.pkl", data)
        with pytest.raises(InputError, match=r"wants to use (posix|nt)\.system"):
            read_file("x.pth")
        with open("y.pth", "wb") as file:  # noqa: PTH123
            for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
                pickle.dump(part, file, 2)
            file.write(data)
        with pytest.raises(InputError, match=r"wants to use (posix|nt)\.system"):
            read_file("y.pth")
    assert sorted(os.listdir()) == ["x.pth", "y.pth"]  # noqa: PTH208


DAMAGED_TENSORS = {
    "beyond its storage": tensor(count=6, offset=1),
    "reaches beyond": tensor(shape=(2, 4), strides=(4, 1)),
    "has 24 of 4000 bytes": tensor(count=1000),
    "negative size": tensor(count=-1),
    "are no sizes": tensor(shape=(-2, 3)),
    "no sizes": tensor(strides=(-1, 1)),
    "offset, shape": tensor(shape=(2**60, 3), strides=(0, 1)),
    "or strides are": tensor(shape=(2,)),
    "no array can be": tensor(shape=(1,) * 65, strides=(0,) * 65),
    "made of 6 numbers": tensor(shape=(2**40, 2**40), strides=(0, 0)),
    "x/data/1 is missing": tensor(key="1"),
    "unknown persistent id": Id(("storage",)),
}


@pytest.mark.parametrize("message", DAMAGED_TENSORS)
def test_tensors_that_do_not_fit_their_storage(tmp_path, message):
    path = write_pth(tmp_path / "x.pth", {"state_dict": {"a": DAMAGED_TENSORS[message]}})
    with pytest.raises(InputError, match=f"x.pth.*{message}"):
        arrays(path)


def test_zip_bombs(tmp_path):
    zeros = {"0": bytes(10**7)}
    content = {"a": tensor(shape=(2500000,), strides=(1,), count=2500000)}
    options = {"storages": zeros, "compression": zipfile.ZIP_DEFLATED}
    path = write_pth(tmp_path / "x.pth", content, **options)
    with pytest.raises(InputError, match="would unpack to 100"):
        read_file(path)
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros(2 * 10**8, np.uint8))
    with pytest.raises(InputError, match="claims to unpack to 200000128 bytes"):
        read_file(tmp_path / "x.npz")


def damaged(data, rng):
    """The bytes cut short, or with some of them changed."""
    data = bytearray(data)
    if rng.random() < 0.3:
        return bytes(data[: rng.integers(len(data))])
    for _ in range(rng.integers(1, 6)):
        data[rng.integers(len(data))] = rng.integers(256)
    return bytes(data)


@pytest.mark.parametrize("kind", [".pth", "legacy.pth", ".safetensors", ".npz"])
def test_damaged_files_give_one_error_or_are_read(tmp_path, kind):
    """Whatever happens to a file, the answer is an InputError that names it, or arrays."""
    whole, broken = tmp_path / f"x{kind}", tmp_path / f"broken{kind}"
    if kind == ".pth":
        write_pth(whole, {"meta": [1, {"k": (2.5, None)}], "state_dict": {"a": tensor()}})
    elif kind == "legacy.pth":
        write_legacy(whole, {"meta": {"a": [1, 2]}, "state_dict": {"a": tensor()}})
    else:
        write_file(whole, STATE)
    assert arrays(whole)
    rng, refused = np.random.default_rng(0), 0
    for _ in range(150):
        broken.write_bytes(damaged(whole.read_bytes(), rng))
        try:
            arrays(broken)
        except InputError as error:
            assert "broken" in str(error) and "\n" not in str(error)
            refused += 1
    assert refused > 50


def write_legacy(path, content):
    with path.open("wb") as file:
        for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(part, file, 2)
        Writer(file, 2).dump(content)
        pickle.dump(["0"], file, 2)
        file.write((6).to_bytes(8, "little") + np.arange(6, dtype="<f4").tobytes())


def test_a_truncated_legacy_file(tmp_path):
    path = tmp_path / "x.pth"
    write_legacy(path, {"a": tensor()})
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"x.pth cannot be read: it ends within the storage '0'"):
        read_file(path)


@pytest.mark.parametrize("keep", [3, 100, -30])
def test_a_truncated_zip(tmp_path, keep):
    path = write_pth(tmp_path / "x.pth", {"a": tensor()})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"x\.pth cannot be read: "):
        read_file(path)


def safetensors(path, header, data=bytes(8), length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if length is None else length
    path.write_bytes(length.to_bytes(8, "little") + text + data)


def entry(dtype="F32", shape=(2,), start=0, stop=8):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": entry(stop=16)}, "do not fill the bytes 0 to 16"),
        ({"a": entry(shape=(4,), stop=16)}, "8 bytes of data where its header names 16"),
        ({"a": entry(shape=(1,), stop=4)}, "8 bytes of data where its header names 4"),
        ({"a": entry(), "b": entry(shape=(1,), start=4, stop=8)}, "b starts at byte 4, not at 8"),
        ({"a": entry(shape=(1,), start=4, stop=8)}, "a starts at byte 4, not at 0"),
        ({"a": entry(shape=(-2,), stop=-8)}, "no sizes"),
        ({"a": entry(shape=(2**70,), stop=2**72)}, "no sizes"),
        ({"a": entry(shape=(2.0,))}, "no sizes"),
        ({"a": entry(shape=(2,), start=8, stop=0)}, "do not fill"),
        ({"a": entry(dtype="F8_E4M3")}, "'F8_E4M3'; known are"),
        ({"a": [1]}, "no dtype, shape and data_offsets"),
        ({"a": {"dtype": "F32"}}, "no dtype, shape and data_offsets"),
        ([1, 2], "its header is no mapping"),
        (b'{"a": 1, "a": 2}', "a name occurs twice"),
        (b"[" * 100_000, "damaged header"),
        (b'{"a": 1,}', "damaged header"),
        (b"\xff\xfe", "damaged header"),
    ],
)
def test_safetensors_that_break_the_format(tmp_path, header, message):
    path = tmp_path / "x.safetensors"
    safetensors(path, header)
    with pytest.raises(InputError, match=f"x.safetensors.*{message}"):
        read_file(path)


@pytest.mark.parametrize("length", [2**63, 10**9, 200])
def test_a_header_longer_than_its_file(tmp_path, length):
    path = tmp_path / "x.safetensors"
    safetensors(path, {"a": entry()}, length=length)
    with pytest.raises(InputError, match=f"its header would have {length} bytes"):
        read_file(path)


def test_npz_with_objects_or_false_sizes(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, a=np.array([{}], object))
    with pytest.raises(InputError, match=r"a.npy holds Python objects"):
        read_file(path)
    file = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**15,)}
    np.lib.format.write_array_header_1_0(file, header)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", file.getvalue())
    with pytest.raises(InputError, match=r"a.npy is damaged: \(1000000000000000,\)"):
        read_file(path)


def test_files_that_are_none(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*x.pth: No such file"):
        read_file(tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"cannot read .*x.txt: No such"):
        read_file(tmp_path / "x.txt")
    for ending in (".pth", ".npz", ".safetensors"):
        (tmp_path / f"x{ending}").write_bytes(b"<html>404</html>")
        with pytest.raises(InputError, match=f"x{ending}"):
            read_file(tmp_path / f"x{ending}")
        (tmp_path / f"y{ending}").mkdir()
        with pytest.raises(InputError, match=f"y{ending} is a folder without a check"):
            read_file(tmp_path / f"y{ending}")


def test_where_the_state_dict_is():
    weight = np.ones(2, np.float32)
    for content in (
        {"w": weight, "epoch": 3},
        {"state_dict": {"w": weight}, "epoch": weight[0].item()},
        {"model": {"w": weight}, "optimizer": {"w": 2}, "best_accuracy": np.float32(3)},
    ):
        assert_same(find_state_dict(content, "x"), {"w": weight})
    with pytest.raises(InputError, match=r"x holds no tensors.*it has 'epoch'"):
        find_state_dict({"epoch": 3}, "x")
    with pytest.raises(InputError, match="x has a tensor without a printable name"):
        find_state_dict({"a\x1b[2J": weight}, "x")
