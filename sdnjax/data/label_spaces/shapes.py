"""The generated scenes; see `sdnjax.data.shapes`."""

from sdnjax.data.label_spaces.space import from_rows

_ROWS = (
    ("ground", 112, 108, 100),
    ("disc", 214, 92, 78),
    ("bar", 232, 178, 60),
    ("triangle", 92, 172, 96),
    ("ring", 70, 132, 206),
    ("hexagon", 158, 104, 190),
)

SHAPES = from_rows("shapes", _ROWS)
