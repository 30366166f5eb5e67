"""Boundary-aware semantic segmentation in JAX.

    sdnjax train CONFIG            train a network; CONFIG is a file or the name of a shipped one
    sdnjax eval WORKDIR            scores on the validation split
    sdnjax predict WORKDIR PICTURE …
    sdnjax check CONFIG            look a data set over
    sdnjax prepare DATA            prepare a data set for fast reading
    sdnjax import-labels FORMAT    labels of labelling tools
    sdnjax convert VERB …          PyTorch checkpoints and back
    sdnjax figures VERB …          figures of networks and data
    sdnjax export RUN FILE         a network as one file of StableHLO
    sdnjax report RUN [RUN …]      one HTML page about runs
    sdnjax serve RUN [OTHER_RUN]   a page to try networks on one's own pictures
    sdnjax study STUDY             variants and seeds, compared in pairs
    sdnjax plan CONFIG             what a recipe needs on machines that one does not have
    sdnjax segfix, sdnjax inverse-form    boundary companions

`sdnjax COMMAND --help` tells the rest. `python -m sdnjax` is the same.
"""

from __future__ import annotations

import importlib
import sys

from sdnjax.commands.command_line import run
from sdnjax.errors import unknown

_SCRIPTS = (
    *("train", "eval", "predict", "check", "convert", "export", "figures", "report"),
    *("serve", "study", "plan"),
)
COMMANDS = {
    **{name: f"sdnjax.scripts.{name}" for name in _SCRIPTS},
    "prepare": "sdnjax.data.prepare",
    "import-labels": "sdnjax.data.import_labels",
    "segfix": "sdnjax.commands.segfix",
    "inverse-form": "sdnjax.commands.inverse_form",
}


def main() -> int:
    """Runs the command that the command line names first; returns its exit status."""
    return run(_dispatch)


def _dispatch() -> int | None:
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__.strip())
        return 0 if len(sys.argv) > 1 else 2
    name = sys.argv[1]
    if name not in COMMANDS:
        raise unknown("unknown command", name, COMMANDS)
    # Usage lines and the record of a run say what was called.
    sys.argv = [f"sdnjax {name}", *sys.argv[2:]]
    command: int | None = importlib.import_module(COMMANDS[name]).main()
    return command


if __name__ == "__main__":
    sys.exit(main())
