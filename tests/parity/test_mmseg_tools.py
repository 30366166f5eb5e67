"""What else mmseg has: its checkpoints' odd contents, and its own count of multiply-adds."""

import collections
from pathlib import Path

import numpy as np
import pytest

from sdnjax.convert import load, mmseg_fcn, to_torch
from sdnjax.convert.files import read_file, write_file
from sdnjax.convert.state_dict import find_state_dict
from sdnjax.models import create_model
from sdnjax.models.summary import summarize
from tests.parity.harness import torch
from tests.parity.mmseg_reference import mmseg_network


@pytest.mark.parametrize("zipped", [True, False])
def test_a_trainers_own_objects_are_skipped(tmp_path, zipped):
    from mmengine.config import ConfigDict
    from mmengine.logging import HistoryBuffer

    history = HistoryBuffer()
    history.update(1.5, 1)
    weight = torch.randn(3, 4, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    weight.sum().backward()
    optimizer.step()
    content = {
        "meta": {"cfg": ConfigDict(model={"type": "FCN"}), "seed": np.int64(3), "epoch": 1},
        "message_hub": {
            "log_scalars": {"train/loss": history},
            "runtime_info": collections.OrderedDict(iter=np.float64(3)),
        },
        "state_dict": collections.OrderedDict(weight=weight.detach()),
        "optimizer": optimizer.state_dict(),
        "param_schedulers": [{"begin": 0}],
    }
    path = tmp_path / "iter_1.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    state = find_state_dict(read_file(path), str(path))
    assert list(state) == ["weight"]
    np.testing.assert_array_equal(state["weight"], weight.detach().numpy())


def test_multiply_adds_are_mmengines():
    """Convolutions as its counter finds them in the traced graph."""
    from mmengine.analysis import FlopAnalyzer

    config = "fcn/fcn_r18-d8_4xb2-80k_cityscapes-512x1024.py"
    network = mmseg_network(config).module.eval()
    network.forward = network._forward
    counter = FlopAnalyzer(network, torch.zeros(1, 3, 97, 161))
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    theirs = counter.by_operator()["conv"]
    ours = summarize(create_model("fcn_r18-d8", num_classes=19), (97, 161))[0]
    assert ours.multiply_adds == theirs
    assert ours.parameters == sum(p.numel() for p in network.parameters())


@pytest.mark.filterwarnings("ignore")
def test_what_is_written_is_a_checkpoint_for_init_model(tmp_path):
    """Classes and palette come from the file, not from a data set with as many classes."""
    config = "fcn/fcn_r18-d8_4xb2-80k_cityscapes-512x1024.py"
    theirs = mmseg_network(config)
    import mmseg
    from mmengine import Config
    from mmseg.apis import init_model

    variables = load(
        create_model("fcn_r18-d8", num_classes=19),
        {k: v.numpy() for k, v in theirs.module.state_dict().items()},
        mmseg_fcn,
        report=lambda _: None,
    )
    state = to_torch(create_model("fcn_r18-d8", num_classes=19), variables, mmseg_fcn)
    classes = tuple(f"class {k}" for k in range(19))
    palette = np.arange(57).reshape(19, 3).tolist()
    write_file(tmp_path / "x.pth", state, mmseg_fcn.around(classes, palette))
    settings = Config.fromfile(str(Path(mmseg.__file__).parent / ".mim" / "configs" / config))
    settings.model.backbone.norm_cfg.type = "BN"
    found = init_model(settings, str(tmp_path / "x.pth"), device="cpu")
    assert found.dataset_meta == {"classes": classes, "palette": palette}
    for name, value in found.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(value.numpy(), state[name])
