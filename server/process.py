"""The server as a process: its sockets, its signals, its start and its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
import sys
import warnings
from collections.abc import Callable

from aiohttp import BadContentDispositionHeader, BadContentDispositionParam, web

from nodegraph.errors import NodegraphError
from nodegraph.lock import Lock
from server.app import make_app
from server.auth import first_token, needs_token
from server.desk import Desk
from server.logs import LogRing, logging_to
from server.restore import finish_restore
from server.service import SERVICE
from server.settings import ServerSettings

log = logging.getLogger(__name__)
SWITCH_SECONDS = 0.001
"""How soon a thread that plans gives way to the event loop; Python's own 5 ms adds up where several do."""


def run(settings: ServerSettings, *, announce: Callable[[str, str | None], None], level: int = logging.INFO) -> None:
    """Serves until a signal ends it.

    Args:
        settings: how it is set up.
        announce: told the address, and the secret of a token that was just made, once requests are answered.
        level: the lowest of the log that is written.

    Raises:
        NodegraphError: the port is taken, the home is in use, a file or folder is wrong.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    for category in (BadContentDispositionHeader, BadContentDispositionParam):  # they hold what the user named a file
        warnings.simplefilter("ignore", category)
    warnings.filterwarnings("ignore", module="PIL")  # of broken pictures, which are told in words
    ring = LogRing()
    with logging_to(ring, is_structured=settings.is_structured, level=level):
        asyncio.run(_serve(settings, ring, announce))


async def _serve(settings: ServerSettings, ring: LogRing, announce: Callable[[str, str | None], None]) -> None:
    home = settings.engine.home
    assert home is not None
    tls = _tls(settings)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)  # everybody's prompts are in it
    with Lock(home) as lock:
        finish_restore(home)
        app = await make_app(settings, ring)
        runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=2.0, access_log=None)
        listener = _listen(settings)
        port = listener.getsockname()[1]
        address = f"{'https' if tls else 'http'}://{_host(settings.host)}:{port}/"
        try:
            await runner.setup()
            await web.SockSite(runner, listener, ssl_context=tls).start()
            lock.tell(address)
            # only now, when nothing can come between a token and its secret on the screen
            announce(address, await first_token(app[SERVICE].tokens) if needs_token(settings) else None)
            await _until_over(app[SERVICE].desk)
            log.info("ending: runs under way have %g s, then they go back to the queue", settings.grace_seconds)
        finally:
            await runner.cleanup()


async def _until_over(desk: Desk) -> None:
    """Waits for a signal.

    Raises:
        NodegraphError: the node types cannot be had, so there is nothing to serve.
    """
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in ("SIGINT", "SIGTERM"):
        with contextlib.suppress(NotImplementedError):  # Windows: KeyboardInterrupt ends it
            loop.add_signal_handler(getattr(signal, name), over.set)
    waiting, opening = asyncio.create_task(over.wait()), asyncio.create_task(desk.session())
    try:
        await asyncio.wait({waiting, opening}, return_when=asyncio.FIRST_COMPLETED)
        if opening.done():
            opening.result()  # raises what went wrong
        await waiting
    finally:
        waiting.cancel()
        opening.cancel()


def _listen(settings: ServerSettings) -> socket.socket:
    """A socket bound and listening."""
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(found[0], socket.SOCK_STREAM)
        try:
            if sys.platform != "win32":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(found[4])
            listener.listen(1024)
        except OSError:
            listener.close()
            raise
        return listener
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise NodegraphError(
            f"{settings.host}:{settings.port} cannot be listened on: {reason}; use another --port, or end what is there"
        ) from error


def _tls(settings: ServerSettings) -> ssl.SSLContext | None:
    if settings.tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise NodegraphError(f"--tls-cert and --tls-key: {error}; expected a PEM certificate and its key") from error
    return context


def _host(host: str) -> str:
    """The host as it stands in an address that a browser on this machine can open."""
    if host in ("0.0.0.0", "::", ""):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
