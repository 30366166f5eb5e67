"""Every table through the function behind convert.py, on files in the source's layout."""

import dataclasses
import json

import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from sdnjax.commands.convert import from_torch, write_torch
from sdnjax.commands.initial import first_state
from sdnjax.commands.trained import load_network
from sdnjax.commands.workdir import load_experiment
from sdnjax.convert import to_torch
from sdnjax.convert.files import read_file, write_file
from sdnjax.convert.initial import leaf_shapes
from sdnjax.convert.rows import check_rows, table_rows, their_shape
from sdnjax.convert.tables import TABLES
from sdnjax.convert.torch_writer import write_torch_file
from sdnjax.data.data_settings import Data
from sdnjax.data.sources import label_space_of
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.models import DifNetOptions, Model, create_model
from sdnjax.models.backbones import mit, swin, vit
from sdnjax.models.families import likes
from sdnjax.training.sharding import data_mesh

SIZE = (64, 64)
DECODER = ("decoder", "classifier")


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """The smallest transformers are made smaller."""
    monkeypatch.setitem(vit.SIZES, "t", vit.Size(24, 2, 3))
    monkeypatch.setitem(mit.SIZES, "b0", (8, (1, 1, 1, 1)))
    monkeypatch.setitem(swin.SIZES, "t", swin.Size(8, (1, 1, 2, 1), (1, 2, 2, 4), 4))


def ones(*names, shape=(3, 5)):
    return dict.fromkeys(names, np.ones(shape, np.float32))


def safetensors(path, state):
    write_file(path.with_suffix(".safetensors"), state)
    return path.with_suffix(".safetensors")


def folder(path, state):
    """What `save_pretrained` writes."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": "x"}))
    write_file(path / "model.safetensors", state)
    return path


def numpy_file(path, state):
    write_file(path.with_suffix(".npz"), state)
    return path.with_suffix(".npz")


def plain(path, state):
    write_torch_file(path.with_suffix(".pth"), state)
    return path.with_suffix(".pth")


def trainers(path, state):
    """A trainer's checkpoint of `{"model": …}` with its optimizer."""
    optimizer = {"state": {"momentum": np.ones(3, np.float32)}, "param_groups": [{"lr": 0.1}]}
    path = path.with_suffix(".pth")
    write_torch_file(path, {"model": state, "optimizer": optimizer, "epoch": 3})
    return path


def mmseg(path, state):
    path = path.with_suffix(".pth")
    write_torch_file(path, {"meta": {"seed": 1, "CLASSES": ("a", "b")}, "state_dict": state})
    return path


