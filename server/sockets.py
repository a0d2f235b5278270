"""ComfyUI's WebSocket: who is connected, and what each is sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from aiohttp import WSMsgType, web

from server.auth import Caller
from server.comfy_messages import Message, preview_frame, preview_frame_with_metadata
from server.metrics import Metrics

log = logging.getLogger(__name__)
HEARTBEAT_SECONDS = 30.0
LONGEST = 1 << 20  # bytes of a message from a client
WAITING = 2_000  # messages that a slow client may be behind
STATUS_SECONDS = 0.1  # between two broadcasts of the queue's length
STATUSES = 2_000  # of these a second over all connections
PASSING = ("preview", "progress", "progress_state")  # of interest only at the moment


class Socket:
    """One connection.

    Attributes:
        client: its `clientId`.
        caller: who it is: a `clientId` is no secret, and anybody can come by it.
        features: what the client said it knows.
    """

    def __init__(self, client: str, caller: Caller, ws: web.WebSocketResponse, metrics: Metrics) -> None:
        self.client, self.caller, self.features = client, caller, dict[str, Any]()
        self._ws, self._metrics = ws, metrics
        self._waiting: deque[str | bytes] = deque()
        self._arrived = asyncio.Event()
        self._end: asyncio.Task[bool] | None = None  # of a client that was hopelessly behind

    def put(self, content: str | bytes, *, is_passing: bool = False) -> None:
        """Has a message sent. One that is of interest only at the moment is left out for a client that is behind."""
        if self._end is not None or (is_passing and len(self._waiting) > WAITING // 10):
            self._metrics.preview_dropped()
            return
        self._waiting.append(content)
        self._arrived.set()
        if len(self._waiting) > WAITING:
            self._waiting.clear()
            self._end = asyncio.create_task(self._ws.close(code=1013, message=b"too slow; connect again"))

    async def write(self) -> None:
        """Sends what is put, until the connection is closed."""
        while not self._ws.closed:
            await self._arrived.wait()
            self._arrived.clear()
            if self._end is not None:
                await self._end
                return
            while self._waiting:
                content = self._waiting.popleft()
                with contextlib.suppress(ConnectionError):
                    await (self._ws.send_str(content) if isinstance(content, str) else self._ws.send_bytes(content))
                    self._metrics.sent()


class Sockets:
    """The connections.

    Args:
        remaining: how many runs wait or run.
        features: what the server tells of itself to clients that ask.
        metrics: counts what is sent.
    """

    def __init__(self, remaining: Callable[[], Awaitable[int]], features: Mapping[str, Any], metrics: Metrics) -> None:
        self._remaining, self._features, self._metrics = remaining, features, metrics
        self._sockets: dict[str, list[Socket]] = {}
        self._executing: dict[str, Message] = {}  # what runs now, by client, for one that comes back
        self._is_due = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins telling the length of the queue."""
        self._task = asyncio.create_task(self._tell_status(), name="status")

    async def close(self) -> None:
        """Ends every connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        sockets = [socket for group in self._sockets.values() for socket in group]
        await asyncio.gather(*(socket._ws.close(code=1001) for socket in sockets), return_exceptions=True)  # pyright: ignore[reportPrivateUsage]

    def changed(self) -> None:
        """The queue has changed: everybody is told, but not more often than people can see."""
        self._is_due.set()

    def send(self, messages: Iterable[Message], client: str) -> None:
        """Sends what a run tells to the client that submitted it; where there is none, what is public to all."""
        for message in messages:
            if message.type == "executing":
                self._note(client, message)
            if client:
                targets: Iterable[Socket] = self._sockets.get(client, ())
            elif message.is_public:
                targets = [socket for group in self._sockets.values() for socket in group]
            else:
                continue
            if targets:
                _deliver(message, targets)

    def tell(self, type: str, data: Mapping[str, Any], clients: Iterable[str], *, scope: str) -> None:
        """Sends a message to some clients, as far as they have a scope."""
        sockets = [socket for client in clients for socket in self._sockets.get(client, ())]
        _deliver(Message(type, dict(data)), [socket for socket in sockets if socket.caller.may(scope)])

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        """A connection, from its beginning to its end."""
        ws = web.WebSocketResponse(heartbeat=HEARTBEAT_SECONDS, max_msg_size=LONGEST)
        number = await self._remaining()  # before the client can submit what it then would hear nothing of
        try:
            await ws.prepare(request)
        except ConnectionError:  # it has hung up already
            return ws
        client = request.query.get("clientId", "")[:200] or uuid.uuid4().hex
        socket = Socket(client, request["caller"], ws, self._metrics)
        status = {"status": {"exec_info": {"queue_remaining": number}}, "sid": client}
        self._sockets.setdefault(client, []).append(socket)
        self._metrics.socket_opened()
        writer = asyncio.create_task(socket.write())
        try:
            _deliver(Message("status", status), [socket])
            if client in self._executing:
                _deliver(self._executing[client], [socket])
            async for message in ws:
                if message.type is WSMsgType.TEXT:
                    self._take(socket, message.data)
        finally:
            writer.cancel()
            self._metrics.socket_closed()
            self._sockets[client].remove(socket)
            if not self._sockets[client]:
                del self._sockets[client]
        return ws

    def _take(self, socket: Socket, text: str) -> None:
        """What a client says: only which features it knows. All else is let pass, as ComfyUI does."""
        with contextlib.suppress(ValueError, RecursionError):
            match json.loads(text):
                case {"type": "feature_flags", "data": {**features}}:
                    socket.features = features
                    _deliver(Message("feature_flags", dict(self._features)), [socket])
                case _:
                    pass

    def _note(self, client: str, message: Message) -> None:
        if message.data["node"] is None:
            self._executing.pop(client, None)
        elif client:
            self._executing[client] = message

    async def _tell_status(self) -> None:
        while True:
            await self._is_due.wait()
            self._is_due.clear()
            try:
                status = {"status": {"exec_info": {"queue_remaining": await self._remaining()}}}
                _deliver(Message("status", status), [socket for group in self._sockets.values() for socket in group])
            except Exception as error:  # whatever it is now, the next change tells it
                log.warning("clients are not told how many runs wait: %s", error)
            await asyncio.sleep(max(STATUS_SECONDS, sum(map(len, self._sockets.values())) / STATUSES))


def _deliver(message: Message, sockets: Iterable[Socket]) -> None:
    """Puts a message to some connections, encoded once for each form."""
    is_passing = message.type in PASSING
    if message.image is None:
        text = json.dumps({"type": message.type, "data": message.data})
        for socket in sockets:
            socket.put(text, is_passing=is_passing)
        return
    full = preview_frame_with_metadata(message.image, message.data)
    plain = preview_frame(message.image, message.format)
    is_result = message.format == "png"  # of SaveImageWebsocket; work under way is shown as JPEG
    for socket in sockets:
        # ComfyUI makes no previews unless told to, so clients that never spoke of them take each picture for a result
        if socket.features.get("supports_preview_metadata"):
            socket.put(full, is_passing=not is_result)
        elif is_result or message.is_asked:
            socket.put(plain, is_passing=not is_result)
