"""Where data sets keep their files, as people download them: one module per data set."""

from __future__ import annotations

from sdnjax.data.layouts.camvid import CAMVID
from sdnjax.data.layouts.layout import Layout, Pair

__all__ = ["LAYOUTS", "Layout", "Pair"]

LAYOUTS: dict[str, Layout] = {"camvid": CAMVID}
