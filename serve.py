"""A page in the browser to try a trained network on one's own pictures.

Its options are in `sdnjax/scripts/serve.py`; `sdnjax serve` is the same.
"""

import sys

from sdnjax.commands.command_line import run
from sdnjax.scripts.serve import main

if __name__ == "__main__":
    sys.exit(run(main))
