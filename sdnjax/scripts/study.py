"""Compare variants of an experiment over several seeds.

    python study.py configs/studies/camvid_operators.py --data.dir /data/camvid
    python study.py configs/studies/shapes_operators.py --jobs 2 --seeds 0,1,2
    python study.py configs/studies/shapes_operators.py --variants none,sdc --steps 20

The study file's study() returns a Study; docs/studies.md says how to write one. Every setting of
its base is an option here. Each variant is trained and validated with each seed, a process for each
run; the same command goes on where it was stopped, even killed. It ends with STUDIES/NAME.json, all
results, NAME.md, the tables, and NAME.png, the differences from the baseline. Exit status: 0 all
runs are finished, 75 or 130 a signal stopped it, 1 a run failed, 2 something given is wrong.
"""

from sdnjax.commands import study


def main() -> int:
    return study.main(__doc__)
