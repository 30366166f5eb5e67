"""Places: folders, and prefixes of buckets (`gs://bucket/path`, `s3://bucket/path`), read alike.

`place` makes of either something with pathlib's methods: a `Path`, or an `epath.Path` that goes
through fsspec (gcsfs, s3fs). What differs is said here once. A bucket has no folders to make; an
object appears as a whole or not at all, so writing is atomic without a temporary name; nothing can
be appended or renamed cheaply; and no lock ends with the process that holds it, see `Lease`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sdnjax.errors import InputError

# Scheme → the package that reads it, its name among fsspec's, and the extra that installs it.
_SCHEMES = {"gs": ("gcsfs", "gcs", "gcs"), "s3": ("s3fs", "s3", "s3")}
# `pathlib` makes s3:/bucket of s3://bucket. A letter alone is a drive of Windows.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)


def place(path: str | os.PathLike[str]) -> Path:
    """A folder or file, here or in a bucket, with pathlib's methods.

    Raises: InputError for a URL of another kind, and if the package that reads it is missing.
    """
    text = os.fspath(path)
    found = _URL.fullmatch(text)
    if not found:
        return Path(path)
    scheme, rest = found[1].lower(), found[2].rstrip("/")
    if scheme not in _SCHEMES:
        raise InputError(f"{text}: a place is a folder, or in a bucket of gs:// or s3://")
    package, _, extra = _SCHEMES[scheme]
    if importlib.util.find_spec(package) is None:
        raise InputError(f"{text} needs {package}: pip install 'sdnjax[{extra}]'")
    if not rest:
        raise InputError(f"{text} names no bucket")
    _set_up()
    from etils import epath  # noqa: PLC0415  (only for buckets)

    return epath.Path(f"{scheme}://{rest}")


def _set_up() -> None:
    # TensorFlow's client knows gs:// alone, and would have to be imported for it.
    os.environ["EPATH_USE_TF"] = "false"
    from etils.epath import gpath  # noqa: PLC0415

    getattr(gpath._is_tf_installed, "cache_clear", lambda: None)()
    import fsspec.config  # noqa: PLC0415

    # A listing is kept by default, and would not show what other processes write.
    for name in ("s3", "gcs", "gs"):
        fsspec.config.conf.setdefault(name, {})["use_listings_cache"] = False


def in_bucket(path: str | os.PathLike[str]) -> bool:
    """Whether a place is in a bucket."""
    return _URL.fullmatch(os.fspath(path)) is not None


def filesystem(path: Path) -> Any:
    """fsspec's file system of a place in a bucket: for what `pathlib` has no method."""
    import fsspec  # noqa: PLC0415

    scheme = os.fspath(path).partition(":")[0]
    return fsspec.filesystem(_SCHEMES[scheme][1])


def make_folder(path: Path) -> None:
    """The folder with those above it; in a bucket there is nothing to make."""
    if not in_bucket(path):
        path.mkdir(parents=True, exist_ok=True)


