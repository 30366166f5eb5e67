"""Reads data sets that were prepared as ArrayRecord files; see `sdnjax.data.prepare`.

A prepared data set lies in `NAME/VERSION`, with superpixels in `NAME/slicN/VERSION`, below
a folder of the user's. It counts once its `dataset_info.json`, which is written last, is there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sdnjax.data.pixels import STORED, Pixels
from sdnjax.data.reading.source import Source
from sdnjax.data.sets.items import Encoded
from sdnjax.data.sets.label_space import LabelSpace
from sdnjax.errors import InputError, unknown

COMPLETE = "dataset_info.json"


def is_complete(folder: Path) -> bool:
    """Whether a prepared data set is there, all of it."""
    return (folder / COMPLETE).exists()


def prepared_splits(folder: Path) -> tuple[str, ...]:
    """The splits of a prepared data set; InputError if it is damaged."""
    return tuple(_builder(folder).info.splits)


class PreparedSource(Source):
    """ArrayRecord files that TFDS wrote; their images are decoded here, not by TFDS."""

    def __init__(self, folder: Path, space: LabelSpace, split: str, pixels: Pixels = STORED):
        super().__init__(space, split, pixels)
        self._dir = folder
        builder = _builder(folder)
        if split not in builder.info.splits:
            raise unknown(f"{self._dir} has no split", split, builder.info.splits)
        from sdnjax.data.tfds_setup import tfds  # noqa: PLC0415 (imports TensorFlow)

        coded = [feature for feature in builder.info.features if feature != "name"]
        skip = tfds.decode.SkipDecoding()
        self._records = builder.as_data_source(split, decoders=dict.fromkeys(coded, skip))

    def __len__(self) -> int:
        return len(self._records)

    def name(self, index: int) -> str:
        return self._records[index]["name"].decode()

    def read(self, index: int) -> Encoded:
        record = self._records[index]
        name = record["name"].decode()
        place = f"{self._dir}, {self.split} {name}"
        superpixels = record.get("superpixels")
        return Encoded(
            name, record["image"], record["label"], f"{place} image", f"{place} label", superpixels
        )


def _builder(folder: Path) -> Any:
    from sdnjax.data.tfds_setup import tfds  # noqa: PLC0415 (imports TensorFlow)

    try:
        return tfds.builder_from_directory(folder)
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{folder}: damaged, prepare it again ({reason})") from error
