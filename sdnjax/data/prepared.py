"""Reads data sets that were prepared as ArrayRecord files; see `sdnjax.data.prepare`.

A prepared data set lies in `NAME/VERSION`, with superpixels in `NAME/slicN/VERSION`, below
a folder of the user's. It counts once its `dataset_info.json` is there.
"""

from __future__ import annotations

from pathlib import Path

from sdnjax.data import buckets
from sdnjax.data.cache import default_cache
from sdnjax.data.data_settings import Data
from sdnjax.data.examples import Encoded, Source
from sdnjax.data.label_spaces import label_space
from sdnjax.data.layouts import LAYOUTS
from sdnjax.errors import InputError, unknown

# Of the data sets that can be prepared; a user's own folder is always read as it is.
VERSIONS = {
    "camvid": "1.0.0",
    "shapes": "1.0.0",
    "cityscapes": "1.0.0",
    "ade20k": "1.0.0",
    "pascal_context_59": "1.0.0",
    "pascal_context_60": "1.0.0",
    "voc2012_aug": "1.0.0",
}
COMPLETE = "dataset_info.json"


def prepared_dir(root, name: str, superpixels: int | None = None):
    """Where `name` lies below `root`, a `Path` or anything with its `/`."""
    if superpixels is not None:
        return root / name / f"slic{superpixels}" / VERSIONS[name]
    return root / name / VERSIONS[name]


def is_prepared(root, name: str, superpixels: int | None = None) -> bool:
    return (prepared_dir(root, name, superpixels) / COMPLETE).exists()


def open_prepared(data: Data, split: str) -> Source | None:
    """The prepared data set that `data` asks for; None if its files are to be read directly.

    One in a bucket is copied into the cache first. shapes is generated if it is not there.

    Raises: InputError where only a prepared data set can serve, in a bucket or with
      superpixels, and there is none; it says which command prepares it.
    """
    name, segments = data.name, data.superpixels
    if segments is not None and segments < 1:
        raise InputError(f"data.superpixels must be positive or none, not {segments}")
    if name not in VERSIONS:
        if segments is not None or (data.dir is not None and buckets.is_bucket(data.dir)):
            raise InputError(
                f"data.name {name!r} cannot be prepared, as superpixels and buckets need"
            )
        return None
    if data.dir is not None and buckets.is_bucket(data.dir):
        root = buckets.mirror(data.dir)
        relative = prepared_dir(Path(), name, segments)
        if not buckets.has(data.dir, relative):
            raise InputError(
                f"{data.dir} holds no {relative.as_posix()}; {_command(name, segments, data.dir)}"
            )
        buckets.download(data.dir, relative)
        return PreparedSource(root, name, split, segments)
    if data.dir is None and name != "shapes":
        return None
    root = Path(data.dir).expanduser() if data.dir else default_cache()
    if not is_prepared(root, name, segments):
        if name == "shapes":
            from sdnjax.data.prepare import prepare  # noqa: PLC0415 (imports TensorFlow)

            prepare("shapes", root, superpixels=segments, progress=False)
        elif segments is not None:
            raise InputError(
                f"data.superpixels: {prepared_dir(root, name, segments)} does not exist; "
                + _command(name, segments, str(root))
            )
        else:
            return None
    return PreparedSource(root, name, split, segments)


def _command(name: str, superpixels: int | None, data_dir: str) -> str:
    source = "DIR"
    if not buckets.is_bucket(data_dir) and name in LAYOUTS and LAYOUTS[name].splits(Path(data_dir)):
        source = data_dir
    given = "" if name == "shapes" else f" --source {source}"
    given += f" --data-dir {data_dir}"
    given += "" if superpixels is None else f" --superpixels {superpixels}"
    return f"`python -m sdnjax.data.prepare {name}{given}` prepares it"


class PreparedSource(Source):
    """ArrayRecord files that TFDS wrote; their images are decoded here, not by TFDS."""

    def __init__(self, root: Path, name: str, split: str, superpixels: int | None = None):
        super().__init__(label_space(name), split)
        from sdnjax.data.tfds_setup import tfds  # noqa: PLC0415 (imports TensorFlow)

        self._dir = prepared_dir(root, name, superpixels)
        try:
            builder = tfds.builder_from_directory(self._dir)
        except Exception as error:
            reason = " ".join(str(error).split())[:120]
            raise InputError(f"{self._dir}: damaged, prepare it again ({reason})") from error
        if split not in builder.info.splits:
            raise unknown(f"{self._dir} has no split", split, builder.info.splits)
        coded = [feature for feature in builder.info.features if feature != "name"]
        skip = tfds.decode.SkipDecoding()
        self._records = builder.as_data_source(split, decoders=dict.fromkeys(coded, skip))

    def __len__(self) -> int:
        return len(self._records)

    def name(self, index: int) -> str:
        return self._records[index]["name"].decode()

    def encoded(self, index: int) -> Encoded:
        record = self._records[index]
        name = record["name"].decode()
        place = f"{self._dir}, {self.split} {name}"
        superpixels = record.get("superpixels")
        return Encoded(
            name, record["image"], record["label"], f"{place} image", f"{place} label", superpixels
        )
