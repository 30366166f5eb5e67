"""The ViT backbone against Hugging Face's, positions resized from another grid."""

import pytest

from sdnjax.convert import hf_vit, load
from sdnjax.models import create_model
from sdnjax.models.backbones.vit import ViT
from tests.parity.harness import images_and_labels, relative, state_dict, torch
from tests.parity.hf_reference import hf_network, transformers

K = 3


@pytest.mark.slow
@pytest.mark.parametrize("adapted", [False, True], ids=["in-the-network", "on-loading"])
def test_tokens(adapted):
    config = transformers.ViTConfig(
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=192,
        image_size=64,
    )
    network = transformers.ViTModel(config).eval()
    theirs = hf_network(network, None).module
    images, _ = images_and_labels(K, size=(96, 160))  # transformers pads nothing
    grid = (6, 10) if adapted else (4, 4)
    model = create_model("segmenter_vit-t_linear", num_classes=K)
    model = model.clone(backbone=ViT(48, 2, 3, position_grid=grid, epsilon=1e-12))
    notes = []
    variables = load(
        model, state_dict(theirs), hf_vit, reinitialise=["classifier"], report=notes.append
    )
    assert any("resized" in note for note in notes) == adapted

    x = images.astype("float32")
    with torch.no_grad():
        tokens = network(torch.tensor(x).permute(0, 3, 1, 2), interpolate_pos_encoding=True)
    expected = tokens.last_hidden_state[:, 1:].reshape(1, 6, 10, 48).numpy()
    assert relative(model.apply(variables, x, train=False)["stage1"], expected) < 1e-5
