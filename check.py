"""Look a data set over, before anything is trained on it.

Its options are in `sdnjax/scripts/check.py`; `sdnjax check` is the same.
"""

import sys

from sdnjax.commands.command_line import run
from sdnjax.scripts.check import main

if __name__ == "__main__":
    sys.exit(run(main))