NORMS = tuple(f"backbone/norm{i}" for i in (1, 2, 3, 4))
slow = pytest.mark.slow
# Table, network, what the file does not have, how it is written, what stands before its names,
# what it has beside them, the settings that the network must get.
SOURCES = [
    ("mmseg_fcn", "fcn_r18-d8", (), mmseg, "", {}, {}),
    pytest.param(
        *("difnet", "difnet_r18-d8", (), plain, "module.", ones("model_dif.fc.weight")),
        {"difnet": DifNetOptions(preprocessing="released")},
        marks=slow,
    ),
    pytest.param(
        *("difnet", "sim-deeplab_r18-d8", (), trainers, "", ones("fc.bias")),
        {"difnet": DifNetOptions(preprocessing="released")},
        marks=slow,
    ),
    pytest.param("segfix", "segfix_hr18s", (), plain, "", {}, {}, marks=slow),
    pytest.param("segfix", "segfix_hr2x20", (), plain, "", {}, {}, marks=slow),
    pytest.param("mmseg_fpn", "fpn_r18", (), mmseg, "", {}, {}, marks=slow),
    pytest.param("mmseg_ocr", "ocrnet_hr18s", (), mmseg, "", {}, {}, marks=slow),
    pytest.param("mmseg_deeplab", "deeplabv3plus_r18-d8", (), mmseg, "", {}, {}, marks=slow),
    ("mmseg_segmenter", "segmenter_vit-t_mask", (), mmseg, "", {}, {"like": "mmseg"}),
    pytest.param(
        *("mmseg_segformer", "segformer_mit-b0", (), mmseg, "", {}, {"like": "mmseg"}),
        marks=slow,
    ),
    pytest.param("mmseg_maskformer", "maskformer_swin-t", (), mmseg, "", {}, {}, marks=slow),
    pytest.param("mmseg_maskformer", "maskformer_r50-d32", (), mmseg, "", {}, {}, marks=slow),
    pytest.param("mmseg_swin", "maskformer_swin-t", ("decoder",), mmseg, "", {}, {}, marks=slow),
    pytest.param(
        *("torchvision_resnet", "fpn_r18", DECODER, plain, "", ones("fc.weight", "fc.bias")),
        {"stem": "v1"},
        marks=slow,
    ),
    pytest.param(
        *("torchvision_resnet", "fpn_r18", DECODER, plain, "module.", ones("fc.bias")),
        {"stem": "v1c"},
        marks=slow,
    ),
    pytest.param(
        *("hf_resnet", "fpn_r18", DECODER, folder, "resnet.", ones("classifier.1.weight")),
        {"stem": "v1"},
        marks=slow,
    ),
    pytest.param(
        *("hrnet", "ocrnet_hr18s", DECODER, plain, ""),
        *(ones("classifier.bias", "incre_modules.0.0.conv1.weight"), {}),
        marks=slow,
    ),
    pytest.param(
        *("hrnet_ocr", "ocrnet_hr18s", (), plain, "model.", {}),
        {"align_corners": True},
        marks=slow,
    ),
    pytest.param(
        *("efficientnet_lite", "fpn_efficientnet-lite0", DECODER, plain, ""),
        *(ones("_fc.weight", "_conv_head.weight"), {}),
        marks=slow,
    ),
    (
        *("official_segmenter", "segmenter_vit-t_mask", (), trainers, ""),
        *(ones("encoder.head.weight", "encoder.head.bias"), {"like": "official"}),
    ),
    (
        *("timm_vit", "segmenter_vit-t_mask", ("classifier",), safetensors, ""),
        *(ones("head.weight", "head.bias"), {"like": "timm"}),
    ),
    (
        *("augreg_vit", "segmenter_vit-t_linear", ("classifier",), numpy_file, ""),
        *(ones("head/kernel", "head/bias"), {"like": "augreg"}),
    ),
    (
        *("hf_vit", "segmenter_vit-t_linear", ("classifier",), folder, "vit."),
        *(ones("classifier.weight", "vit.pooler.dense.bias"), {"like": "hf"}),
    ),
    pytest.param(
        *("hf_segformer", "segformer_mit-b0", (), folder, "", {}, {"like": "hf"}), marks=slow
    ),
    pytest.param(
        *("hf_segformer", "segformer_mit-b0", DECODER, folder, ""),
        *(ones("classifier.weight"), {"like": "hf"}),
        marks=slow,
    ),
    pytest.param(
        *("hf_swin", "maskformer_swin-t", (*NORMS, "decoder"), folder, ""),
        *(ones("classifier.weight", "swin.layernorm.bias"), {}),
        marks=slow,
    ),
    pytest.param("hf_maskformer", "maskformer_swin-t", (), folder, "", {}, {}, marks=slow),
]


