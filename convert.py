"""Checkpoints from PyTorch and back, numerics compared, networks inspected.

Its options are in `sdnjax/scripts/convert.py`; `sdnjax convert` is the same.
"""

import sys

from sdnjax.commands.command_line import run
from sdnjax.scripts.convert import main

if __name__ == "__main__":
    sys.exit(run(main))
