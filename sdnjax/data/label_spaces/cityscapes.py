"""Cityscapes: 19 of the 34 label ids of `*_labelIds.png` are evaluated."""

from sdnjax.data.label_spaces.space import IGNORE, from_rows

# The label id of each class, then its colour; the other ids below 34 are void.
_ROWS = (
    (7, "road", 128, 64, 128),
    (8, "sidewalk", 244, 35, 232),
    (11, "building", 70, 70, 70),
    (12, "wall", 102, 102, 156),
    (13, "fence", 190, 153, 153),
    (17, "pole", 153, 153, 153),
    (19, "traffic light", 250, 170, 30),
    (20, "traffic sign", 220, 220, 0),
    (21, "vegetation", 107, 142, 35),
    (22, "terrain", 152, 251, 152),
    (23, "sky", 70, 130, 180),
    (24, "person", 220, 20, 60),
    (25, "rider", 255, 0, 0),
    (26, "car", 0, 0, 142),
    (27, "truck", 0, 0, 70),
    (28, "bus", 0, 60, 100),
    (31, "train", 0, 80, 100),
    (32, "motorcycle", 0, 0, 230),
    (33, "bicycle", 119, 11, 32),
)
_CLASS_OF_ID = {row[0]: k for k, row in enumerate(_ROWS)}

CITYSCAPES = from_rows(
    "cityscapes",
    [row[1:] for row in _ROWS],
    [(i, _CLASS_OF_ID.get(i, IGNORE)) for i in range(34)],
)