@pytest.mark.parametrize(
    ("table", "network", "missing", "write", "prefix", "beside", "wanted"), SOURCES
)
def test_a_file_of_the_source(tmp_path, table, network, missing, write, prefix, beside, wanted):  # noqa: PLR0917
    data, classes = ("camvid_segfix", 16) if table == "segfix" else ("camvid", 11)
    experiment = Experiment(
        model=Model(name=network), data=Data(name=data, crop_size=SIZE), keep_checkpoints=1
    )
    names = TABLES[table]
    theirs = create_model(network, num_classes=classes, **wanted)
    variables = random_variables(theirs)
    state = {
        prefix + k: v for k, v in to_torch(theirs, variables, names, drop=missing).items()
    } | beside
    file, run, lines = write(tmp_path / "theirs", state), tmp_path / "run", []
    from_torch(experiment, file, run, table=table, reinitialise=missing, report=lines.append)
    changed = {k: v for k, v in wanted.items() if getattr(experiment.model, k) != v}
    model = load_experiment(run).model
    assert model == Model(name=network, **wanted)
    for key, value in changed.items():
        if isinstance(value, DifNetOptions):
            key, value = "difnet.preprocessing", value.preprocessing
        assert any(f"model.{key} is {value}" in line for line in lines), lines
    if prefix:
        assert any(f"prefix '{prefix}' removed" in line for line in lines), lines
    trained = load_network(run)
    found, expected = (flatten_dict(dict(v), sep="/") for v in (trained.variables, variables))
    assert found.keys() == expected.keys()
    new = [path for path in found if not np.array_equal(found[path], expected[path])]
    parts = tuple(f"{kind}/{part}/" for kind in ("params", "batch_stats") for part in missing)
    assert all(path.startswith(parts) for path in new)
    assert len(new) > 0 or not missing
    # What a network of the defaults would not have: the same function of the images.
    assert trained.network.backbone == theirs.backbone

    if not missing:
        back = tmp_path / "back.pth"
        write_torch(run, trained.experiment, back, table=table, report=lines.append)
        content = read_file(back)
        assert ("meta" in content) == (write is mmseg)
        if write is mmseg:
            meta = content["meta"]["dataset_meta"]
            assert meta["classes"] == trained.classes
            assert meta["palette"] == [list(colour) for colour in trained.palette]


def random_variables(model):
    rng = np.random.default_rng(0)
    leaves = {
        path: rng.uniform(0.5, 1.5, shape).astype(np.float32)
        for path, shape in leaf_shapes(model, SIZE, 3).items()
    }
    return unflatten_dict(leaves, sep="/")


def test_the_table_that_a_file_needs_is_named(tmp_path):
    experiment = Experiment(
        model=Model(name="segmenter_vit-t_mask"), data=Data(name="camvid", crop_size=SIZE)
    )
    theirs = create_model("segmenter_vit-t_mask", num_classes=11, like="hf")
    state = to_torch(theirs, random_variables(theirs), TABLES["hf_vit"], drop=["classifier"])
    file = folder(tmp_path / "theirs", state)
    with pytest.raises(InputError, match=r"are those of --table hf_vit$"):
        from_torch(experiment, file, tmp_path / "run", report=lambda _: None)
    assert not (tmp_path / "run").exists()
    # What was converted starts other runs, with the same details alone.
    options = {"table": "hf_vit", "reinitialise": ["classifier"], "report": lambda _: None}
    from_torch(experiment, file, tmp_path / "run", **options)

    def first(like):
        model = Model(name="segmenter_vit-t_mask", like=like)
        start = dataclasses.replace(experiment, model=model, init_from=str(tmp_path / "run"))
        classes = tuple(label_space_of(start.data).classes)
        return first_state(start, start.build(11), classes, data_mesh(8), lambda _: None)

    with pytest.raises(InputError, match=r"with model.like hf, here it is timm: ask for --model"):
        first("timm")
    norm = first("hf").params["backbone"]["norm"]["scale"]
    np.testing.assert_array_equal(norm, state["layernorm.weight"])


def test_every_table_is_tried():
    tried = {getattr(case, "values", case)[0] for case in SOURCES}
    assert tried == TABLES.keys()


