"""Examines the examples of a data set before it is written: block by block, in processes.

Every example is read, decoded and checked as training would do it, and what has to be computed
(superpixels above all) is computed. The results of a block of examples are one file in the work
folder, which appears when it is complete. The file's name is a hash of the names, sizes and times
of change of the files that were read. So the same command, started again, skips the blocks that
are finished, and repeats those in which a file has changed since.

Nothing here imports TensorFlow or JAX: a worker starts in a fraction of a second.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import io
import json
import multiprocessing
import os
import signal
import threading
import zipfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sdnjax.data.pixels import STORED, Pixels
from sdnjax.data.preparing.slic import slic
from sdnjax.data.reading.examples import canonical_label, decode
from sdnjax.data.reading.superpixels import encode_superpixels
from sdnjax.data.sets.data_set import DataSet
from sdnjax.data.sets.items import Item
from sdnjax.data.sets.label_space import LabelSpace
from sdnjax.errors import InputError
from sdnjax.files import write_atomically

_FORMAT = 1  # in the hash of every block, so that results of another format are not found
_KINDS = ("image", "label", "superpixels")


@dataclasses.dataclass(frozen=True)
class Job:
    """What a worker does with each item.

    Attributes:
      space: of the labels, which are checked.
      superpixels: segments to compute for each image, or None.
      keep: whether image and label are kept, because reading them again is work: they are
        generated.
      pixels: what is read of a picture, to see whether it can be.
    """

    space: LabelSpace
    superpixels: int | None = None
    keep: bool = False
    pixels: Pixels = STORED


@dataclasses.dataclass(frozen=True)
class Finding:
    """The result for one example.

    Attributes:
      error: the one line that says what is wrong with it; then there is nothing else.
      image, label: bytes to store; None to store the file as it is.
      superpixels: a PNG to store beside them, if there are to be any.
    """

    error: str | None = None
    image: bytes | None = None
    label: bytes | None = None
    superpixels: bytes | None = None


@dataclasses.dataclass(frozen=True)
class Block:
    """Consecutive examples of a split, their states, and the file of their results."""

    items: tuple[Item, ...]
    states: tuple[list[Any], ...]
    file: Path

    def findings(self) -> list[Finding]:
        """The results; OSError or BadZipFile if the file is missing or damaged."""
        with zipfile.ZipFile(self.file) as archive:
            found = [{"error": error} for error in json.loads(archive.read("errors.json"))]
            for member in archive.namelist():
                number, _, kind = member.partition(".")
                if kind in _KINDS:
                    found[int(number)][kind] = archive.read(member)
        return [Finding(**values) for values in found]


@dataclasses.dataclass(frozen=True)
class Examined:
    """A data set that can be written.

    Attributes:
      job: what was done with each of its items.
      places: split → (block, number in it) of every example that is right, in order.
      skipped: name of an example that is left out → the one line that says why.
    """

    job: Job
    places: Mapping[str, Sequence[tuple[Block, int]]]
    skipped: Mapping[str, str]


def examine(
    splits: Mapping[str, Sequence[Item]],
    job: Job,
    work: Path,
    *,
    on_bad_image: str = "raise",
    workers: int = 1,
    block_size: int | None = None,
    progress: bool = False,
) -> Examined:
    """Examines all examples, except those whose blocks are finished in `work`.

    Args:
      splits: split → its items in order.
      job: what is done with each of them.
      work: the work folder.
      on_bad_image: "raise" stops at the first bad example, in order; "skip" records it.
      workers: processes; 1 does everything in this one.
      block_size: examples that one process takes at a time; by default 128, or 16 where
        superpixels are computed.

    Raises: InputError for a bad example, a split without a good one, or a worker that died;
      OSError if findings cannot be written; KeyboardInterrupt with a line on how far it is.
    """
    size = block_size or (128 if job.superpixels is None else 16)
    blocks = {split: _blocks(split, items, job, work, size) for split, items in splits.items()}
    every = [block for part in blocks.values() for block in part]
    total = sum(len(block.items) for block in every)
    bar = tqdm(total=total, desc="checking", unit=" images", disable=None if progress else True)
    errors: dict[Path, list[str | None]] = {}
    skipped: dict[str, str] = {}
    try:
        with bar, contextlib.closing(_run(every, job, workers, bar.update)) as results:
            for block, found in results:
                errors[block.file] = found
                for state, error in zip(block.states, found, strict=True):
                    if error is not None and on_bad_image == "raise":
                        raise InputError(error)
                    if error is not None:
                        # Splits may have examples of one name.
                        skipped[error if state[0] in skipped else state[0]] = error
    except KeyboardInterrupt:
        done = sum(len(block.items) for block in every if block.file.exists())
        raise KeyboardInterrupt(
            f"{done} of {total} examples are checked; the same command goes on from there"
        ) from None
    places = {
        split: [
            (block, number)
            for block in part
            for number, error in enumerate(errors[block.file])
            if error is None
        ]
        for split, part in blocks.items()
    }
    for split, good in places.items():
        if not good:
            first = next(e for block in blocks[split] for e in errors[block.file] if e)
            raise InputError(f"no example of {split!r} can be read; the first failure: {first}")
    return Examined(job, places, skipped)


def all_items(data_set: DataSet, root: Path | None) -> dict[str, Sequence[Item]]:
    """Split → its items in order, for every split that is there.

    Raises: InputError if a split is empty or a file has no partner.
    """
    return {split: data_set.find(root, split) for split in data_set.splits(root)}


def job_for(data_set: DataSet, root: Path | None, superpixels: int | None = None) -> Job:
    """What is done with the items of a data set before they are written."""
    published = isinstance(data_set.label_space, LabelSpace)
    return Job(
        data_set.label_space_in(root),
        superpixels,
        keep=data_set.generated,
        pixels=STORED if published else Pixels("upright"),
    )


def find(item: Item, job: Job) -> Finding:
    """Examines one example."""
    try:
        encoded = item.read()
        example = decode(encoded, job.space, pixels=job.pixels)
        label = canonical_label(encoded, job.space)
    except InputError as error:
        return Finding(str(error))
    keep_label = job.keep or encoded.is_computed or label is not encoded.label
    superpixels = None
    if job.superpixels is not None:
        superpixels = encode_superpixels(slic(example.image, job.superpixels))
    return Finding(
        image=encoded.image if job.keep else None,
        label=label if keep_label else None,
        superpixels=superpixels,
    )


def _blocks(split: str, items: Sequence[Item], job: Job, work: Path, size: int) -> list[Block]:
    """Cuts a split into blocks; looks at the state of every file, opens none."""
    blocks = []
    for first in range(0, len(items), size):
        part = tuple(items[first : first + size])
        states = tuple(item.state() for item in part)
        what = [_FORMAT, repr(job.space), states]
        if job.superpixels is not None:
            what += [job.superpixels, importlib.metadata.version("scikit-image")]
        key = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
        blocks.append(Block(part, states, work / f"{split}-{first:07d}-{key}.zip"))
    return blocks


def stored_bytes(state: list[Any]) -> int:
    """About how many bytes an example of this state needs: those of its files."""
    return sum(file[1] for file in state[1:] if len(file) > 1)


def _run(
    blocks: Sequence[Block], job: Job, workers: int, report: Callable[[int], Any]
) -> Generator[tuple[Block, list[str | None]]]:
    """Every block in order, with the error of each of its examples or None.

    `report` is called with the number of examples finished since its last call. Closing the
    iterator ends the processes.
    """
    finished = {block.file: errors for block in blocks if (errors := _errors(block)) is not None}
    report(sum(map(len, finished.values())))
    todo = [block for block in blocks if block.file not in finished]
    with _started(min(workers, len(todo))) as start:
        futures = {block.file: start(_examine_block, block, job) for block in todo}
        for block in blocks:
            if block.file in finished:
                yield block, finished[block.file]
                continue
            try:
                errors = futures.pop(block.file).result()
            except BrokenProcessPool:
                raise InputError(
                    "a worker process was ended from outside, perhaps for lack of memory: the "
                    "same command goes on, with fewer --workers if need be"
                ) from None
            report(len(errors))
            yield block, errors


def _examine_block(block: Block, job: Job) -> list[str | None]:
    """Writes the results of a block; returns the errors alone.

    They go through the disk, not back to the parent: superpixels of a whole data set are
    gigabytes, and what is on the disk survives an interruption.
    """
    findings = [find(item, job) for item in block.items]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("errors.json", json.dumps([f.error for f in findings]))
        for number, finding in enumerate(findings):
            for kind in _KINDS:
                if (stored := getattr(finding, kind)) is not None:
                    archive.writestr(f"{number}.{kind}", stored)
    write_atomically(block.file, content.getvalue())
    return [f.error for f in findings]


def _errors(block: Block) -> list[str | None] | None:
    """The errors of a finished block; None if it is not finished, or its file is damaged."""
    try:
        with zipfile.ZipFile(block.file) as archive:
            if archive.testzip() is None:
                return json.loads(archive.read("errors.json"))
    except (OSError, zipfile.BadZipFile, KeyError, ValueError):
        pass
    return None


@contextlib.contextmanager
def _started(workers: int) -> Iterator[Callable[..., Future | _Later]]:
    """A function that has a call made: by a pool of processes, or when it is waited for."""
    if workers <= 1:
        yield _Later
        return
    others = set(multiprocessing.active_children())
    # Spawned: a fork of a process with threads, TensorFlow's say, may hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker)
    try:
        yield pool.submit
    except BaseException:
        # Not waited for: a block may take minutes. What is lost is at most one for each worker.
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown()


class _Later(functools.partial):
    """A call that is made in this process when its result is asked for."""

    def result(self) -> Any:
        return self()


def _start_worker() -> None:
    """Ctrl-C is the parent's to answer; when the parent is killed, the worker ends too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
