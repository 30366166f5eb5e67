"""What a reader process sends: a pickled head, its length before it, and the bytes of arrays."""

from __future__ import annotations

import pickle
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
