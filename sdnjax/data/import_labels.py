"""Imports what labelling tools write: `python -m sdnjax.data.import_labels --help`."""

import sys

from sdnjax.data.importing.command import main

if __name__ == "__main__":
    sys.exit(main())
