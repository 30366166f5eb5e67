"""Figures of the papers, of your own networks and data.

Its options are in `sdnjax/scripts/figures.py`; `sdnjax figures` is the same.
"""

import sys

from sdnjax.commands.command_line import run
from sdnjax.scripts.figures import main

if __name__ == "__main__":
    sys.exit(run(main))
