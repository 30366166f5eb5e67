"""Networks of transformers 5, by the names under which they are saved.

transformers gives modules new names in memory and writes files with the old ones, which are
those of every checkpoint that people have.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.parity.harness import Theirs, torch

transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.numpy")


def saved_names(network: torch.nn.Module) -> dict[str, str]:
    """Name in memory → name in the file, found by numbering the tensors."""
    numbered = copy.deepcopy(network).double()
    names = list(numbered.state_dict())
    with torch.no_grad():
        for i, x in enumerate(numbered.state_dict().values()):
            x.fill_(i)
    with tempfile.TemporaryDirectory() as folder:
        numbered.save_pretrained(folder)
        tensors = safetensors.load_file(f"{folder}/model.safetensors")
    found = {names[int(x.flat[0])]: name for name, x in tensors.items()}
    assert len(found) == len(names) == len(tensors)
    return found


class AsSaved(torch.nn.Module):
    """A network whose tensors go by the names in its file."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network = network
        self.names = saved_names(network)

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {self.names[k]: x for k, x in self.network.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, torch.Tensor], strict: bool = True) -> Any:
        in_memory = {name: k for k, name in self.names.items()}
        return self.network.load_state_dict(
            {in_memory.get(k, k): x for k, x in state.items()}, strict=strict
        )

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, torch.nn.Parameter]]:
        del prefix, remove_duplicate
        if recurse:
            for k, x in self.network.named_parameters():
                yield self.names[k], x


def hf_network(network: torch.nn.Module, logits: Any, loss: Any = None) -> Theirs:
    """`logits` and `loss` take the network and what `Theirs` gives them."""
    return Theirs(
        AsSaved(network),
        lambda x: logits(network, x),
        None if loss is None else lambda x, y: loss(network, x, y),
    )


def upsampled(scores: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    size = images.shape[2:]
    return torch.nn.functional.interpolate(scores, size, mode="bilinear", align_corners=False)
