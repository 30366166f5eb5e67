"""Networks on the Hugging Face hub, through its own client.

The client is the extra `sdnjax[hub]`; nothing here is needed, and nothing asks a network, for
folders on this machine.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import sdnjax
from sdnjax.commands.model_card import Network
from sdnjax.commands.pretrained import CONFIG, write_pretrained
from sdnjax.commands.workdir import WEIGHTS
from sdnjax.errors import InputError, did_you_mean

_FILES = [CONFIG, WEIGHTS, "README.md", "code/**"]
_CARD = "README.md"


def local_folder(name: str, revision: str | None = None) -> Path:
    """The folder of this name on this machine, or that of the hub's model, fetched if need be.

    A name is the hub's if it is `user/model`, there is no such folder, nor a folder `user`.

    Raises: InputError if there is neither.
    """
    path = Path(name)
    if path.exists():
        if revision is not None:
            raise InputError(f"revision has no effect: {name} is a folder on this machine")
        return path
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) or path.parent.is_dir():
        beside = [str(p) for p in path.parent.glob("*")] if path.parent.is_dir() else []
        raise InputError(f"{name}: no such folder{did_you_mean(name, beside)}")
    hub = client(f"{name} is no folder here; to look for it on the Hugging Face hub")
    try:
        found = hub.snapshot_download(
            name,
            revision=revision,
            allow_patterns=_FILES,
            library_name="sdnjax",
            library_version=sdnjax.__version__,
        )
    except Exception as error:
        raise _failed(f"{name} is no folder here, nor can it be fetched from the hub", error) from (
            error
        )
    if not (Path(found) / WEIGHTS).is_file():
        raise InputError(f"{name} on the hub holds no {WEIGHTS}: it is no network of sdnjax")
    return Path(found)


def push(
    network: Network,
    repo: str,
    *,
    private: bool | None = None,
    message: str | None = None,
    token: str | None = None,
) -> str:
    """Uploads the files of `write_pretrained` to a model of the hub, which is made if need be.

    A model card that is there stays. Returns the address.

    Raises: InputError if the hub's model is something else than a network of sdnjax, or the hub
      refuses.
    """
    hub = client("to push to the hub")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "network"
        write_pretrained(network, folder, repo)  # what cannot be written is said first
        try:
            api = hub.HfApi(token=token)
            address = api.create_repo(repo, private=private, exist_ok=True)
            there = api.list_repo_files(repo)
            _check_ours(hub, repo, there, token)
            api.upload_folder(
                repo_id=repo,
                folder_path=folder,
                commit_message=message or f"Step {network.step}, by sdnjax {sdnjax.__version__}",
                ignore_patterns=[_CARD] if _CARD in there else None,
            )
        except InputError:
            raise
        except Exception as error:
            raise _failed(f"cannot push to {repo}", error) from error
    return str(address)


def client(why: str) -> ModuleType:
    """`huggingface_hub`. Raises: InputError if it is not installed."""
    try:
        import huggingface_hub  # noqa: PLC0415 (an extra)
    except ImportError:
        raise InputError(f"{why} huggingface_hub is needed: pip install sdnjax[hub]") from None
    return huggingface_hub


def _check_ours(hub: Any, repo: str, there: list[str], token: str | None) -> None:
    """InputError if the files of a model of the hub are not those of a network of sdnjax."""
    if CONFIG not in there and WEIGHTS not in there:
        return
    try:
        config = Path(hub.hf_hub_download(repo, CONFIG, token=token)) if CONFIG in there else None
        found = {} if config is None else json.loads(config.read_text(encoding="utf-8"))
        is_ours = isinstance(found, dict) and "sha256" in found.get("network", {})
    except ValueError:
        is_ours = False
    if not is_ours:
        raise InputError(f"{repo} holds a model that is not of sdnjax: name another")


def _failed(what: str, error: Exception) -> InputError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return InputError(f"{what} ({lines[0][:200] if lines else type(error).__name__})")
