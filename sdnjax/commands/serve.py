"""A page to try trained networks on one's own pictures: networks as functions, and the server."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np

from sdnjax.commands.command_line import out_of_memory
from sdnjax.commands.pictures import extra_inputs, own_pixels
from sdnjax.commands.trained import Trained
from sdnjax.data.reading.images import decode_image
from sdnjax.errors import InputError

if TYPE_CHECKING:
    from sdnjax.serve.app import Network

# Pictures of more pixels are refused unless `data.max_pixels` is given: a small file can unpack to
# the memory of a machine, and here anybody may send one.
MOST_PIXELS = 2**26


def serve_networks(
    networks: Mapping[str, Trained],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    upload_limit: float = 100,
    report: Callable[[str], None] = print,
) -> None:
    """Serves the page until it is interrupted.

    Args:
      networks: one or two, by the names that the page gives them.
      host: name or address to listen at; 0.0.0.0 is every address of the machine.
      port: 0 takes one that is free.
      upload_limit: megabytes of a picture's file.

    Raises: InputError if the packages of `sdnjax[serve]` are missing, a network cannot be served or
      nobody can listen there.
    """
    require_serve()
    import uvicorn  # noqa: PLC0415 (an extra)

    from sdnjax.serve.app import application  # noqa: PLC0415

    busy = threading.Lock()
    served = as_served(networks, busy)
    listening = _listen(host, port)
    address, port = listening.getsockname()[:2]
    where = ipaddress.ip_address(address)
    shown = socket.gethostname() if where.is_unspecified else host
    shown = f"[{shown}]" if ":" in shown else shown
    report(f"{' and '.join(networks)} at http://{shown}:{port}/ (Ctrl-C ends)")
    if not where.is_loopback:
        report(
            f"WARNING: {host} is reachable from other machines: whoever reaches port {port} there "
            "may send pictures, without a password and unencrypted"
        )
    sys.stdout.flush()  # people wait for the address, and other programs may read it
    app = application(served, upload_limit=round(upload_limit * 1e6), names=[host])
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="critical",  # defects are printed by the application
        access_log=False,
        lifespan="off",
        http="h11",
        loop="asyncio",
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    try:
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        if busy.locked():  # Python would wait until the picture is segmented, which is for nobody
            print("interrupted", file=sys.stderr, flush=True)
            os._exit(130)


def require_serve() -> None:
    """InputError unless the server's packages are there."""
    try:
        import starlette  # noqa: F401, PLC0415 (an extra)
        import uvicorn  # noqa: F401, PLC0415
    except ImportError:
        raise InputError(
            "serving needs Starlette and uvicorn: pip install 'sdnjax[serve]'"
        ) from None


def as_served(networks: Mapping[str, Trained], busy: threading.Lock) -> list[Network]:
    """Networks as functions of picture files; `busy` is held while one of them computes.

    Raises: InputError if one needs more than pictures, or two read a picture otherwise.
    """
    orientations = {own_pixels(x.experiment.data).orientation for x in networks.values()}
    if len(orientations) > 1:
        raise InputError(
            f"{' and '.join(networks)} turn pictures differently: --data.exif_orientation upright "
            "or stored is for both"
        )
    return [_served(name, network, busy) for name, network in networks.items()]


def _served(name: str, network: Trained, busy: threading.Lock) -> Network:
    from sdnjax.serve.answer import LIKELIEST, Segmented  # noqa: PLC0415
    from sdnjax.serve.app import Network, NoMemory  # noqa: PLC0415

    data = network.experiment.data
    pixels = own_pixels(data)
    # What a picture does not have, or takes a package, is said before there is one.
    blank = np.zeros((64, 64, data.channels), np.uint8)
    extra_inputs(network.predictor().extras, blank, data)
    check = getattr(network.experiment.evaluation.finish, "check", None)
    if check is not None:
        check()

    def segment(content: bytes, file: str) -> Segmented:
        try:
            with busy:
                picture = decode_image(content, file, pixels)
                labels, likeliest = network.likeliest(picture, Path(file), count=LIKELIEST)
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if not out_of_memory(error):
                raise
            raise NoMemory(
                f"{file}: out of memory; a smaller picture takes less, or a server that was "
                "started with --evaluation.mode slide or --evaluation.resize_to"
            ) from None
        return Segmented(picture, labels, likeliest)

    about = f"{network.experiment.network_title}, step {network.step}"
    return Network(name, about, network.classes, network.palette, segment)


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens at the first address of `host`."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise InputError(f"--host {host}: there is no machine of this name") from None
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # a port is free again as soon as its server has ended
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()
    except OSError as error:
        listening.close()
        raise InputError(
            f"cannot listen at port {port} of {host} ({error.strerror}): --port names another, "
            "0 takes a free one"
        ) from None
    return listening
