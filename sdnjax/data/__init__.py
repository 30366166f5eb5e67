"""Data sets, label spaces, augmentation and the index-driven pipeline.

Names are looked up when first used: importing this package imports neither TensorFlow nor
TensorFlow Datasets, and reading plain folders never does. Only `train_batches`, `augment`
and prepared data sets need them.
"""

import importlib

_HOME = {
    "Data": "data_settings",
    "Example": "examples",
    "Failures": "sources",
    "LabelSpace": "label_spaces",
    "Source": "examples",
    "augment": "augmentation",
    "evaluation_examples": "evaluation",
    "label_space": "label_spaces",
    "label_space_of": "sources",
    "load_example": "sources",
    "normalize": "images",
    "open_source": "sources",
    "read_image": "images",
    "read_label": "images",
    "render_scene": "shapes",
    "train_batches": "pipeline",
}
__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return sorted({*globals(), *_HOME})
