"""Bodies that never end: what a client promised to send and does not, and codings that aiohttp waits on for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CODINGS = ("", "identity", "gzip")  # aiohttp 3.14 never ends a deflate body that is broken
STALL_SECONDS = 60.0  # without a byte, after which a client is hung up on


@web.middleware
async def refuse_stalled(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses codings that may hang, and hangs up on a client whose body stops coming."""
    if not request.can_read_body:
        return await handler(request)
    coding = request.headers.get(hdrs.CONTENT_ENCODING, "").strip().lower()
    if coding not in CODINGS:
        raise web.HTTPUnsupportedMediaType
    watch = _Watch(request)
    try:
        return await handler(request)
    finally:
        watch.end()


class _Watch:
    """Looks at a body from time to time, whether more of it has come."""

    def __init__(self, request: web.Request) -> None:
        self._request, self._seen = request, -1
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.call_later(STALL_SECONDS, self._look)

    def end(self) -> None:
        """The request is answered."""
        self._next.cancel()

    def _look(self) -> None:
        content, transport = self._request.content, self._request.transport
        if content.is_eof() or transport is None:
            return
        if content.total_bytes == self._seen:
            transport.abort()
            return
        self._seen = content.total_bytes
        self._next = self._loop.call_later(STALL_SECONDS, self._look)
