"""The TFDS builder of a data set, made from its record.

It writes ArrayRecord files with random access. Images and labels are stored as their files are,
and labels keep the values of their files: both are checked before (see `examine.py`), and mapped
when they are read.
"""

from __future__ import annotations

import functools
import itertools
import operator
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sdnjax.data.preparing.examine import (
    Block,
    Examined,
    Finding,
    all_items,
    examine,
    job_for,
    stored_bytes,
)
from sdnjax.data.sets.data_set import DataSet
from sdnjax.data.tfds_setup import tfds
from sdnjax.errors import InputError

_SHARD_BYTES = 128 * 2**20  # TFDS keeps a shard in memory while it writes it


def builder_class(data_set: DataSet) -> type[SegmentationBuilder]:
    """The builder of a data set. TFDS wants its name and version as attributes of a class."""
    manual = f"manual_dir holds {data_set.expected}"
    attributes = {
        "name": data_set.name,
        "data_set": data_set,
        "VERSION": tfds.core.Version(data_set.version),
        "MANUAL_DOWNLOAD_INSTRUCTIONS": None if data_set.generated else manual,
        "__module__": __name__,
    }
    class_name = data_set.name.title().replace("_", "")
    return type(class_name, (SegmentationBuilder,), attributes)


class SegmentationBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Base of the builders: `image` and `label` as encoded files, `name`, and superpixels.

    Args, besides TFDS's own:
      superpixels: SLIC segments that are stored with each example, as configuration `slicN`;
        None stores none.
      examined: what `examine` found; by default `manual_dir` is examined first.
      report: called with the number of examples written since its last call.
    """

    data_set: DataSet

    def __init_subclass__(cls, **kwargs: Any):
        # TFDS has data sets of the same names, and a second one of a name would be an error.
        super().__init_subclass__(skip_registration=True, **kwargs)  # type: ignore[call-arg]

    def __init__(
        self,
        *,
        superpixels: int | None = None,
        examined: Examined | None = None,
        report: Callable[[int], Any] = bool,
        **kwargs: Any,
    ):
        if superpixels is not None:
            kwargs["config"] = tfds.core.BuilderConfig(
                name=f"slic{superpixels}",
                version=self.VERSION,
                description=f"with superpixels: SLIC by scikit-image, {superpixels} segments",
            )
        kwargs["file_format"] = kwargs.get("file_format") or "array_record"
        self._superpixels, self._examined, self._report = superpixels, examined, report
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        # Given as bytes, an image is stored as it is, whatever its format.
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.Image(shape=(None, None, 1)),
            "name": tfds.features.Text(),
        }
        if self._superpixels is not None:
            features["superpixels"] = tfds.features.Image(
                shape=(None, None, 1), dtype=np.uint16, encoding_format="png"
            )
        # Order is the reader's business; stored in order of names, it is that of the folder.
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
            description=self.data_set.description,
            homepage=self.data_set.homepage or None,
            citation=self.data_set.citation or None,
            license=self.data_set.license,
        )

    def _shard_iterators_per_split(self, dl_manager: tfds.download.DownloadManager) -> dict:
        examined = self._examined or self._examine(dl_manager)
        return {
            split: [
                functools.partial(_examples, places, self._report) for places in _shards(of_split)
            ]
            for split, of_split in examined.places.items()
        }

    def _examine(self, dl_manager: tfds.download.DownloadManager) -> Examined:
        root = None if self.data_set.generated else Path(dl_manager.manual_dir)
        self._scratch = tempfile.TemporaryDirectory()  # it lives as long as the builder
        job = job_for(self.data_set, root, self._superpixels)
        return examine(all_items(self.data_set, root), job, Path(self._scratch.name))


def _examples(
    places: Sequence[tuple[Block, int]], report: Callable[[int], Any]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Keys and features of one shard."""
    key = itertools.count()
    for block, numbers in itertools.groupby(places, operator.itemgetter(0)):
        findings = block.findings()
        for _, number in numbers:
            yield next(key), _features(block, number, findings[number])
            report(1)


def _features(block: Block, number: int, finding: Finding) -> dict[str, Any]:
    item, state = block.items[number], block.states[number]
    image, label = finding.image, finding.label
    if image is None:
        encoded = item.read()
        # A block's results hold for the files in the state in which they were examined.
        if item.state() != state:
            raise InputError(
                f"{encoded.image_name} or {encoded.label_name} changed while it was prepared; "
                "the same command checks it again"
            )
        image, label = encoded.image, encoded.label if label is None else label
    features = {"image": image, "label": label, "name": state[0]}
    if finding.superpixels is not None:
        features["superpixels"] = finding.superpixels
    return features


def _shards(places: Sequence[tuple[Block, int]]) -> list[Sequence[tuple[Block, int]]]:
    """Cuts a split where about `_SHARD_BYTES` are full; a shard is never empty."""
    shards, start, size = [], 0, 0
    for end, (block, number) in enumerate(places, 1):
        size += stored_bytes(block.states[number])
        if size >= _SHARD_BYTES or end == len(places):
            shards.append(places[start:end])
            start, size = end, 0
    return shards
