"""The published recipes: rate and decay of every parameter against mmengine's own groups."""

import warnings

import numpy as np
import pytest

from sdnjax.config_file import load_config
from sdnjax.convert import mmseg_segformer, mmseg_segmenter, mmseg_swin
from sdnjax.convert.initial import leaf_shapes
from sdnjax.experiment import Experiment
from sdnjax.training.parameter_rules import factors, layer_decay, vit_layers
from tests.parity.harness import torch
from tests.parity.mmseg_reference import mmseg_network
from tests.parity.test_segformer import pair as segformer
from tests.parity.test_swin import NARROW
from tests.parity.test_swin import pair as swin


def config_of(request, name):
    return load_config(request.config.rootpath / "configs" / f"{name}.py", Experiment)


def wrapper(name):
    """mmseg's settings of the optimizer."""
    import mmseg
    from mmengine import Config

    return Config.fromfile(f"{mmseg.__path__[0]}/.mim/configs/{name}").optim_wrapper


def groups(module, settings, constructor="DefaultOptimWrapperConstructor"):
    """Name of a parameter → its rate and decay, as mmengine gives them to PyTorch."""
    import mmseg.engine  # noqa: F401 (registers its constructors)
    from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS

    settings = {k: v for k, v in settings.to_dict().items() if not k.startswith("_")}
    paramwise = settings.pop("paramwise_cfg", None)
    settings.pop("clip_grad", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        build = OPTIM_WRAPPER_CONSTRUCTORS.get(constructor)(settings, paramwise)
        optimizer = build(module).optimizer
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def agree(model, table, theirs, optimizer):
    """Every parameter of theirs that the table knows has the rate and decay of ours."""
    rows = {row.tensor: row.variable for row in table.rows(model)}
    shapes = leaf_shapes(model, (64, 64), 3)
    seen = 0
    for name, (rate, decay) in theirs.items():
        variable = rows.get(name)
        if variable is None or not variable.startswith("params/"):
            continue
        path = variable.removeprefix("params/")
        by_rate, by_decay = factors(optimizer.rules, path, len(shapes[variable]))
        ours = optimizer.learning_rate * by_rate, optimizer.weight_decay * by_decay
        np.testing.assert_allclose(ours, (rate, decay), rtol=1e-6, err_msg=f"{name}, {path}")
        seen += 1
    assert seen >= len(theirs) - 2, (seen, len(theirs))


def test_segformer(request):
    theirs, model = segformer("small")
    settings = wrapper("segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py")
    own = config_of(request, "ade20k_segformer_mit-b0").optimizer
    found = groups(theirs.module, settings)
    assert len(set(found.values())) == 3  # backbone, its norms, head
    agree(model, mmseg_segformer, found, own)


def test_maskformer_with_swin(request):
    theirs, model = swin(NARROW)
    settings = wrapper("maskformer/maskformer_swin-t_upernet_8xb2-160k_ade20k-512x512.py")
    own = config_of(request, "ade20k_maskformer_swin-t").optimizer
    found = groups(theirs.module, settings)
    assert len(set(found.values())) == 2
    agree(model, mmseg_swin, found, own)
    # The head is mmdet's; of it the key "query_embed" names the queries alone.
    assert settings.paramwise_cfg.custom_keys["query_embed"].decay_mult == 0
    assert factors(own.rules, "decoder/query_embedding", 2) == (1, 0)
    assert factors(own.rules, "decoder/norm/scale", 1) == (1, 1)
    assert factors(own.rules, "decoder/layer0/self_attention/query/kernel", 2) == (1, 1)


def test_maskformer_with_resnet(request):
    settings = wrapper("maskformer/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py")
    own = config_of(request, "ade20k_maskformer_r50").optimizer
    (rule,) = own.rules
    assert settings.paramwise_cfg.custom_keys == {"backbone": {"lr_mult": rule.learning_rate}}
    assert settings.optimizer.lr == own.learning_rate
    assert settings.optimizer.weight_decay == own.weight_decay
    assert settings.clip_grad.max_norm == own.clip_norm


def test_segmenter(request):
    settings = wrapper("segmenter/segmenter_vit-b_mask_8xb1-160k_ade20k-512x512.py")
    own = config_of(request, "ade20k_segmenter_vitb").optimizer
    assert (settings.optimizer.lr, settings.optimizer.weight_decay) == (
        own.learning_rate,
        own.weight_decay,
    )
    assert (own.rules, own.kind, own.momentum) == ((), "sgd", settings.optimizer.momentum)


def test_layer_decay_of_a_vit(request):
    """Against mmseg's constructor for BEiT and MAE, on its ViT."""
    del request
    depth, rate = 2, 0.65
    changes = {
        "backbone": {"num_layers": depth, "embed_dims": 8, "num_heads": 2, "drop_path_rate": 0.0},
        "decode_head": {"in_channels": 8, "channels": 8, "num_heads": 2, "embed_dims": 8},
    }
    module = mmseg_network("segmenter/segmenter_vit-t_mask_8xb1-160k_ade20k-512x512.py", changes)
    from mmseg.engine.optimizers.layer_decay_optimizer_constructor import get_layer_id_for_vit

    rules = layer_decay(vit_layers(depth), rate)
    rows = [
        (f"backbone.{a}", f"backbone/{b}")
        for a, b in (
            ("patch_embed.projection.weight", "patch_embedding/conv/kernel"),
            ("cls_token", "class_token"),
            ("pos_embed", "position_embedding"),
            ("layers.0.ln1.weight", "block0/norm1/scale"),
            ("layers.1.ffn.layers.1.weight", "block1/mlp/fc2/kernel"),
            ("ln1.weight", "norm/scale"),
        )
    ]
    known = dict(module.module.named_parameters())
    for name, path in rows:
        assert name in known
        layer = get_layer_id_for_vit(name, depth + 2)
        expected = rate ** (depth + 1 - layer)
        np.testing.assert_allclose(factors(rules, path, 2)[0], expected, rtol=1e-12)
    assert isinstance(known["backbone.cls_token"], torch.nn.Parameter)
    assert mmseg_segmenter.rows is not None
    with pytest.raises(KeyError):
        known["backbone.mask_token"]
