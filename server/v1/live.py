"""A WebSocket for pages: what all runs do with pictures of work under way, and what else changes on the server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable

from aiohttp import WSCloseCode, web

from server.feed import Subscription, Told
from server.problems import Refusal
from server.v1.events import event_of
from server.v1.operation import Answer, Call, operation

HEARTBEAT_SECONDS = 20.0
LONGEST = 1 << 10  # bytes of a message from a client; nothing it says is read
HEAD = ("type", "run", "node", "format")


@operation("GET", "/v1/socket", tag="events", scope="run", problems=(400,), is_stream=True, answers={
    101: Answer("A WebSocket. Texts are events as JSON; binary frames are previews: four bytes with the length of a "
                "JSON head, the head, the picture."),
})  # fmt: skip
async def open_socket(call: Call) -> web.StreamResponse:
    """Tells what all runs do from now on, and what else changes, over a WebSocket.

    `number` is that of the event within its run; `QueueChanged`, `WorkflowsChanged` and `DraftsChanged` have none. A
    reader that is too far behind is closed with 1013, and reads anew what it shows.
    """
    ws = web.WebSocketResponse(heartbeat=HEARTBEAT_SECONDS, max_msg_size=LONGEST)
    if not ws.can_prepare(call.request):
        raise Refusal("malformed", "the request does not ask for a WebSocket; send Upgrade, or use GET /v1/events")
    metrics, subscription = call.service.metrics, call.service.feed.follow(watcher=call.caller.name)
    metrics.socket_opened()
    writer: asyncio.Task[None] | None = None
    try:
        await ws.prepare(call.request)
        writer = asyncio.create_task(_write(ws, subscription, metrics.sent), name="live")
        async for _ in ws:  # until it is closed, from either side
            pass
    finally:
        subscription.close()
        metrics.socket_closed()
        if writer is not None:  # it ends by itself now, perhaps with the close frame
            await asyncio.gather(writer, return_exceptions=True)
    return ws


async def _write(ws: web.WebSocketResponse, subscription: Subscription, sent: Callable[[], None]) -> None:
    """Sends what is told, and closes the connection when no more is."""
    with contextlib.suppress(ConnectionError):
        async for told in subscription:
            if told.image is None:
                await ws.send_str(_text(told))
            else:
                await ws.send_bytes(_frame(told, told.image))
            sent()
        if subscription.is_behind:
            await ws.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"too slow; connect again", drain=False)
        else:
            await ws.close(code=WSCloseCode.GOING_AWAY)


def _text(told: Told) -> str:
    number = {"number": told.number} if told.run else {}
    return json.dumps({**event_of(told), **number})


def _frame(told: Told, image: bytes) -> bytes:
    head = json.dumps({**{name: told.event[name] for name in HEAD}, "number": told.number}).encode()
    return len(head).to_bytes(4, "big") + head + image
