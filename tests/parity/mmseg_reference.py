"""Networks of mmsegmentation 1.2.2, built from the configurations in its wheel."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
import types
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.parity.harness import Theirs, torch

for package in ("mmseg", "mmcv", "mmengine"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)


def _stand_in(name: str) -> None:
    """An empty module: mmcv's compiled operators and ftfy are imported, never used, here."""
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    module.__getattr__ = lambda attribute: None  # type: ignore[method-assign]
    sys.modules[name] = module


def mmseg_module(name: str) -> types.ModuleType:
    """A module of mmseg, without what mmcv-lite lacks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _stand_in("mmcv._ext")
        if importlib.util.find_spec("ftfy") is None:
            _stand_in("ftfy")
        return importlib.import_module(name)


def mmseg_network(config: str | Mapping[str, Any], changes: Mapping[str, Any] = {}) -> Theirs:
    """An mmseg segmentor with random values.

    Args:
      config: the model's settings, or the file in mmseg's `configs` that has them
        ("fcn/fcn_r50-d8_4xb4-80k_ade20k-512x512.py").
      changes: settings to replace, at any depth: `{"backbone": {"depth": 18}}`. A list is
        replaced whole.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mmseg_module("mmseg.models")
        mmseg: Any = mmseg_module("mmseg")
        from mmengine import Config, ConfigDict

        if isinstance(config, str):
            folder = Path(mmseg.__file__).parent / ".mim" / "configs"
            config = Config.fromfile(str(folder / config)).model.to_dict()
        settings = _plain(_merged(config, changes or {}))
        settings |= {"pretrained": None, "data_preprocessor": None}
        module = mmseg.registry.MODELS.build(ConfigDict(settings))

    def logits(images: torch.Tensor) -> torch.Tensor:
        meta = {"img_shape": tuple(images.shape[2:])}
        return module.encode_decode(images, [meta] * len(images))

    def loss(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        from mmengine.structures import PixelData
        from mmseg.structures import SegDataSample

        samples = [
            SegDataSample(gt_sem_seg=PixelData(data=y[None]), metainfo={"img_shape": y.shape})
            for y in labels
        ]
        losses = module.loss(images, samples)
        return sum(value for name, value in losses.items() if "loss" in name)

    return Theirs(module, logits, loss)


def _merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with changes inside them, at any depth."""
    merged = dict(settings)
    for key, value in changes.items():
        inner = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(inner, Mapping)
        merged[key] = _merged(inner, value) if both else value
    return merged


def _plain(settings: Any) -> Any:
    """Batch norm of one process, no download."""
    if isinstance(settings, Mapping):
        changed = {k: _plain(v) for k, v in settings.items() if k != "init_cfg"}
        if changed.get("type") == "SyncBN":
            changed["type"] = "BN"
        return changed
    if isinstance(settings, (list, tuple)):
        return type(settings)(_plain(v) for v in settings)
    return settings
