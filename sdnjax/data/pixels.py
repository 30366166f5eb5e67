"""What of a picture's file a network sees: one rule for every command."""

from __future__ import annotations

import dataclasses
from typing import Literal

# 2²⁸ pixels: a whole satellite scene, and what a small file can at most be made to unpack.
MOST_PIXELS = 2**28
Orientation = Literal["upright", "stored"]


@dataclasses.dataclass(frozen=True)
class Pixels:
    """What is read of a picture. The result is always uint8 `[H, W, channels]`.

    Attributes:
      orientation: a camera writes down how a picture is to be turned (EXIF). "upright" turns it,
        as viewers, labelling tools and mmcv do; "stored" does not, as benchmarks are labelled.
      channels: bands of the picture. Grey is repeated for three; three equal bands count as grey.
      value_range: the values that become 0 and 255. None: 8-bit files as they are; files of more
        bits are refused, because nothing tells how bright 4095 is. Values are rounded to
        256 levels.
      most_pixels: larger pictures are refused.
    """

    orientation: Orientation = "stored"
    channels: int = 3
    value_range: tuple[float, float] | None = None
    most_pixels: int = MOST_PIXELS

    @property
    def is_plain(self) -> bool:
        """Whether an 8-bit RGB file without tags is what is read."""
        small = self.most_pixels < 2**26  # the faster decoder's own limit
        return self.channels == 3 and self.value_range is None and not small


STORED = Pixels()
