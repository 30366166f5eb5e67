"""Some tensors of a file by name, for those who need no table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sdnjax.convert.files import checkpoint_file, read_file
from sdnjax.convert.state_dict import as_array, find_tensors
from sdnjax.convert.words import shown


def read_tensors(path: str, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Name → array, of a file of any kind that `read_file` knows.

    Where the tensors lie, and what stands before their names, is found by `names`; what else lies
    there is returned too, and what is missing is not.

    Raises: InputError for a file that cannot be read.
    """
    source = str(checkpoint_file(path))
    found = find_tensors(read_file(path), names, source).state
    return {name: as_array(value, f"{source}: {shown(name)}") for name, value in found.items()}
