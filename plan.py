"""What a recipe needs on machines that one does not have.

Its options are in `sdnjax/scripts/plan.py`; `sdnjax plan` is the same.
"""

import sys

from sdnjax.commands.command_line import run
from sdnjax.scripts.plan import main

if __name__ == "__main__":
    sys.exit(run(main))
