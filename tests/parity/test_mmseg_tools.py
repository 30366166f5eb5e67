"""What else mmseg has: its checkpoints' odd contents, and its own count of multiply-adds."""

import collections

import numpy as np
import pytest

from sdnjax.convert.files import read_file
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
