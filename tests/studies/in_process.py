"""The runs of the tiny study in the process of a test."""

import dataclasses
from pathlib import Path

from sdnjax.commands.study import do_run
from sdnjax.studies.study import load_study
from tests.studies import tiny_study

FILE = Path(tiny_study.__file__)


class Killed(Exception):
    pass


class Here:
    """Runs of a study in this process; the one whose number is `kill` dies after its first
    checkpoint, and is then tried no more."""

    def __init__(self, study, folder, kill=None):
        self.study, self.folder, self.kill, self.number = study, folder, kill, 0
        self.lines, self.status, self.started = [], 0, []

    def __call__(self, variant, seed, cores):
        self.number += 1
        self.started.append((variant, seed))
        if self.number == self.kill:
            do_run(dataclasses.replace(self.study), variant, seed, self.folder, report=self._dies)
        do_run(self.study, variant, seed, self.folder, report=self.lines.append)
        return self

    def _dies(self, line):
        if line.startswith("step 3/"):
            raise Killed

    def poll(self):
        return self.status

    def wait(self):
        return self.status

    def send_signal(self, number):
        pass


def on(camvid):
    """The study on miniature pictures."""
    study = load_study(FILE)
    data = dataclasses.replace(study.base.data, dir=str(camvid))
    return dataclasses.replace(study, base=dataclasses.replace(study.base, data=data))
