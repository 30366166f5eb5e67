"""One HTML file about runs, which needs no server and no network.

Its options are in `sdnjax/scripts/report.py`; `sdnjax report` is the same.
"""

import sys

from sdnjax.commands.command_line import run
from sdnjax.scripts.report import main

if __name__ == "__main__":
    sys.exit(run(main))
