"""CamVid: order and colours of the SegNet distribution, whose twelfth value is unlabelled."""

from sdnjax.data.label_spaces.space import IGNORE, from_rows

_ROWS = (
    ("sky", 128, 128, 128),
    ("building", 128, 0, 0),
    ("pole", 192, 192, 128),
    ("road", 128, 64, 128),
    ("pavement", 60, 40, 222),
    ("tree", 128, 128, 0),
    ("sign", 192, 128, 128),
    ("fence", 64, 64, 128),
    ("car", 64, 0, 128),
    ("pedestrian", 64, 64, 0),
    ("bicyclist", 0, 128, 192),
)

CAMVID = from_rows("camvid", _ROWS, [(k, k) for k in range(11)] + [(11, IGNORE)])
