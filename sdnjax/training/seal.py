"""The seal of a checkpoint: one JSON file, written last, that says what the others hold.

`sdnjax.json` has a description, the size and SHA-256 of every file, and a SHA-256 of itself.
Without it a checkpoint was never finished; with it, nothing in it can change unnoticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sdnjax.errors import InputError
from sdnjax.files import write_atomically

SEAL = "sdnjax.json"


class DamagedCheckpoint(InputError):
    """A checkpoint that was finished and is no longer what it was."""


def write_seal(path: Path, description: dict[str, Any]) -> None:
    """Seals the files that are in the folder `path` now."""
    files = {
        str(p.relative_to(path)): {"bytes": p.stat().st_size, "sha256": _digest(p)}
        for p in sorted(path.rglob("*"))
        if p.is_file() and p.name != SEAL
    }
    content = {"description": description, "files": files}
    text = json.dumps({**content, "sha256": _own_digest(content)}, indent=1)
    write_atomically(path / SEAL, text)


def read_seal(path: Path) -> dict[str, Any]:
    """What the seal of the folder `path` holds: `description` and `files`.

    Raises:
      InputError: there is none.
      DamagedCheckpoint: it is not what was written. One of an earlier version, without a digest of
        its own, must at least have its form.
    """
    try:
        found = json.loads((path / SEAL).read_bytes().decode())
    except FileNotFoundError:
        raise InputError(f"checkpoint {path} has no {SEAL}: it was never finished") from None
    except (ValueError, RecursionError):
        found = None
    if not (
        isinstance(found, dict)
        and isinstance(found.get("description"), dict)
        and isinstance(found.get("files"), dict)
        and found["files"]
        and all(_is_record(record) for record in found["files"].values())
        and found.pop("sha256", None) in (None, _own_digest(found))
        and found.keys() == {"description", "files"}
    ):
        raise DamagedCheckpoint(f"checkpoint {path}: {SEAL} is damaged: use another step")
    return found


def verify(path: Path, items: Sequence[str]) -> None:
    """Compares the files of the folder, and of those in sub-folders the `items`, with the seal.

    Raises: DamagedCheckpoint that names the first one that is missing, cut short or changed, or an
      item that the seal does not know.
    """
    records = read_seal(path)["files"]
    for item in items:
        if (path / item).is_dir() and not any(name.startswith(f"{item}/") for name in records):
            raise DamagedCheckpoint(
                f"checkpoint {path}: {SEAL} lists no file of {item}: use another step"
            )
    for name, expected in records.items():
        if "/" in name and name.split("/")[0] not in items:
            continue
        file = path / name
        size = file.stat().st_size if file.is_file() else None
        if size == expected["bytes"] and _digest(file) == expected["sha256"]:
            continue
        found = "is missing" if size is None else f"has {size} of {expected['bytes']} bytes"
        if size == expected["bytes"]:
            found = "has changed since it was written"
        raise DamagedCheckpoint(f"checkpoint {path} is damaged: {name} {found}")


def _is_record(record: Any) -> bool:
    return (
        isinstance(record, dict)
        and record.keys() == {"bytes", "sha256"}
        and isinstance(record["bytes"], int)
        and isinstance(record["sha256"], str)
    )


def _own_digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
