"""convert.py as a user calls it, with a network small enough to train."""

import types

import jax
import numpy as np
import pytest
from PIL import Image

from sdnjax.commands.trained import load_network
from sdnjax.convert import batch_norm, conv
from sdnjax.convert.files import read_file, write_file
from sdnjax.convert.state_dict import find_state_dict
from sdnjax.convert.tables import OF_FAMILY
from sdnjax.convert.torch_writer import write_torch_file
from sdnjax.losses import cross_entropy
from sdnjax.models.model_settings import Model
from tests.commands.test_entry_points import SMALL, assert_one_line
from tests.training.tiny import Tiny

ROWS = [
    *conv("conv", "net.0"),
    *batch_norm("BatchNorm_0", "net.1"),
    *conv("Classifier_0/seg", "head", bias=True),
    *conv("Classifier_1/seg", "auxiliary", bias=True),
]
K = 11


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch):
    table = types.SimpleNamespace(rows=lambda _: ROWS, IGNORED=(".num_batches_tracked",))
    monkeypatch.setitem(OF_FAMILY, "fcn", table)
    monkeypatch.setattr(Model, "build", lambda self, num_classes, dtype=None: Tiny(num_classes))


@pytest.fixture
def state():
    rng = np.random.default_rng(0)
    shapes = {"net.0.weight": (8, 3, 3, 3), "head.weight": (K, 8, 1, 1), "head.bias": (K,)}
    shapes |= {"auxiliary.weight": (K, 8, 1, 1), "auxiliary.bias": (K,), "net.1.weight": (8,)}
    shapes |= {"net.1.bias": (8,), "net.1.running_mean": (8,), "net.1.running_var": (8,)}
    state = {k: rng.normal(size=shape).astype(np.float32) for k, shape in shapes.items()}
    state["net.1.running_var"] = np.abs(state["net.1.running_var"]) + 0.5
    return state | {"net.1.num_batches_tracked": np.zeros((), np.int64)}


@pytest.fixture
def converted(call, config, camvid, state, tmp_path):
    """Arguments of train.py and the work directory that from-torch made."""
    write_file(tmp_path / "theirs.safetensors", state)
    words = (config, "--data.dir", camvid, "--workdir", tmp_path / "run", *SMALL)
    status, out, err = call(
        "convert.py", "from-torch", config, tmp_path / "theirs.safetensors", *words[1:]
    )
    assert (status, err) == (0, ""), err
    assert f"9/9 tensors loaded from {tmp_path / 'theirs.safetensors'}; reinit" in out
    return words, tmp_path / "run"


def variables_of(state):
    """The network's own tree, put together by hand."""

    def seg(name):
        kernel = state[f"{name}.weight"].transpose(2, 3, 1, 0)
        return {"seg": {"kernel": kernel, "bias": state[f"{name}.bias"]}}

    norm = {"scale": state["net.1.weight"], "bias": state["net.1.bias"]}
    stats = {"mean": state["net.1.running_mean"], "var": state["net.1.running_var"]}
    return {
        "params": {
            "conv": {"kernel": state["net.0.weight"].transpose(2, 3, 1, 0)},
            "BatchNorm_0": norm,
            "Classifier_0": seg("head"),
            "Classifier_1": seg("auxiliary"),
        },
        "batch_stats": {"BatchNorm_0": stats},
    }


def test_a_converted_network_predicts_trains_and_goes_back(call, converted, state, tmp_path):
    words, run = converted
    back = tmp_path / "back.pth"
    status, out, err = call("convert.py", "to-torch", run, back)
    assert (status, err) == (0, "") and f"10 tensors of step 0 written to {back}" in out
    for name, value in find_state_dict(read_file(back), "").items():
        assert value.dtype == state[name].dtype and value.tobytes() == state[name].tobytes()

    picture = tmp_path / "camvid" / "val" / "0.png"
    status, out, err = call("predict.py", run, picture, "--out", tmp_path / "out")
    assert (status, err) == (0, ""), err
    pixels = np.asarray(Image.open(picture), np.float32)
    x = (pixels - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
    x = x.astype(np.float32)[None]
    logits = Tiny(K).apply(variables_of(state), x, train=False)["logits"]
    labels = np.asarray(Image.open(tmp_path / "out" / "0_labels.png"))
    assert np.mean(labels == np.argmax(logits[0], axis=-1)) > 0.999
    assert len(np.unique(labels)) > 2

    status, out, err = call("train.py", *words, "--resume")
    assert (status, err) == (0, ""), err
    assert "from step 0 to 6" in out and "step 6/6" in out


def test_what_does_not_fit_leaves_nothing_behind(call, config, state, tmp_path):
    file, run = tmp_path / "x.npz", tmp_path / "run"
    bad = {k: v for k, v in state.items() if k != "head.bias"} | {"extra": np.ones(2, np.float32)}
    write_file(file, bad)
    result = call("convert.py", "from-torch", config, file, "--workdir", run)
    assert_one_line(result, "2 tensor(s) do not fit: head.bias is missing; extra is left over")
    options = ("--reinitialise", "Classifier_0", "--ignore", "ext", "--table", "mmseg_fcm")
    result = call("convert.py", "from-torch", config, file, "--workdir", run, *options)
    assert_one_line(result, "no table 'mmseg_fcm'", "did you mean mmseg_fcn")
    assert not run.exists()
    status, out, _ = call("convert.py", "from-torch", config, file, "--workdir", run, *options[:-2])
    assert status == 0
    assert "reinitialised: params/Classifier_0/seg/bias, params/Classifier_0/seg/kernel" in out
    assert "ignored: extra, head.weight, net.1.num_batches_tracked" in out
    result = call("convert.py", "from-torch", config, file, "--workdir", run, *options[:-2])
    assert_one_line(result, "holds this run already", "--overwrite")
    result = call("convert.py", "to-torch", run, tmp_path / "x.bin")
    assert_one_line(result, "written as .safetensors, .pth, .npz")


@pytest.fixture
def batch():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, K, (2, 1, 9, 7))
    labels[0, 0, :2] = 255
    return {"images": rng.normal(size=(2, 3, 9, 7)), "labels": labels}


