"""export.py: one file that needs JAX alone, and does what predict.py does."""

import dataclasses
import functools
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from sdnjax.commands.export import export_network, trace
from sdnjax.errors import InputError
from sdnjax.models import Neck
from sdnjax.ops import semantic_difference_conv
from sdnjax.ops.devices import target_device
from tests.commands.loaded import CLASSES, named, picture, seen, tiny
from tests.commands.test_entry_points import assert_one_line

EVERYWHERE = ("cpu", "cuda", "tpu")
# Whoever uses the file has JAX, and nothing of this library or of what it is made with.
USE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("sdnjax", "flax", "orbax", "optax", "tensorflow"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import jax
import numpy as np
from jax import export

with open("net.stablehlo", "rb") as file:
    network = jax.jit(export.deserialize(bytearray(file.read())).call)
found = network(np.load("pictures.npy"))
np.save("labels.npy", found["labels"])
print(sorted(found))
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("network"))


def call_of(exported):
    """What a reader of the file has."""
    return jax.jit(export.deserialize(exported.serialize()).call)


@pytest.mark.parametrize("size", ["any", (40, 56)])
@pytest.mark.parametrize("platforms", [("cpu",), EVERYWHERE])
def test_labels_and_probabilities_are_those_of_the_network(network, size, platforms):
    exported = trace(network, size=size, batch="any", platforms=platforms, probabilities=True)
    assert exported.platforms == platforms and exported.nr_devices == 1
    call = call_of(exported)
    sizes = [(40, 56)] if size != "any" else [(40, 56), (33, 71)]
    for own in sizes:
        images = [picture(own, seed) for seed in range(2)]
        found = call(np.stack(images))
        for result, labels, p in zip(
            network(images), found["labels"], found["probabilities"], strict=True
        ):
            np.testing.assert_allclose(p, result.probabilities(), atol=1e-5)
            assert (np.asarray(labels) == result.labels).mean() > 0.999
    with pytest.raises(Exception, match=r"32|56|shape"):
        call(np.zeros((1, 16, 16, 3), np.uint8))


def test_the_file_needs_jax_alone(call, network, tmp_path):
    network.save_pretrained(tmp_path / "net")
    out = tmp_path / "net.stablehlo"
    words = (tmp_path / "net", out, "--trust-code", "--size", "40,56", "--platforms", "cpu,tpu")
    status, said, err = call("export.py", *words)
    assert (status, err) == (0, ""), err
    assert "for cpu, tpu; uint8[1,40,56,3] → labels uint8[1,40,56]" in said
    np.save(tmp_path / "pictures.npy", picture()[None])
    (tmp_path / "use.py").write_text(USE)
    done = subprocess.run(
        [sys.executable, "use.py"], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert done.stdout == "['labels']\n", done.stderr
    labels = np.load(tmp_path / "labels.npy")[0]
    assert (labels == network(picture()).labels).mean() > 0.999
    about = json.loads((tmp_path / "net.stablehlo.json").read_text())
    assert (tuple(about["classes"]), about["platforms"]) == (CLASSES, ["cpu", "tpu"])
    assert_one_line(call("export.py", *words), "net.stablehlo is there: name another file")


def test_options_change_what_they_say(call, network, tmp_path):
    network.save_pretrained(tmp_path / "net")

    def exported(name, *options):
        status, said, err = call(
            "export.py", tmp_path / "net", tmp_path / name, "--trust-code", *options
        )
        assert (status, err) == (0, ""), err
        return export.deserialize(bytearray((tmp_path / name).read_bytes())), said

    plain, said = exported("plain")
    assert "uint8[1,h,w,3] → labels uint8[1,h,w]" in said and plain.platforms == EVERYWHERE
    many, said = exported("many", "--batch", "any", "--probabilities", "--platforms", "cpu")
    assert "uint8[b,h,w,3]" in said and "probabilities float32[b,h,w,3]" in said
    assert many.platforms == ("cpu",)
    flipped, _ = exported("flipped", "--evaluation.flip", "true", "--probabilities")
    x = picture()[None]
    p, q = (jax.jit(e.call)(x)["probabilities"] for e in (many, flipped))
    assert np.abs(p - q).max() > 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--platforms", "gpu"), "unknown platform 'gpu'; there are cpu, cuda, rocm, tpu"),
        (("--size", "40"), "must be height,width or any"),
        (("--batch", "0"), "must be a number from 1 on or any"),
        (("--evaluation.scales", "0.5,1"), "evaluation.scales: the size of a picture decides"),
        (("--evaluation.finish", "dense_crf"), "works on the host"),
        (("--optimizer.learning_rate", "1"), "--optimizer.learning_rate"),
    ],
)
def test_what_cannot_be_is_one_line(call, network, tmp_path, options, message):
    network.save_pretrained(tmp_path / "net")
    out = tmp_path / "out"
    assert_one_line(call("export.py", tmp_path / "net", out, "--trust-code", *options), message)
    assert not out.exists()


