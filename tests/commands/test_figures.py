"""`figures.py` on runs of the library: what it writes, and what it refuses."""

import csv
import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

from sdnjax.commands.class_weights import compare_class_weights
from sdnjax.commands.error_maps import compare_errors
from sdnjax.commands.figures import draw_network
from sdnjax.commands.operators import compare_operators, responses
from sdnjax.commands.train import train
from sdnjax.commands.trained import load_network
from sdnjax.data import evaluation_examples
from sdnjax.errors import InputError
from sdnjax.inference.predictor import Predictor
from sdnjax.models import ECRF, EncoderDecoder
from sdnjax.models.decoders.fcn import FCNHead
from sdnjax.models.layers import Classifier, ConvBNReLU, EqualPartial
from sdnjax.models.necks.sdn import SDN, SDNNeck
from tests.commands.conftest import make_camvid
from tests.commands.test_train import experiment


def network(num_classes):
    return EncoderDecoder(
        Backbone(),
        Classifier(num_classes),
        FCNHead(8, convs=1, concat_input=False),
        context=ECRF(superpixel_weight=0.0),
        decoder_stages=(0,),
    )


class Backbone(ConvBNReLU):
    """One stage at stride 2."""

    features: int = 8
    kernel_size: int = 3
    stride: int = 2

    def __call__(self, x, *, train):
        return (super().__call__(x, train=train),)


