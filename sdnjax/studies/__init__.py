"""Studies: the same experiment in several variants and with several seeds, compared in pairs.

`Study` says what is compared, `results` what a finished run keeps, `table` what follows from all of
them. `sdnjax.commands.study` does the runs.
"""

from sdnjax.studies.study import Study

__all__ = ["Study"]
