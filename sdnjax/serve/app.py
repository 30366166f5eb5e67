"""The server's addresses.

The page, the networks, and a picture to be segmented:

    GET  /                  the page; /page.css and /page.js beside it
    GET  /networks          names, classes and colours of the networks, and what may be sent
    POST /networks/0?name=  a picture's file → `answer`; an error is {"error": "one line"}
"""

from __future__ import annotations

import asyncio
import gzip
import re
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from anyio import to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from sdnjax.errors import InputError
from sdnjax.serve.answer import Segmented, packed
from sdnjax.serve.guard import Guard

# The report's style comes first: colours, letters and tables are the same.
_PAGE = {
    "/": (("page.html",), "text/html"),
    "/page.css": (("../report/page.css", "page.css"), "text/css"),
    "/page.js": (("page.js",), "text/javascript"),
}
_T = TypeVar("_T")
_WAITING = 8  # pictures; each is held in memory until its turn comes


class NoMemory(Exception):
    """A network's `segment` needed more memory than there is."""


@dataclass(frozen=True)
class Network:
    """A network as the server knows it.

    Attributes:
      name: for people; those of two networks differ.
      about: what it is, in a line.
      classes, palette: names and colours, K of them.
      segment: a picture file's bytes and its name → what is seen there. Raises InputError for what
        is no picture, NoMemory. It is called by one thread at a time.
    """

    name: str
    about: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    segment: Callable[[bytes, str], Segmented]


def application(
    networks: Sequence[Network], *, upload_limit: int, names: Sequence[str] = ()
) -> ASGIApp:
    """The server as an ASGI application.

    Args:
      networks: one, or two that are shown side by side.
      upload_limit: bytes of a picture's file.
      names: by which this machine is asked, see `Guard`.
    """
    turn = _Turn()
    here = Path(__file__).parent

    def static(files: Sequence[str], kind: str) -> Callable[[Request], Awaitable[Response]]:
        content = b"".join((here / file).read_bytes() for file in files)

        async def send(request: Request) -> Response:
            return Response(content, media_type=kind)

        return send

    async def describe(request: Request) -> Response:
        keys = ("name", "about", "classes", "palette")
        found = [{key: getattr(network, key) for key in keys} for network in networks]
        return JSONResponse({"networks": found, "upload_limit": upload_limit})

    async def segment(request: Request) -> Response:
        index = request.path_params["index"]
        if index >= len(networks):
            raise HTTPException(404, f"there is no network {index}")
        network = networks[index]
        turn.join()
        try:
            data = await _body(request, upload_limit)
            name = _line(request.query_params.get("name", ""))[:200] or "the picture"
            async with turn.lock:
                if await request.is_disconnected():  # another picture is wanted by now
                    return Response(status_code=400)
                found = await _in_a_thread(network.segment, data, name)
        finally:
            turn.leave()
        compressed = "gzip" in request.headers.get("accept-encoding", "")
        content = await _in_a_thread(_content, found, len(network.classes), compressed)
        encoding = {"Content-Encoding": "gzip"} if compressed else {}
        return Response(content, media_type="application/octet-stream", headers=encoding)

    pages = [Route(path, static(*page)) for path, page in _PAGE.items()]
    inner = Starlette(
        routes=[
            *pages,
            Route("/networks", describe),
            Route("/networks/{index:int}", segment, methods=["POST"]),
        ],
        exception_handlers={
            HTTPException: _refused,
            InputError: _cannot_be_read,
            NoMemory: _too_large,
            ClientDisconnect: _gone,
            Exception: _defect,
        },
    )
    return Guard(inner, names)


class _Turn:
    """One network computes at a time; the others wait, but not any number of them."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self._there = 0

    def join(self) -> None:
        if self._there >= _WAITING:
            raise HTTPException(503, f"{_WAITING} pictures are waiting already: try again later")
        self._there += 1

    def leave(self) -> None:
        self._there -= 1


async def _in_a_thread(function: Callable[..., _T], *arguments: object) -> _T:
    # A thread cannot be stopped: when the server ends, it no longer waits for it.
    return await to_thread.run_sync(function, *arguments, abandon_on_cancel=True)


async def _body(request: Request, limit: int) -> bytes:
    """What was sent. Raises: HTTPException when it is more than `limit`, before all has come."""
    words = f"the file has more than {limit / 1e6:g} MB: --upload-limit allows more"
    too_much = HTTPException(413, words)
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > limit:
        raise too_much
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit:
            raise too_much
    return bytes(data)


def _content(found: Segmented, num_classes: int, compressed: bool) -> bytes:
    content = packed(found, num_classes)
    return gzip.compress(content, 1) if compressed else content


def _line(text: object) -> str:
    return " ".join(re.sub(r"[\x00-\x1f\x7f]", " ", str(text)).split())


def _error(status: int, text: object) -> JSONResponse:
    return JSONResponse({"error": _line(text)}, status)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _error(error.status_code, error.detail)
    response.headers.update(error.headers or {})
    return response


async def _cannot_be_read(request: Request, error: Exception) -> Response:
    return _error(422, error)


async def _too_large(request: Request, error: Exception) -> Response:
    return _error(503, error)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)


async def _defect(request: Request, error: Exception) -> Response:
    """The traceback goes to the server's terminal; it is nothing for a page."""
    traceback.print_exception(error)
    return _error(500, "the server failed on this picture: its terminal says how")
