"""Who may ask the server, and what a browser may do with its answers."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    # The page's own style and script, the answers that it asks for, and nothing from elsewhere.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Pictures and what a network says of them stay in no cache.
    "Cache-Control": "no-store",
}


class Guard:
    """Lets requests through that name this machine and, if they change or compute something, come
    from a page of this server.

    A page of somebody else can make a browser here ask for anything: by this server's address, when
    the browser says whose page it is (`Origin`), or by a name of its own that it lets point here,
    which is then the `Host`. Addresses cannot be turned like that, so any of them will do.

    Args:
      names: of this machine, besides localhost and what it calls itself.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str] = ()):
        own = socket.gethostname().lower()
        self._app = app
        self._names = {"localhost", own, f"{own}.local", *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refusal = self._refusal(scope["method"], Headers(scope=scope))
        if refusal is None:
            await self._app(scope, receive, guarded)
        else:
            await JSONResponse({"error": refusal}, 403)(scope, receive, guarded)

    def _refusal(self, method: str, headers: Headers) -> str | None:
        """Why a request is refused; None if it is not."""
        host = headers.get("host", "").lower()
        name = re.sub(r":\d*$", "", host)
        if name not in self._names and not _is_address(name):
            return f"this server is not called {name[:100] or 'nothing'}: open it by its address"
        if method in ("GET", "HEAD"):
            return None
        origin = headers.get("origin", "")
        if urlsplit(origin).netloc.lower() != host:
            return "only the server's own page may send pictures"
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
