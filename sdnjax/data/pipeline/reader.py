"""A process that makes some rows of every training batch, and the messages it sends.

`ProcessBatches` starts it and passes it a connected socket. It is told what to read, then sends
one message a batch: a pickled head, its length before it, and the arrays' bytes in the head's
order. It waits where the other end does not read, and ends when that is closed or gone.
"""

from __future__ import annotations

import contextlib
import pickle
import signal
import socket
import struct
from typing import Any, NamedTuple

import numpy as np

_LENGTH = struct.Struct("<Q")


class Head(NamedTuple):
    """What stands before the arrays of a batch.

    Attributes:
      arrays: name, shape and type of each.
      seconds: spent so far on each stage.
      failures: names of examples that were left out since the last message, and why.
      error: what ended the reading, in place of arrays; `StopIteration` for the last batch.
    """

    arrays: tuple[tuple[str, tuple[int, ...], str], ...] = ()
    seconds: dict[str, float] = {}  # noqa: RUF012 (of a tuple, and never changed)
    failures: dict[str, str] = {}  # noqa: RUF012
    error: BaseException | None = None


def send(link: socket.socket, what: Any, arrays: tuple[np.ndarray, ...] = ()) -> None:
    """Sends an object and the bytes of arrays."""
    head = pickle.dumps(what)
    link.sendall(_LENGTH.pack(len(head)) + head)
    for array in arrays:
        link.sendall(np.ascontiguousarray(array).data.cast("B"))


def receive(link: socket.socket) -> Any:
    """The object of a message; EOFError if the other end is gone."""
    (length,) = _LENGTH.unpack(read_into(link, bytearray(_LENGTH.size)))
    return pickle.loads(read_into(link, bytearray(length)))


def read_into(link: socket.socket, memory: Any) -> Any:
    """Fills a writable buffer from the socket and returns it."""
    view = memoryview(memory).cast("B")
    while view:
        count = link.recv_into(view, len(view), socket.MSG_WAITALL)
        if count == 0:
            raise EOFError("the other end is gone")
        view = view[count:]
    return memory


def main(descriptor: int) -> None:
    """Reads what the other end asks for, until that is gone."""
    # Signals are for the process that trains: it may need some more batches before it stops.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=descriptor) as link, contextlib.suppress(OSError, EOFError):
        data, options = receive(link)
        try:
            _serve(link, data, options)
        except OSError:
            raise  # the other end is gone
        except Exception as error:
            send(link, Head(error=error))


def _serve(link: socket.socket, data: Any, options: dict[str, Any]) -> None:
    from sdnjax.data.pipeline.batches import train_batches  # noqa: PLC0415  (imports TensorFlow)

    told: dict[str, str] = {}
    with train_batches(data, **options) as batches:
        for batch in batches:
            messages = batches.failures.messages
            new = {name: said for name, said in messages.items() if name not in told}
            told |= new
            arrays = tuple((k, x.shape, x.dtype.str) for k, x in batch.items())
            send(link, Head(arrays, dict(batches.seconds), new), tuple(batch.values()))
    send(link, Head(error=StopIteration()))
