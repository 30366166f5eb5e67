"""Prepares a data set as ArrayRecord files: `python -m sdnjax.data.prepare --help`."""

import sys

from sdnjax.data.preparing.command import main

if __name__ == "__main__":
    sys.exit(main())
