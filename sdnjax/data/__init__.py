"""Data sets, and the way of an image from the disk into a batch.

    data_settings   `Data`: which data set, and how training examples are made of it
    sets/           one record for each data set: its classes, where its files lie, its facts
    sources         `open_source`: files, or the prepared form of a data set?
    reading/        encoded files → `Example`
    pipeline/       examples → training batches, or examples in order for evaluation
    preparing/      the command that checks a data set and stores it as ArrayRecord files

Arrows point one way: sets ← reading ← preparing ← sources ← pipeline.

Names are looked up when first used: importing this package imports neither TensorFlow nor
TensorFlow Datasets, and reading plain folders never does. Only `train_batches`, `augment`
and prepared data sets need them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdnjax.data.data_settings import Data, dataset_of
    from sdnjax.data.pipeline.augmentation import augment
    from sdnjax.data.pipeline.batches import train_batches
    from sdnjax.data.pipeline.in_order import evaluation_examples
    from sdnjax.data.reading.examples import Example
    from sdnjax.data.reading.images import picture_of, read_image
    from sdnjax.data.reading.labels import read_label
    from sdnjax.data.reading.source import Failures, Source, load_example
    from sdnjax.data.sets import label_space
    from sdnjax.data.sets.data_set import DataSet
    from sdnjax.data.sets.items import Encoded, Pair
    from sdnjax.data.sets.label_space import LabelSpace
    from sdnjax.data.sets.mixing import mixed
    from sdnjax.data.sets.scenes import render_scene
    from sdnjax.data.sets.segfix import segfix_targets
    from sdnjax.data.sources import label_space_of, open_source

_HOME = {
    "Data": "data_settings",
    "DataSet": "sets.data_set",
    "Encoded": "sets.items",
    "Example": "reading.examples",
    "Failures": "reading.source",
    "LabelSpace": "sets.label_space",
    "Pair": "sets.items",
    "Source": "reading.source",
    "augment": "pipeline.augmentation",
    "dataset_of": "data_settings",
    "evaluation_examples": "pipeline.in_order",
    "label_space": "sets",
    "label_space_of": "sources",
    "load_example": "reading.source",
    "mixed": "sets.mixing",
    "open_source": "sources",
    "picture_of": "reading.images",
    "read_image": "reading.images",
    "read_label": "reading.labels",
    "render_scene": "sets.scenes",
    "segfix_targets": "sets.segfix",
    "train_batches": "pipeline.batches",
}
__all__ = [
    "Data",
    "DataSet",
    "Encoded",
    "Example",
    "Failures",
    "LabelSpace",
    "Pair",
    "Source",
    "augment",
    "dataset_of",
    "evaluation_examples",
    "label_space",
    "label_space_of",
    "load_example",
    "mixed",
    "open_source",
    "picture_of",
    "read_image",
    "read_label",
    "render_scene",
    "segfix_targets",
    "train_batches",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
