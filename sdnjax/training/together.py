"""Several processes that train together: they begin with the same, and end with each other.

Words travel through the key-value store of JAX's coordinator, which needs no device.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from orbax.checkpoint import multihost

from sdnjax.errors import InputError, RunError

_POLL = 0.5  # seconds between two looks at whether another process has failed
_GRACE = 4.0  # seconds that the coordinator stays for the others to read what happened
_ROUND = itertools.count()  # every process calls what is here equally often


def agree(facts: Mapping[str, Any], *, seconds: float = 300) -> None:
    """Every process says what it is about to do; if that differs, all of them end with one line.

    Args:
      facts: name → a value that JSON can hold; at most some kilobytes together.
      seconds: how long to wait for the others.

    Raises: InputError that names the first fact that differs, its values and whose they are;
      RunError if a process does not come.
    """
    if jax.process_count() == 1:
        return
    client, number = multihost.get_jax_distributed_client(), next(_ROUND)
    folder, index = f"sdnjax/facts/{number}", jax.process_index()
    own = json.loads(json.dumps(dict(facts)))
    client.key_value_set(f"{folder}/{index}", json.dumps(own))
    reference = index
    with contextlib.suppress(Exception):  # a timeout, which is told below
        text = client.blocking_key_value_get(f"{folder}/0", round(1000 * seconds))
        reference = json.loads(text)
    verdict = _difference(reference, own, index) if isinstance(reference, dict) else ""
    if found := [said for said in gather(verdict, seconds=seconds) if said]:
        raise InputError(found[0])


def _difference(first: Mapping[str, Any], own: Mapping[str, Any], index: int) -> str:
    for name in sorted(first.keys() | own.keys()):
        theirs, ours = (json.dumps(facts.get(name))[:80] for facts in (first, own))
        if theirs != ours:
            return (
                f"processes differ: {name} is {theirs} in process 0 and {ours} in process {index}: "
                "start all of them alike"
            )
    return ""


def gather(value: Any, *, seconds: float = 300) -> list[Any]:
    """What every process gave here, in their order; small values that JSON can hold.

    Raises: RunError that names the processes that did not come in time.
    """
    if jax.process_count() == 1:
        return [value]
    client, folder = multihost.get_jax_distributed_client(), f"sdnjax/gather/{next(_ROUND)}"
    client.key_value_set(f"{folder}/{jax.process_index()}", json.dumps(value))
    everyone, end = range(jax.process_count()), time.monotonic() + seconds
    while True:
        found = {int(key.rpartition("/")[2]): x for key, x in client.key_value_dir_get(folder)}
        missing = sorted(set(everyone) - found.keys())
        if not missing:
            return [json.loads(found[i]) for i in everyone]
        if time.monotonic() > end:
            raise RunError(
                f"process {', '.join(map(str, missing[:8]))} of {len(everyone)} did not come "
                f"within {seconds:g} s: see its own output"
            )
        time.sleep(0.05)


@contextlib.contextmanager
def failing_together(outcome: Callable[[BaseException], tuple[int, str]]) -> Iterator[None]:
    """Inside, an error of one process ends all of them within seconds, with its line on top.

    Otherwise the others would wait for it until the runtime gives up, and end in its native
    traces. The process itself ends here too, because the runtime's own end waits for the others.

    Args:
      outcome: an error → exit status and the line that says what happened.
    """
    if jax.process_count() == 1:
        yield
        return
    client, index = multihost.get_jax_distributed_client(), jax.process_index()
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(client, index, done), daemon=True)
    watcher.start()
    try:
        yield
    except BaseException as error:
        done.set()
        status, line = outcome(error)
        with contextlib.suppress(Exception):  # the coordinator may be what failed
            client.key_value_set(f"sdnjax/failed/{index}", json.dumps([status, line]))
        print(line, file=sys.stderr, flush=True)
        if index == 0:  # with it the coordinator goes
            time.sleep(_GRACE)
        _end(status)
    finally:
        done.set()


def _watch(client: Any, index: int, done: threading.Event) -> None:
    while not done.wait(_POLL):
        try:
            failed = client.key_value_dir_get("sdnjax/failed")
        except Exception:  # the coordinator is gone; the runtime says so
            return
        others = [(key, text) for key, text in failed if not key.endswith(f"/{index}")]
        if others and not done.is_set():
            key, text = min(others)
            status, line = json.loads(text)
            print(f"process {key.rpartition('/')[2]} {line}", file=sys.stderr, flush=True)
            if index == 0:
                time.sleep(_GRACE)
            _end(status)


def _end(status: int) -> None:
    sys.stdout.flush()
    os._exit(status)
