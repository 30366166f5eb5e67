"""Write the network of a work directory as one file that needs JAX alone.

Its options are in `sdnjax/scripts/export.py`; `sdnjax export` is the same.
"""

import sys

from sdnjax.commands.command_line import run
from sdnjax.scripts.export import main

if __name__ == "__main__":
    sys.exit(run(main))
