"""A report of runs: one HTML file that needs no server and no network.

`records` reads work directories; `html`, `charts` and `matrix` make the parts; `sections` says what
is shown of runs, and `page` puts it together. Nothing here computes with networks.
"""
