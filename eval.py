"""Evaluate the network of a work directory on its validation split.

Its options are in `sdnjax/scripts/eval.py`; `sdnjax eval` is the same.
"""

import sys

from sdnjax.commands.command_line import run
from sdnjax.scripts.eval import main

if __name__ == "__main__":
    sys.exit(run(main))
