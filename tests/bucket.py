"""A bucket in memory in place of S3: what `sdnjax.places` asks of fsspec, and nothing more."""

import importlib.util
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from sdnjax.places import place


class MemoryBucket(MemoryFileSystem):
    """Objects by name. There are no folders but those that objects are in."""

    protocol = ("s3",)
    store: ClassVar = {}
    pseudo_dirs: ClassVar = [""]

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + str(path).removeprefix("s3://").strip("/")

    def makedirs(self, path, exist_ok=False):
        """What fsspec asks before it puts a file; there is nothing to make."""

    def _open(self, path, mode="rb", *args, **kwargs):
        assert mode in ("rb", "wb", "xb"), "nothing can be appended to an object"
        return super()._open(path, mode, *args, **kwargs)


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    """`s3://bucket`, empty; the working directory too, in which no `s3:` may appear."""
    from etils.epath import backend

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: name == "s3fs" or find(name, *a)
    )
    monkeypatch.setenv("EPATH_USE_TF", "false")  # put back at the end
    before = fsspec.registry.get("s3")
    fsspec.register_implementation("s3", MemoryBucket, clobber=True)
    backend.fsspec_backend._get_filesystem.cache_clear()
    MemoryBucket.store.clear()
    monkeypatch.chdir(tmp_path)
    yield place("s3://bucket")
    backend.fsspec_backend._get_filesystem.cache_clear()
    if before is not None:
        fsspec.register_implementation("s3", before, clobber=True)
    assert not list(tmp_path.glob("*:*"))
