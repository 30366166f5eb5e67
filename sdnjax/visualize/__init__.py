"""Pictures of label maps, of errors, and sheets of them; Pillow and NumPy only."""

from sdnjax.visualize.confusion import confusion_picture
from sdnjax.visualize.files import save_png
from sdnjax.visualize.panel import legend, panel
from sdnjax.visualize.pictures import colorize, error_map, overlay, shown
from sdnjax.visualize.text import undrawable

__all__ = [
    "colorize",
    "confusion_picture",
    "error_map",
    "legend",
    "overlay",
    "panel",
    "save_png",
    "shown",
    "undrawable",
]
