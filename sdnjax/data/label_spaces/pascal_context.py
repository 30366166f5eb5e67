"""PASCAL Context: 59 of 459 labels are classes, all others are the background.

`pascal_context_60` has the background as class 0, `pascal_context_59` ignores it. Image files
hold 0 for the background and 1…59; the official .mat files hold 1…459, and 0 where nothing was
labelled. Classes are in the order of those ids, which is alphabetical, as in mmsegmentation:
the numbers 1…59 of `59_labels.txt` have another order.
"""

from sdnjax.data.label_spaces.ade20k import ADE20K
from sdnjax.data.label_spaces.space import IGNORE, LabelSpace

# Id of each class in the .mat files; `labels.txt` lists all 459.
IDS = {
    2: "aeroplane", 9: "bag", 18: "bed", 19: "bedclothes", 22: "bench", 23: "bicycle", 25: "bird",
    31: "boat", 33: "book", 34: "bottle", 44: "building", 45: "bus", 46: "cabinet", 59: "car",
    65: "cat", 68: "ceiling", 72: "chair", 80: "cloth", 85: "computer", 98: "cow", 104: "cup",
    105: "curtain", 113: "dog", 115: "door", 144: "fence", 158: "floor", 159: "flower",
    162: "food", 187: "grass", 189: "ground", 207: "horse", 220: "keyboard", 232: "light",
    258: "motorbike", 259: "mountain", 260: "mouse", 284: "person", 295: "plate",
    296: "platform", 308: "pottedplant", 324: "road", 326: "rock", 347: "sheep", 349: "shelves",
    354: "sidewalk", 355: "sign", 360: "sky", 366: "snow", 368: "sofa", 397: "table",
    415: "track", 416: "train", 420: "tree", 424: "truck", 427: "tvmonitor", 440: "wall",
    445: "water", 454: "window", 458: "wood",
}  # fmt: skip

_CLASSES = tuple(IDS.values())
_VALUE_OF_ID = {i: value for value, i in enumerate(IDS, start=1)}
_MAT_VALUES = tuple((i, _VALUE_OF_ID.get(i, 0)) for i in range(460))
# mmsegmentation gives it the first 60 colours of ADE20K.
_COLORS = ADE20K.palette[:60]

PASCAL_CONTEXT_60 = LabelSpace(
    "pascal_context_60",
    classes=("background", *_CLASSES),
    palette=_COLORS,
    file_values=tuple((value, value) for value in range(60)),
    mat_values=_MAT_VALUES,
)
PASCAL_CONTEXT_59 = LabelSpace(
    "pascal_context_59",
    classes=_CLASSES,
    palette=_COLORS[1:],
    file_values=((0, IGNORE), *((value, value - 1) for value in range(1, 60))),
    mat_values=_MAT_VALUES,
)