@pytest.fixture(scope="module")
def camvid(tmp_path_factory):
    return make_camvid(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(camvid, tmp_path_factory):
    """Trained once for all."""
    own, workdir = experiment(camvid, model=network), tmp_path_factory.mktemp("runs") / "run"
    train(own, workdir, report=lambda line: None)
    return workdir, own


@pytest.mark.slow
def test_class_weights_of_two_runs(run, tmp_path):
    workdir, own = run
    first = load_network(workdir, own)
    kernel = np.asarray(first.variables["params"]["classifier"]["seg"]["kernel"])
    equal = jax.tree.map(np.asarray, first.variables)
    equal["params"]["classifier"]["seg"]["kernel"] = np.ones_like(kernel)
    second = dataclasses.replace(first, variables=equal)
    lines = []
    means = compare_class_weights(
        {"baseline": first, "all alike": second}, own.data, "train", tmp_path, report=lines.append
    )
    assert means["all alike"] == pytest.approx(1) and abs(means["baseline"]) < 0.9
    with (tmp_path / "class_weights.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 11 and {row["all alike"] for row in rows} == {"1.000000"}
    # By hand: the first pair's pixels, and the cosine of its weights.
    labels = [x.label.astype(int) for x in evaluation_examples(own.data, "train")]
    classes = first.classes
    a, b = (classes.index(rows[0][key]) for key in ("class", "meets"))
    pixels = sum(
        int((((u == a) & (v == b)) | ((u == b) & (v == a))).sum())
        for x in labels
        for u, v in ((x[:, 1:], x[:, :-1]), (x[1:], x[:-1]))
    )
    assert int(rows[0]["pixels"]) == pixels > 0
    weights = kernel[0, 0].astype(float)
    cosine = weights[:, a] @ weights[:, b]
    cosine /= np.linalg.norm(weights[:, a]) * np.linalg.norm(weights[:, b])
    assert float(rows[0]["baseline"]) == pytest.approx(cosine, abs=1e-5)
    assert means["baseline"] == pytest.approx(
        np.mean([float(r["baseline"]) for r in rows]), abs=1e-6
    )
    assert (tmp_path / "class_weights.png").exists()
    assert any("baseline: " in line for line in lines)


def test_other_classes_and_networks_without_class_weights_are_refused(run, tmp_path):
    workdir, own = run
    trained = load_network(workdir, own)
    other = dataclasses.replace(trained, classes=("x", *trained.classes[1:]))
    with pytest.raises(InputError, match="has 'x' as class 0"):
        compare_class_weights({"run": other}, own.data, "train", tmp_path)
    bare = dataclasses.replace(trained, variables={"params": {"decoder": {}}})
    with pytest.raises(InputError, match="has no weights of classes"):
        compare_class_weights({"run": bare}, own.data, "train", tmp_path)


def test_sheets_of_a_network(run, camvid, tmp_path):
    workdir, own = run
    picture = camvid / "val" / "0.png"
    files = draw_network(workdir, own, [picture], tmp_path / "out", report=lambda line: None)
    assert [file.name for file in files] == ["0_ecrf.png", "0_context.png"]
    again = draw_network(workdir, own, [picture], tmp_path / "out", report=lambda line: None)
    assert again == files
    with pytest.raises(InputError, match="network has no random walks"):
        draw_network(workdir, own, [picture], tmp_path / "out", points=[(0, 0)])


def test_a_network_with_nothing_to_show_says_so(camvid, tmp_path):
    own = experiment(camvid)
    train(own, tmp_path / "run", report=lambda line: None)
    with pytest.raises(InputError, match="has nothing to show here"):
        draw_network(tmp_path / "run", own, [camvid / "val" / "0.png"], tmp_path / "out")


def test_the_command_names_its_verbs(call):
    status, _, err = call("figures.py", "clas-weights")
    assert status == 2 and "did you mean class-weights" in err
    assert call("figures.py", "network", "--help")[0] == 0


def test_error_maps_of_two_runs(run, tmp_path):
    """The examples where the runs differ most, each by its own protocol, and their shares."""
    workdir, own = run
    first = load_network(workdir, own)
    equal = jax.tree.map(np.asarray, first.variables)
    equal["params"]["classifier"]["seg"]["bias"] = np.eye(11)[3] * 1e6
    second = dataclasses.replace(first, variables=equal)  # class 3 everywhere
    lines = []
    how = {"count": 2, "report": lines.append}
    runs = {"baseline": first, "all 3": second}
    files = compare_errors(runs, own.data, "val", tmp_path, **how)
    assert len(files) == 2 and all(file.exists() for file in files)
    shares, differ = {}, {}
    predictor = Predictor(first.network, own.evaluation, own.data.normalization)
    variables = predictor.place(first.variables)
    for x in evaluation_examples(own.data, "val"):
        (labels,) = predictor.labels(variables, [x.image])
        valid = x.label != 255
        right = [(labels == x.label)[valid], (x.label == 3)[valid]]
        shares[x.name] = [1 - r.mean() for r in right]
        differ[x.name] = (right[0] != right[1]).sum()
    largest = sorted(differ, key=differ.get, reverse=True)[:2]
    assert [line.split(":")[0] for line in lines[:2]] == largest
    assert lines[0].endswith(
        f"wrong baseline {shares[largest[0]][0]:.2%}, all 3 {shares[largest[0]][1]:.2%}"
    )
    # By name: one that the others would not have chosen.
    (least,) = differ.keys() - set(largest)
    (file,) = compare_errors(runs, own.data, "val", tmp_path, examples=[least], **how)
    assert file not in files
    with pytest.raises(InputError, match=r"no example 'nosuch'; there are 3, such as .*"):
        compare_errors(runs, own.data, "val", tmp_path, examples=["nosuch"], **how)


def sdn_network(num_classes, operator="sdc"):
    return EncoderDecoder(
        Backbone(),
        Classifier(num_classes),
        FCNHead(8, convs=1, concat_input=False),
        neck=SDNNeck(EqualPartial(SDN, operator=operator)),
        decoder_stages=(0,),
    )


def test_responses_of_the_operators(run, camvid, tmp_path):
    """What is drawn is |Y| of Eq. 5, computed here from the features that the network names."""
    workdir, own = run
    picture = camvid / "val" / "0.png"
    trained = {}
    for operator in ("sdc", "conv"):
        network = sdn_network(11, operator)
        x = np.zeros((1, 8, 8, 3), np.float32)
        variables = network.init(jax.random.key(0), x, train=False)
        assert "intermediates" not in variables
        trained[operator] = dataclasses.replace(
            load_network(workdir, own), network=network, variables=variables
        )
    lines = []
    (file,) = compare_operators(
        trained, [picture], tmp_path / "out", points=[(2, 3), (10, 11)], report=lines.append
    )
    assert file.name == "0_operators.png"
    image = np.asarray(Image.open(picture))
    normalized = own.data.normalization(image)[None]
    one = trained["conv"]
    outputs = one.network.apply(one.variables, normalized, train=False)
    kernel = one.variables["params"]["neck"]["sdn1"]["kernel"]
    y = jax.lax.conv_general_dilated(
        outputs["stage1"], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    lengths = np.linalg.norm(y[0], axis=-1)
    np.testing.assert_allclose(
        responses("conv", one, image)["neck/sdn1"], lengths, rtol=1e-4, atol=1e-6
    )
    (line,) = (line for line in lines if ", conv: " in line)
    assert line.endswith(
        f"2,3 {lengths[1, 1] / lengths.max():.3f}, 10,11 {lengths[5, 5] / lengths.max():.3f}"
    )
    with pytest.raises(InputError, match="30,2 is no pixel of a picture of 24×30"):
        compare_operators(trained, [picture], tmp_path / "out", points=[(30, 2)])
    bare = {"run": load_network(workdir, own)}
    with pytest.raises(InputError, match=r"run: .* has no operator in a neck"):
        compare_operators(bare, [picture], tmp_path / "out")