NETWORKS = [
    "fcn_r18-d8",
    "fpn_r18",
    pytest.param("fpn_efficientnet-lite0", marks=slow),
    pytest.param("ocrnet_hr18s", marks=slow),
    pytest.param("deeplabv3plus_r18-d8", marks=slow),
    pytest.param("deeplabv2_r50-d8", marks=slow),
    pytest.param("difnet_r18-d8", marks=slow),
    pytest.param("sim-deeplab_r50-d8", marks=slow),
    "segmenter_vit-t_mask",
    pytest.param("segmenter_vit-t_linear", marks=slow),
    "segformer_mit-b0",
    pytest.param("maskformer_r50-d32", marks=slow),
    "maskformer_swin-t",
]


@pytest.mark.parametrize("network", NETWORKS)
def test_a_table_for_another_network_says_so(network):
    """A table either fits, with the settings that it asks for, or names what it is for."""
    fitting = 0
    for name, table in TABLES.items():
        model = Model(name=network)
        wanted = table.settings(()) if hasattr(table, "settings") else {}
        options = {k: v for k, v in wanted.items() if k not in model.unused() and "." not in k}
        if options.get("like", "mmseg") not in ("mmseg", *likes(network)):
            options = {}
        module = create_model(network, num_classes=3, **options)
        try:
            rows = table_rows(table, module)
        except InputError as error:
            message = str(error)
            assert message.startswith(f"table {name}: it is for networks whose ")
            assert message.endswith(": name another table")
            continue
        check_rows(rows, leaf_shapes(module, SIZE, 3))
        fitting += 1
    assert fitting >= 1


def test_mmsegmentations_maskformer():
    """Its names tell stages by their channels; files of before mmdetection 3.0 have other names."""
    table, model = TABLES["mmseg_maskformer"], create_model("maskformer_r50-d32", num_classes=3)
    leaves = leaf_shapes(model, SIZE, 3)
    shapes = {row.tensor: their_shape(row, leaves[row.variable]) for row in table.rows(model)}
    head = "decode_head"
    for i, width in enumerate((256, 512, 1024)):  # of stages 1 to 3
        lateral = f"{head}.pixel_decoder.lateral_convs.{i}.conv.weight"
        assert shapes[lateral] == (256, width, 1, 1)
    assert shapes[f"{head}.pixel_decoder.last_feat_conv.conv.weight"] == (256, 2048, 3, 3)
    assert shapes[f"{head}.decoder_input_proj.weight"] == (256, 2048, 1, 1)
    assert shapes[f"{head}.cls_embed.weight"] == (4, 256)
    assert {f"{head}.mask_embed.{i}.bias" for i in (0, 2, 4)} <= shapes.keys()
    layer = f"{head}.transformer_decoder.layers.5"
    assert shapes[f"{layer}.cross_attn.attn.in_proj_weight"] == (768, 256)
    new = [name for name in shapes if name.startswith(f"{layer}.")]
    old = [
        name.replace("self_attn.", "attentions.0.").replace("cross_attn.", "attentions.1.")
        for name in new
    ]
    old = [name.replace(".ffn.", ".ffns.0.") for name in old]
    assert len(set(old) - set(new)) == 12
    renamed, notes = table.adapt(model, dict.fromkeys(old))
    assert list(renamed) == new and notes == ["renamed: 12 tensors of the decoder's layers"]


def test_mmsegmentation_loads_what_is_written(tmp_path):
    torch = pytest.importorskip("torch")
    model = create_model("fcn_r18-d8", num_classes=3)
    state = to_torch(model, random_variables(model), TABLES["mmseg_fcn"])
    around = TABLES["mmseg_fcn"].around(("a", "b", "c"), np.arange(9).reshape(3, 3))
    write_file(tmp_path / "x.pth", state, around)
    content = torch.load(tmp_path / "x.pth", weights_only=True)
    meta = {"classes": ("a", "b", "c"), "palette": [[0, 1, 2], [3, 4, 5], [6, 7, 8]]}
    assert content["meta"] == {"dataset_meta": meta}
    assert all(np.array_equal(x.numpy(), state[k]) for k, x in content["state_dict"].items())