def reference(state, batch):
    """Activations, gradients and one step of SGD, without the library's step."""
    x = batch["images"].transpose(0, 2, 3, 1)
    variables = jax.tree.map(np.float64, variables_of(state))
    outputs, kept = Tiny(K).apply(
        variables, x, train=False, capture_intermediates=True, mutable=["intermediates"]
    )
    inner = kept["intermediates"]
    saved = {
        "net.0": inner["conv"]["__call__"][0],
        "net.1": inner["BatchNorm_0"]["__call__"][0],
        "logits": outputs["logits"],
    }

    def loss(params):
        outputs, changed = Tiny(K, dropout=0.0).apply(
            {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
        )
        y = batch["labels"][:, 0]
        main, other = (
            cross_entropy(outputs[k], y, normalize_by="all_pixels") for k in ("logits", "auxiliary")
        )
        return main + 0.3 * other, changed["batch_stats"]["BatchNorm_0"]

    gradient, stats = jax.grad(loss, has_aux=True)(variables["params"])

    def theirs(tree, stats):
        names = {"head": tree["Classifier_0"]["seg"], "auxiliary": tree["Classifier_1"]["seg"]}
        found = {"net.0.weight": tree["conv"]["kernel"].transpose(3, 2, 0, 1)}
        for name, seg in names.items():
            found[f"{name}.weight"] = seg["kernel"].transpose(3, 2, 0, 1)
            found[f"{name}.bias"] = seg["bias"]
        norm = tree["BatchNorm_0"]
        found |= {"net.1.weight": norm["scale"], "net.1.bias": norm["bias"]}
        found |= {f"net.1.running_{k}": v for k, v in stats.items()}
        return {k: np.asarray(v) for k, v in found.items()}

    stepped = jax.tree.map(lambda w, g: w - 0.1 * (g + 5e-4 * w), variables["params"], gradient)
    saved = {k: np.asarray(v).transpose(0, 3, 1, 2) for k, v in saved.items()}
    return saved, theirs(gradient, {}), theirs(stepped, stats)


def test_compare(call, converted, state, batch, tmp_path):
    _, run = converted
    with jax.enable_x64(True):
        activations, gradients, stepped = reference(state, batch)
    files = {
        "activations": activations | {"images": batch["images"]},
        "parameters": {k: v for k, v in state.items() if v.ndim},
        "gradients": gradients | batch,
        "step": stepped | batch,
    }
    words = ["compare", run, "--double", "--losses.1.weight", "0.3"]
    words += ["--losses.0.normalize_by", "all_pixels", "--losses.1.normalize_by", "all_pixels"]
    words += ["--optimizer.learning_rate", "0.1"]
    named = []
    for kind, tensors in files.items():
        write_file(tmp_path / f"{kind}.npz", tensors)
        named += [f"--{kind}", tmp_path / f"{kind}.npz"]
    status, out, err = call("convert.py", *words, *named, "--tolerance", "1e-6")
    assert (status, err) == (0, ""), (out, err)
    for count, kind in ((3, "activations"), (9, "parameters"), (7, "gradients"), (9, "step")):
        assert f"{kind}, {tmp_path / kind}.npz:" in out
        assert f"{count} tensors agree to 1e-06" in out

    assert out.count("losses: ") == 2 and "weight=0.3" in out  # of gradients and of the step
    assert out.count("optimizer: ") == 1 and "learning_rate=0.1" in out

    stepped["net.1.running_var"] = stepped["net.1.running_var"] * (1 - 1 / 126)  # biased
    write_file(tmp_path / "biased.npz", stepped | batch)
    status, out, _ = call("convert.py", *words, "--step", tmp_path / "biased.npz", "--lines", "2")
    assert status == 1
    assert "1 of 9 tensors depart by more than 1e-05; the first is net.1.running_var" in out


def test_compare_goes_on_without_a_counterpart(call, converted, state, batch, tmp_path):
    _, run = converted
    with jax.enable_x64(True):
        activations, *_ = reference(state, batch)
    more = {f"net.{i}.relu": np.ones((1, 2, 3, 4)) for i in (7, 8)} | {"images": batch["images"]}
    write_file(tmp_path / "x.npz", activations | more)
    words = ["compare", run, "--activations", tmp_path / "x.npz"]
    status, out, err = call("convert.py", *words)
    assert (status, err) == (0, "")
    assert (
        "2 of 5 names have no counterpart here and are not compared: 'net.7.relu'; 'net.8." in out
    )
    assert "3 tensors agree to 1e-05" in out

    # Where float32 departs, float64 decides, if the file holds it.
    status, out, err = call("convert.py", *words, "--tolerance", "1e-12")
    assert (status, err) == (0, "")
    assert "in float64 here: 0 of 3 depart by more than 1e-12" in out
    assert "it was rounding, the computation is the same" in out
    own = float(out.split("float32 here is up to ")[1].split()[0])
    assert 1e-9 < own < 1e-5
    narrow = {k: v.astype(np.float32) for k, v in more.items()}
    narrow |= {k: (v * (1 + 3e-7)).astype(np.float32) for k, v in activations.items()}
    write_file(tmp_path / "y.npz", narrow)
    words = ["compare", run, "--activations", tmp_path / "y.npz", "--tolerance", "1e-12"]
    status, out, _ = call("convert.py", *words)
    assert status == 1, out
    assert "3 of 3 depart by more" in out and "--double, which decides" in out
    narrow["logits"] = narrow["logits"] + 1
    write_file(tmp_path / "z.npz", narrow)
    status, out, _ = call("convert.py", "compare", run, "--activations", tmp_path / "z.npz")
    assert status == 1 and "in float64 here: 1 of 3 depart by more than 1e-05" in out

    write_file(tmp_path / "none.npz", more)
    result = call("convert.py", "compare", run, "--activations", tmp_path / "none.npz")
    assert_one_line(result, "is no module of this format and no output here")


def test_options_of_where_the_weights_are(call, config, state, tmp_path):
    average = {f"ema.{k}": v + 1 if v.ndim else v for k, v in state.items()}
    file, run = tmp_path / "x.pth.tar", tmp_path / "run"
    write_torch_file(file, {"state_dict": state, "state_dict_ema": average})
    words = ("from-torch", config, file, "--workdir", run)
    assert_one_line(call("convert.py", *words), "'state_dict', 'state_dict_ema'", "--key")
    assert not run.exists()
    status, out, err = call("convert.py", *words, "--key", "state_dict_ema", "--prefix", "ema.")
    assert (status, err) == (0, "")
    assert "taken from 'state_dict_ema'" in out and "prefix 'ema.' removed from 10 names" in out
    found = load_network(run).variables["params"]["BatchNorm_0"]["bias"]
    np.testing.assert_array_equal(found, state["net.1.bias"] + 1)
    result = call("convert.py", *words, "--overwrite", "--key", "ema")
    assert_one_line(result, "no tensors under 'ema'; there are 'state_dict', 'state_dict_ema'")
    result = call("convert.py", *words, "--overwrite", "--key", "state_dict", "--prefix", "emu.")
    assert_one_line(result, "no name begins with 'emu.'")


def test_mistakes_of_compare(call, converted, state, batch, tmp_path):
    _, run = converted
    assert_one_line(call("convert.py", "compare", run), "nothing to compare")
    write_file(tmp_path / "x.npz", {"head": state["head.weight"]})
    result = call("convert.py", "compare", run, "--activations", tmp_path / "x.npz")
    assert_one_line(result, "x.npz has no tensor 'images'")
    write_file(tmp_path / "y.npz", {"head": state["head.weight"], "images": batch["images"]})
    result = call("convert.py", "compare", run, "--gradients", tmp_path / "y.npz")
    assert_one_line(result, "y.npz has no tensor 'labels'")


def test_inspect(call, config):
    status, out, err = call("convert.py", "inspect", config, "--size", "9,7", "--depth", "1")
    assert (status, err) == (0, "")
    parameters = 216 + 16 + 2 * (8 * K + K)
    assert f"total: {parameters / 1e6:.3f} M parameters" in out
    _, named, _ = call("convert.py", "inspect", "fcn_r18-d8", "--size", "9x7", "--classes", K)
    assert named.splitlines()[1:3] == out.splitlines()[1:3]
    assert_one_line(call("convert.py", "inspect", "fcn_r18_d8"), "did you mean fcn_r18-d8")
    assert_one_line(call("convert.py", "inspect", config, "--size", "9"), "height,width")


def test_verbs(call):
    status, out, _ = call("convert.py", "--help")
    assert status == 0 and all(f"convert.py {verb}" in out for verb in ("from-torch", "inspect"))
    assert_one_line(call("convert.py", "to-toch"), "unknown verb", "did you mean to-torch")
    for verb in ("from-torch", "to-torch", "compare", "inspect"):
        status, out, _ = call("convert.py", verb, "--help")
        assert status == 0 and f"usage: python convert.py {verb}" in out
