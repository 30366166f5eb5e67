"""Sizes that are numbers, and sizes that are symbols.

`jax.export` traces a program for pictures of any size with symbols in the place of height and
width. What is worked out in Python or NumPy from the numbers of a shape is then part of the
program, and what only makes a program faster, such as the size of a band, is left out.
"""

import numpy as np


def known(shape) -> bool:
    """Whether all sizes are numbers."""
    return all(isinstance(n, int | np.integer) for n in shape)
