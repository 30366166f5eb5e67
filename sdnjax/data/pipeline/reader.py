"""A process that makes some rows of every training batch.

`ProcessBatches` starts it and passes it a connected socket. It is told what to read, then sends
one message a batch. It waits where the other end does not read, and ends when that is closed or
gone.
"""

from __future__ import annotations

import contextlib
import signal
import socket
from typing import Any

from sdnjax.data.pipeline.messages import Head, receive, send


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
    from sdnjax.data.pipeline.batches import train_batches  # noqa: PLC0415  (TensorFlow: after the signals are set)

    told: dict[str, str] = {}
    with train_batches(data, **options) as batches:
        for batch in batches:
            messages = batches.failures.messages
            new = {name: said for name, said in messages.items() if name not in told}
            told |= new
            arrays = tuple((k, x.shape, x.dtype.str) for k, x in batch.items())
            send(link, Head(arrays, dict(batches.seconds), new), tuple(batch.values()))
    send(link, Head(error=StopIteration()))
