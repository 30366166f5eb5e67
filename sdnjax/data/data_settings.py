"""Settings of the data: what is read, and how a training example is made of it."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Literal

from sdnjax.data.pixels import MOST_PIXELS, Pixels
from sdnjax.data.sets import DATA_SETS, named
from sdnjax.data.sets.data_set import DataSet
from sdnjax.errors import InputError, unknown
from sdnjax.settings import check_types, setting

if TYPE_CHECKING:
    from sdnjax.ops.normalization import Normalization

# What a network may ask for besides the normalised images. Only superpixels come from the data
# set in addition; the picture is the images with mean and std put back, labels are there anyway.
EXTRAS = ("superpixels", "picture", "label")


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set, its splits, and the augmentation of its training examples.

    `name` is a key of `sdnjax.data.sets.DATA_SETS`, or a `DataSet` of one's own, which is then
    read from its files.
    Sizes are (height, width) in pixels except `base_size`, which has no orientation.
    Raises InputError for a value that cannot work; the message names the key.
    """

    name: str | DataSet = setting(
        "shapes",
        f"data set: {', '.join(DATA_SETS)}; folder is your own pictures, shapes is generated; "
        "NAME_segfix is NAME with SegFix's directions as labels; a configuration file may also "
        "give a DataSet",
    )
    dir: str | None = setting(
        None,
        "folder that holds the data set as its archives unpack it, or prepared; docs/data.md "
        "shows each; shapes needs none and uses ~/.cache/sdnjax",
        run_only=True,
    )
    train_split: str = setting("train", "split that is trained on")
    val_split: str | None = setting("val", "split that is evaluated; none: training goes without")
    val_share: float | None = setting(
        None,
        "share of train_split set aside as val_split, decided by a hash of each name; none: "
        "val_split is a split of the data set",
        above=0,
        below=1,
    )
    fold: tuple[int, int] | None = setting(
        None,
        "i,k: the i-th of k parts of train_split, i from 0, is set aside as val_split, in place of "
        "data.val_share",
        least=0,
    )
    crop_size: tuple[int, int] = setting(
        (96, 96), "height,width of a training crop in pixels", least=1
    )
    recipe: Literal["mmseg", "difnet"] = setting(
        "mmseg",
        "how a training example is made: mmsegmentation's way, by the settings below; or DifNet's: "
        "mirror, one of the scales .5, .6, … 1.4 by PIL, crop, black and class 0 beyond a picture",
    )
    base_size: tuple[int, int] | None = setting(
        None,
        "long,short edges that an image is fitted into before the random scale, keeping its "
        "ratio; none keeps its own size",
    )
    scale_range: tuple[float, float] = setting((0.5, 2.0), "min,max of the random scale")
    max_class_share: float = setting(
        0.75,
        "crops in which one class has a greater share are drawn again, 10 times at most; 1 keeps "
        "the first",
    )
    flip: bool = setting(True, "with probability 0.5, mirror a training example")
    photometric: bool = setting(True, "distort brightness, contrast, saturation and hue")
    augment_on: Literal["host", "device"] = setting(
        "host",
        "where training examples are augmented; device: on the accelerator, inside the step, for "
        "data sets of one image size",
    )
    transfer: Literal["float32", "uint8"] = setting(
        "float32",
        "what host augmentation sends to the devices: real numbers, normalised, or values rounded "
        "to 8 bits, as mmsegmentation's are, normalised there: a quarter of the bytes",
    )
    superpixels: int | None = setting(
        None,
        "read the data set that was prepared with this many SLIC superpixels for each image; "
        "none: without superpixels",
        least=1,
    )
    channels: int = setting(
        3, "bands of a picture: 3 are red, green, blue; any number in .npy arrays", least=1
    )
    value_range: tuple[float, float] | None = setting(
        None,
        "values that become 0 and 255 (0,4095 for 12 bits), rounded to 256 levels; none: files "
        "have 8 bits",
    )
    exif_orientation: Literal["upright", "stored"] | None = setting(
        None,
        "pictures whose camera says that they are to be turned: upright turns them, stored does "
        "not; none: stored for benchmarks, upright for your own",
    )
    max_pixels: int = setting(
        MOST_PIXELS, "pictures with more pixels are refused", run_only=True, least=1
    )
    mean: tuple[float, ...] = setting(
        (123.675, 116.28, 103.53), "mean of each band, subtracted from 0-255 values"
    )
    std: tuple[float, ...] = setting(
        (58.395, 57.12, 57.375), "deviation of each band, divided by after the mean", above=0
    )
    on_bad_image: Literal["raise", "skip"] = setting(
        "raise", "an unreadable image ends the run, or is skipped and counted", run_only=True
    )
    workers: int = setting(4, "threads that read and augment", run_only=True, least=1)
    processes: int = setting(
        0,
        "processes that read and augment, each with data.workers threads, where one interpreter is "
        "not enough; 0: the one that trains",
        run_only=True,
        least=0,
    )

    def __post_init__(self) -> None:
        check_types(self)
        dataset_of(self)  # an unknown name is reported with the nearest one
        self._require("train_split", bool(self.train_split), "name a split")
        self._require("val_split", self.val_split != "", "name a split, or be none")
        if self.fold is not None:
            part, parts = self.fold
            self._require("fold", 0 <= part < parts >= 2, "be i,k with 0 <= i < k and k >= 2")
        if self.val_share is not None or self.fold is not None:
            self._require(
                "val_split",
                self.val_split not in (None, self.train_split),
                "be a name, and not data.train_split: data.val_share or data.fold divides that",
            )
            self._require(
                "val_share",
                self.val_share is None or self.fold is None,
                "be none beside data.fold",
            )
        self._require("crop_size", _positive(self.crop_size, 2), "be two positive integers")
        if self.base_size is not None:
            self._require("base_size", _positive(self.base_size, 2), "be two positive integers")
        self._require(
            "scale_range",
            _positive(self.scale_range, 2) and self.scale_range[0] <= self.scale_range[1],
            "be two positive numbers, the least first",
        )
        self._require("max_class_share", 0 < self.max_class_share <= 1, "lie in (0, 1]")
        if self.channels != 3 and (self.mean, self.std) == (Data.mean, Data.std):
            raise InputError(
                f"data.channels is {self.channels}: give data.mean and data.std a number for each "
                "(check.py says which)"
            )
        for key in ("mean", "std"):
            fits = len(getattr(self, key)) == self.channels
            self._require(key, fits, f"be {self.channels} numbers, one for each of data.channels")
        if self.recipe == "difnet" and self.augment_on == "device":
            raise InputError("data.augment_on: data.recipe difnet is for the host")
        if self.photometric and self.channels != 3 and self.recipe == "mmseg":
            n = self.channels
            raise InputError(f"data.photometric distorts red, green, blue: false with {n} channels")
        if self.augment_on == "device" and self.channels != 3:
            raise InputError("data.augment_on: pictures of other than 3 channels are for the host")
        if self.value_range is not None:
            low, high = self.value_range
            self._require("value_range", low < high, "be two numbers, the darkest first")
        self._require(
            "on_bad_image", self.on_bad_image in ("raise", "skip"), "be 'raise' or 'skip'"
        )
        self._require("workers", self.workers >= 1, "be at least 1")

    def unused(self) -> dict[str, str]:
        """The settings that have no effect beside the others, and why."""
        found = {}
        if self.augment_on == "device":
            found["transfer"] = "data.augment_on is device: pictures cross as they are read"
        if self.recipe != "mmseg":
            others = ("base_size", "scale_range", "max_class_share", "photometric")
            found |= dict.fromkeys(others, f"data.recipe is {self.recipe}")
        return found

    @property
    def pixels(self) -> Pixels:
        """What is read of a picture's file."""
        published = isinstance(self.name, str) and not named(self.name).is_own
        orientation = self.exif_orientation or ("stored" if published else "upright")
        return Pixels(orientation, self.channels, self.value_range, self.max_pixels)

    @property
    def normalization(self) -> Normalization:
        """What is done to the values 0–255 of an image before a network sees it."""
        # Imported here, because the processes that read images do without JAX.
        from sdnjax.ops.normalization import Normalization  # noqa: PLC0415

        return Normalization(self.mean, self.std)

    def _require(self, key: str, satisfied: bool, what: str) -> None:
        if not satisfied:
            raise InputError(f"data.{key} must {what}, not {getattr(self, key)!r}")


def dataset_of(data: Data) -> DataSet:
    """The data set that `data` names; InputError with the nearest name if there is none."""
    return data.name if isinstance(data.name, DataSet) else named(data.name)


def wants_superpixels(data: Data, extras: tuple[str, ...]) -> bool:
    """Whether superpixels are among the extra inputs that were asked for.

    Raises: InputError for an extra input that nobody supplies, and for superpixels if
      `data` does not say which.
    """
    for name in extras:
        if name not in EXTRAS:
            raise unknown("unknown extra input", name, EXTRAS)
    if "superpixels" in extras and data.superpixels is None:
        raise InputError(
            "superpixels are needed, but data.superpixels is none: prepare the data set with "
            f"`python -m sdnjax.data.prepare {dataset_of(data).name} … --superpixels 200` and set "
            "--data.superpixels 200"
        )
    return "superpixels" in extras


def _positive(values: tuple[float, ...], count: int) -> bool:
    return len(values) == count and all(math.isfinite(v) and v > 0 for v in values)
