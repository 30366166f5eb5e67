"""Segment pictures with the network of a work directory.

Its options are in `sdnjax/scripts/predict.py`; `sdnjax predict` is the same.
"""

import sys

from sdnjax.commands.command_line import run
from sdnjax.scripts.predict import main

if __name__ == "__main__":
    sys.exit(run(main))
