"""What the builders share: features, checks, and what happens to a bad file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sdnjax.data.label_spaces import label_space
from sdnjax.data.sources import Encoded, Failures, decode
from sdnjax.data.tfds_setup import tfds
from sdnjax.errors import InputError


class SegmentationBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base of the builders: `image` and `label` as encoded files, and `name`.

    Args, besides TFDS's own:
      on_bad_image: "raise" ends the preparation at the first bad pair with an InputError
        that names the file; "skip" leaves it out and records it in `failures`.
    """

    def __init__(self, *, on_bad_image: str = "raise", **kwargs):
        kwargs["file_format"] = kwargs.get("file_format") or "array_record"
        super().__init__(**kwargs)
        self.on_bad_image = on_bad_image
        self.failures = Failures()

    def dataset_info(self, **facts) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                # Given as bytes, an image is stored as it is, whatever its format.
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.Image(shape=(None, None, 1)),
                "name": tfds.features.Text(),
            }
        )
        # Order is the reader's business; stored in order of names, it is that of the folder.
        return tfds.core.DatasetInfo(
            builder=self, features=features, disable_shuffling=True, **facts
        )

    def checked(self, examples: Iterable[Encoded]) -> Iterator[tuple[int, dict]]:
        """Keys and features of the examples that decode and whose labels have a meaning."""
        space = label_space(self.name)
        for key, encoded in enumerate(examples):
            try:
                decode(encoded, space)
            except InputError as error:
                if self.on_bad_image == "raise":
                    raise
                self.failures.add(encoded.name, str(error))
            else:
                features = {"image": encoded.image, "label": encoded.label, "name": encoded.name}
                yield key, features
