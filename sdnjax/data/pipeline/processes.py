"""Training batches made by several processes, where the interpreter's lock bounds one.

A batch is a function of (seed, step), and its rows may be asked for separately: so each reader
process makes its rows as one of several training processes would, and here they are put together.
What comes out does not depend on how many there are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import subprocess
import sys
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from sdnjax.data.data_settings import Data
from sdnjax.data.pipeline.messages import Head, read_into, receive, send
from sdnjax.data.reading.source import Failures, Source
from sdnjax.errors import InputError, RunError

Batch = dict[str, np.ndarray]


class ProcessBatches(Iterator[Batch]):
    """Iterator of training batches whose rows `data.processes` processes make; see `train_batches`.

    Attributes: those of `TrainBatches`. `seconds` are of all processes together.
    """

    def __init__(self, data: Data, source: Source, options: dict[str, Any]):
        """`options` are those of `train_batches`, of this process's share of the batch."""
        readers, share = data.processes, options["batch_size"] // options["process_count"]
        if share % readers:
            raise InputError(
                f"data.processes is {readers}, which does not divide the {share} images of a batch "
                "that this process reads"
            )
        if not isinstance(data.name, str):
            raise InputError(
                "data.processes: a data set of your own is read by the process that trains: 0"
            )
        self.failures = Failures()
        self.num_examples = len(source)
        self.label_space = source.label_space
        self._rows = share // readers
        self._links: list[socket.socket] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        own = dataclasses.replace(data, processes=0)
        first, count = (readers * options[f"process_{name}"] for name in ("index", "count"))
        for i in range(readers):
            ours, theirs = socket.socketpair()
            with theirs:
                self._processes.append(_start(theirs))
            send(ours, (own, {**options, "process_index": first + i, "process_count": count}))
            self._links.append(ours)
        self._seconds: list[dict[str, float]] = [{} for _ in range(readers)]
        self._threads = ThreadPoolExecutor(readers, thread_name_prefix="sdnjax-reader")
        self._closed = False
        held = self._links, self._processes, self._threads
        self._finalizer = weakref.finalize(self, _stop, *held)

    @property
    def seconds(self) -> dict[str, float]:
        """What the readers' time went into so far, as in `TrainBatches`."""
        stages = {stage for one in self._seconds for stage in one}
        return {s: sum(one.get(s, 0.0) for one in self._seconds) for s in sorted(stages)}

    def __next__(self) -> Batch:
        if self._closed:
            raise StopIteration
        heads = list(self._threads.map(self._head, range(len(self._links))))
        for head in heads:
            if head.error is not None:
                self.close()
                raise head.error
        batch = {
            name: np.empty((self._rows * len(heads), *shape[1:]), dtype)
            for name, shape, dtype in heads[0].arrays
        }
        list(self._threads.map(lambda i: self._fill(i, batch, heads[i]), range(len(heads))))
        for i, head in enumerate(heads):
            self._seconds[i] = head.seconds
            for name, message in head.failures.items():
                self.failures.add(name, message)
        for values in batch.values():
            values.flags.writeable = False
        return batch

    def close(self) -> None:
        """Stops the readers; the iterator is then exhausted."""
        self._closed = True
        self._finalizer()

    def __enter__(self) -> ProcessBatches:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _head(self, i: int) -> Head:
        try:
            head: Head = receive(self._links[i])
        except (EOFError, OSError):
            raise RunError(
                f"reader process {i} is gone (killed, or out of memory): --resume goes on from the "
                "last checkpoint; fewer data.processes take less memory"
            ) from None
        return head

    def _fill(self, i: int, batch: Batch, head: Head) -> None:
        for name, shape, _ in head.arrays:
            rows = batch[name][i * self._rows : (i + 1) * self._rows]
            if rows.shape != shape:
                raise RunError(f"reader process {i} made {name} {shape}, not {rows.shape}")
            read_into(self._links[i], rows)


def _start(link: socket.socket) -> subprocess.Popen[bytes]:
    """A reader at the other end of a socket. It computes on the CPU, whatever trains."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))  # wherever this one began
    # Not `-m`, under which what it sends would be of a module __main__.
    begin = f"from sdnjax.data.pipeline.reader import main; main({link.fileno()})"
    return subprocess.Popen(
        [sys.executable, "-c", begin],
        pass_fds=[link.fileno()],
        env=environment,
        stdin=subprocess.DEVNULL,
    )


def _stop(
    links: list[socket.socket],
    processes: list[subprocess.Popen[bytes]],
    threads: ThreadPoolExecutor,
) -> None:
    """Ends the readers, and whoever waits for them."""
    for link in links:
        with contextlib.suppress(OSError):  # of one whose other end is gone
            link.shutdown(socket.SHUT_RDWR)
        link.close()
    threads.shutdown(wait=False)
    for process in processes:  # one may be in the middle of a picture; there is nothing to save
        process.kill()
        process.wait()
