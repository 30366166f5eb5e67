"""Compare variants of an experiment over several seeds.

Its options are in `sdnjax/scripts/study.py`; `sdnjax study` is the same.
"""

import sys

from sdnjax.commands.command_line import run
from sdnjax.scripts.study import main

if __name__ == "__main__":
    sys.exit(run(main))