def remove(path: Path) -> None:
    """Deletes a file, or a folder with all that is in it, if it is there."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
    elif in_bucket(path):
        filesystem(path).rm(os.fspath(path), recursive=True)
    else:
        shutil.rmtree(path)


def upload(folder: Path, target: Path, *, last: str) -> None:
    """Copies the files of a local folder under `target`; the file `last` when all others are there.

    What was at `target` is deleted first, `last` before anything else.
    """
    (target / last).unlink(missing_ok=True)
    if target.is_dir():
        remove(target)
    names = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    names.remove(last)
    system = filesystem(target)
    for part in (sorted(names), [last]):  # each of them at once, as many as fsspec sees fit
        system.put(
            [str(folder / name) for name in part], [os.fspath(target / name) for name in part]
        )


def download(path: Path, folder: Path, sizes: dict[str, int]) -> None:
    """Copies files of a place in a bucket, by relative name, into a local folder.

    One that is there with its size is not copied again, and one that is missing in the bucket is
    left out.
    """
    system = filesystem(path)
    for name, size in sizes.items():
        file = folder / name
        if file.is_file() and file.stat().st_size == size:
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f"{file.name}.part")
        with contextlib.suppress(FileNotFoundError):
            system.get_file(os.fspath(path / name), str(part))
            part.replace(file)


class InUse(Exception):
    """Somebody else holds a lease; the message says who."""


class Lease:
    """Holds an object in a bucket against other runs, as a lock does for a file.

    A bucket does not notice when its holder dies. So the holder writes the object anew every
    `renew` seconds. Another run that finds it watches it: if it changes, it is in use; if it does
    not for `dead` seconds, its holder is dead, and the other takes it over. No clocks are compared.
    A holder on this very machine whose process is gone is known to be dead at once.

    A holder that was cut off for so long that another run took over ends at once, with status 1,
    before it writes anything more.
    """

    def __init__(
        self,
        path: Path,
        *,
        renew: float = 15,
        dead: float = 60,
        report: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
        end: Callable[[int], None] = os._exit,
    ):
        self._path, self._renew, self._dead = path, renew, dead
        self._report, self._end = report, end
        self._own = uuid.uuid4().hex
        self._since = time.strftime("%Y-%m-%d %H:%M:%S")
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> Lease:
        while not self._create():
            self._wait_for_death()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        if self._read().get("lease") == self._own:
            self._path.unlink(missing_ok=True)

    def _create(self) -> bool:
        """Writes the object if there is none."""
        if self._path.is_file():
            return False  # before asking: not every store knows the condition below
        try:
            filesystem(self._path).pipe_file(os.fspath(self._path), self._content(), mode="create")
        except FileExistsError:
            return False
        return self._read().get("lease") == self._own

    def _wait_for_death(self) -> None:
        """Returns when the holder has gone, and its object with it. Raises: `InUse`."""
        first, said = self._read(), False
        begin = time.monotonic()
        while (now := self._read()) == first and now:
            if first.get("machine") == _machine() and not _lives(first.get("process")):
                break
            if time.monotonic() - begin > self._dead:
                break
            if not said and time.monotonic() - begin > 1.5:
                said = True
                self._report(
                    f"{self._path} is held by {_holder(first)}: waiting {self._dead:g} s for a "
                    "sign of life"
                )
            time.sleep(0.5)
        if now and now != first:
            raise InUse(_holder(now))
        if now:
            self._report(f"{self._path} is taken over: its holder, {_holder(first)}, is gone")
            self._path.unlink(missing_ok=True)

    def _keep(self) -> None:
        while not self._done.wait(self._renew):
            with contextlib.suppress(Exception):  # the network; the next time counts
                found = self._read()
                if found.get("lease") == self._own:
                    self._path.write_bytes(self._content())
                elif not self._done.is_set():
                    self._report(
                        f"stopped: {self._path} was taken over by {_holder(found)}: this run was "
                        "not heard of for too long"
                    )
                    self._end(1)

    def _content(self) -> bytes:
        record = {
            "lease": self._own,
            "process": os.getpid(),
            "host": socket.gethostname(),
            "machine": _machine(),
            "since": self._since,
            "renewed": time.time_ns(),
        }
        return json.dumps(record).encode()

    def _read(self) -> dict[str, Any]:
        """What the object holds; empty if there is none."""
        try:
            found = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError:
            found = None
        return found if isinstance(found, dict) and found else {"lease": "damaged"}


def _holder(record: dict[str, Any]) -> str:
    return (
        f"process {record.get('process', '?')} on {record.get('host', '?')} since "
        f"{record.get('since', '?')}"
    )


def _machine() -> str | None:
    """What processes that see each other's numbers have in common; None where Linux does not tell.

    Containers may share a host's name, so that is not it.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _lives(process: Any) -> bool:
    """Whether the process is there; True where that is not known."""
    if not isinstance(process, int) or _machine() is None:
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        pass
    return True
