"""Checkpoints in a bucket: written here and copied there, copied here and read.

Orbax writes arrays to disks and to gs:// alone, and finishes a checkpoint by a rename, which a
bucket has not. So a checkpoint is made in a temporary folder, and copied up file by file with its
seal as the last one, without which it does not count. Nothing but copying touches the bucket. It
takes the disk space of one checkpoint, of two where there are several processes; TMPDIR says where.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint.tree import serialize_tree

from sdnjax.errors import InputError
from sdnjax.places import download, in_bucket, place
from sdnjax.training.seal import SEAL, read_seal


def temporary_folder() -> Path:
    """A folder that is there until this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="sdnjax-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


_copies = functools.cache(temporary_folder)


class WrittenApart:
    """A checkpoint that a process of its own writes, for one process of several.

    Orbax's own saving waits for all processes and for a folder that they share.
    """

    def __init__(self, folder: Path, items: Any):
        """
        Args:
          folder: of the checkpoint, made here.
          items: name → tree with NumPy arrays as leaves.
        """
        self._folder, self._work = folder, temporary_folder()
        # Types of one's own (an optimizer's) are unknown there; by name they load as they are.
        plain = {name: serialize_tree(tree, keep_empty_nodes=True) for name, tree in items.items()}
        with (self._work / "items").open("wb") as file:
            pickle.dump(plain, file, protocol=pickle.HIGHEST_PROTOCOL)

    def result(self) -> None:
        """Writes it, in place of what is there. Raises: OSError with the process's own error."""
        shutil.rmtree(self._folder, ignore_errors=True)
        words = [sys.executable, "-c", _WRITE, str(self._work / "items"), str(self._folder)]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        shutil.rmtree(self._work, ignore_errors=True)
        if done.returncode:
            found = re.findall(r"^[\w.]+(?:Error|Exception)\b.*", done.stderr, re.MULTILINE)
            raise OSError((found or [f"status {done.returncode}"])[-1])


_WRITE = """
import pathlib, pickle, sys
from orbax.checkpoint import v1 as ocp
with open(sys.argv[1], "rb") as file:
    ocp.save_checkpointables(pathlib.Path(sys.argv[2]).absolute(), pickle.load(file))
"""


@contextlib.contextmanager
def local_copy(path: Path, items: Sequence[str]) -> Iterator[Path]:
    """The folder of a checkpoint here, with the files of the `items` at least.

    One in a bucket is copied, once by a process; inside, errors that name the copy name the bucket.

    Raises: InputError as `read_seal`. What is missing in the bucket is missing in the copy.
    """
    if not in_bucket(path):
        yield path
        return
    path = place(path)
    seal = (path / SEAL).read_bytes() if (path / SEAL).is_file() else b""
    records = read_seal(path)["files"]
    digest = hashlib.sha256(f"{path}\n".encode() + seal).hexdigest()[:16]
    copy = _copies() / digest / path.name
    wanted = {
        name: record["bytes"]
        for name, record in records.items()
        if "/" not in name or name.split("/")[0] in items
    }
    copy.mkdir(parents=True, exist_ok=True)
    download(path, copy, wanted)
    (copy / SEAL).write_bytes(seal)
    try:
        yield copy
    except InputError as error:
        raise type(error)(str(error).replace(str(copy), str(path))) from None


def on_host(tree: Any) -> Any:
    """The leaves as NumPy arrays in process 0, None elsewhere; all processes call it.

    Of what is split over processes, one leaf at a time is put together.
    """
    first = jax.process_index() == 0

    def whole(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_replicated:
            mesh = leaf.sharding.mesh  # type: ignore[attr-defined]
            everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
            leaf = jax.jit(lambda x: x, out_shardings=everywhere)(leaf)
        if not first:
            return None
        return np.array(leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf)

    return jax.tree.map(whole, tree)
