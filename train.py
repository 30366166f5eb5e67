"""Train a segmentation network.

Its options are in `sdnjax/scripts/train.py`; `sdnjax train` is the same.
"""

import sys

from sdnjax.commands.command_line import run
from sdnjax.scripts.train import main

if __name__ == "__main__":
    sys.exit(run(main))