SOME = ("fcn_r18-d8", "segformer_mit-b0")
OTHERS = ("fpn_r18", "deeplabv3plus_r18-d8", "ocrnet_hr18s")


@pytest.mark.parametrize("name", [SOME[0], pytest.param(SOME[1], marks=pytest.mark.slow)])
def test_networks_are_traced_for_pictures_of_any_size(name):
    network = named(name, neck=Neck("sdc"))
    exported = trace(network, size="any", batch="any", platforms=EVERYWHERE, probabilities=True)
    assert [str(x.shape) for x in exported.out_avals] == ["(b, h, w)", "(b, h, w, 3)"]


def with_scores_of_ten(network):
    """The network with its classifier scaled.

    Those of an untrained one go to 16000 (OCRNet's), and a softmax makes much of their last bits.
    """
    image = picture((45, 67))[None].astype(np.float32) / 128 - 1
    apply = jax.jit(functools.partial(network.network.apply, train=False))
    factor = 10 / np.abs(apply(network.variables, image)["logits"]).max()
    params = dict(network.variables["params"])
    params["classifier"] = jax.tree.map(
        lambda x: (factor * x).astype(x.dtype), params["classifier"]
    )
    return dataclasses.replace(network, variables={**network.variables, "params": params})


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SOME, *OTHERS])
def test_networks_for_pictures_of_any_size(name):
    network = with_scores_of_ten(named(name, neck=Neck("sdc")))
    exported = trace(network, size="any", batch=1, platforms=EVERYWHERE, probabilities=True)
    found = call_of(exported)(picture((45, 67))[None])["probabilities"][0]
    expected = network(picture((45, 67)), probabilities=True).probabilities()
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize(
    "name", ["segmenter_vit-t_linear", pytest.param("maskformer_r50-d32", marks=pytest.mark.slow)]
)
def test_networks_that_need_numbers_say_so_and_go_with_them(name):
    network = named(name)
    how = {"batch": 1, "platforms": EVERYWHERE, "probabilities": False}
    with pytest.raises(InputError, match=r"needs sizes that are known in advance .*--size HEIGHT"):
        trace(network, size="any", **how)
    assert trace(network, size=(64, 64), **how).in_avals[0].shape == (1, 64, 64, 3)


def test_what_is_traced_is_for_the_platforms_that_were_named(network):
    """Not for the device that happens to be here."""
    found = []

    class Spy(type(network.network)):
        def __call__(self, x, *, train):
            found.append(target_device()[0])
            return super().__call__(x, train=train)

    spy = dataclasses.replace(network, network=Spy())
    for platforms in (("cpu",), EVERYWHERE, ("cuda",)):
        trace(spy, size=(40, 56), batch=1, platforms=platforms, probabilities=False)
    assert [*dict.fromkeys(found[:1]), *dict.fromkeys(found[1:])] == ["cpu", "any"]


def test_a_kernel_that_only_one_platform_has_is_refused(network):
    class Kernel(type(network.network)):
        def __call__(self, x, *, train):
            maps = semantic_difference_conv(
                x, x, jnp.ones((3, 3, 3, 3)), implementation="pallas_gpu"
            )
            return super().__call__(maps, train=train)

    with pytest.raises(InputError, match="needs an NVIDIA Hopper GPU, not any"):
        trace(
            dataclasses.replace(network, network=Kernel()),
            size=(64, 64),
            batch=1,
            platforms=EVERYWHERE,
            probabilities=False,
        )


def test_a_file_that_is_there_stays(network, tmp_path):
    (tmp_path / "x.json").write_text("mine")
    with pytest.raises(InputError, match=r"x\.json is there"):
        export_network(seen(network, flip=True), tmp_path / "x", report=print)
    assert (tmp_path / "x.json").read_text() == "mine" and not (tmp_path / "x").exists()
