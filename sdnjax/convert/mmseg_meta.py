"""What mmsegmentation's own loaders want in a file beside the tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def mmseg_checkpoint(classes: Sequence[str], palette: Sequence[Sequence[int]]) -> dict[str, Any]:
    """`meta` for `mmseg.apis.init_model`, which takes classes and palette from the checkpoint."""
    colours = [list(map(int, colour)) for colour in palette]
    return {"meta": {"dataset_meta": {"classes": tuple(classes), "palette": colours}}}
