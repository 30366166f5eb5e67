"""PASCAL VOC 2012 with SBD's labels: 20 objects and the background, 255 between them."""

from sdnjax.data.label_spaces.space import IGNORE, Color, LabelSpace

_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip


def voc_color(index: int) -> Color:
    """Colour `index` of the VOC devkit: its bits, three at a time, are the high bits of r, g, b."""
    r = g = b = 0
    for shift in range(7, -1, -1):
        r |= (index & 1) << shift
        g |= (index >> 1 & 1) << shift
        b |= (index >> 2 & 1) << shift
        index >>= 3
    return r, g, b


VOC2012_AUG = LabelSpace(
    "voc2012_aug",
    classes=_CLASSES,
    palette=tuple(voc_color(k) for k in range(len(_CLASSES))),
    file_values=(*((k, k) for k in range(len(_CLASSES))), (255, IGNORE)),
)
