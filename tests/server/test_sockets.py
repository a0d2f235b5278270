"""ComfyUI's WebSocket: who is told what, in which order, and what becomes of the slow."""

from __future__ import annotations

import asyncio
import contextlib
import json

from aiohttp import ClientError, WSMsgType, web
from aiohttp.test_utils import TestClient, TestServer

from server import sockets as module
from server.auth import EVERYBODY, Caller
from server.comfy_messages import Message, done
from server.metrics import Metrics
from server.sockets import Socket, Sockets

FEATURES = {"supports_preview_metadata": True}


class Place:
    def __init__(self, client, sockets):
        self.client, self.sockets = client, sockets

    async def connect(self, query="?clientId=a"):
        ws = await self.client.ws_connect(f"/ws{query}")
        assert (await hear(ws))["type"] == "status"
        return ws


async def hear(ws):
    message = await asyncio.wait_for(ws.receive(), 20)
    return json.loads(message.data) if message.type is WSMsgType.TEXT else message


@web.middleware
async def named(request, handler):
    request["caller"] = Caller("", frozenset([request.headers.get("X-Scope", "admin")]))
    return await handler(request)


@contextlib.asynccontextmanager
async def serving(remaining=None):
    async def none():
        return 3

    sockets = Sockets(remaining or none, FEATURES, Metrics())
    app = web.Application(middlewares=[named])
    app.router.add_get("/ws", sockets.handle)
    async with TestClient(TestServer(app)) as client:
        yield Place(client, sockets)
        await sockets.close()


def message(type, **data):
    return Message(type, data)


def test_the_first_thing_a_client_hears_is_the_queue_and_its_name_whatever_is_told_meanwhile():
    async def main():
        async def remaining():
            place.sockets.send([message("execution_start", prompt_id="r")], "a")
            place.sockets.changed()
            return 3

        async with serving(remaining) as place:
            ws = await place.client.ws_connect("/ws?clientId=a")
            return await hear(ws)

    assert asyncio.run(main()) == {
        "type": "status",
        "data": {"status": {"exec_info": {"queue_remaining": 3}}, "sid": "a"},
    }


def test_the_queue_is_counted_before_a_client_can_submit_what_it_would_hear_nothing_of(monkeypatch):
    order = []
    prepare = web.WebSocketResponse.prepare

    async def opening(self, request):
        order.append("open")
        return await prepare(self, request)

    async def main():
        async def remaining():
            order.append("counted")
            return 3

        monkeypatch.setattr(web.WebSocketResponse, "prepare", opening)
        async with serving(remaining) as place:
            await place.connect()

    asyncio.run(main())
    assert order[:2] == ["counted", "open"]


def test_what_takes_a_scope_is_not_told_to_others_who_call_themselves_alike():
    async def main():
        async with serving() as place:
            admin = await place.connect()
            other = await place.client.ws_connect("/ws?clientId=a", headers={"X-Scope": "run"})
            await hear(other)
            place.sockets.tell("logs", {"n": 1}, ["a"], scope="admin")
            place.sockets.send([message("x", n=2)], "a")
            return (await hear(admin))["type"], (await hear(other))["type"]

    assert asyncio.run(main()) == ("logs", "x")


def test_messages_go_to_every_connection_of_their_client_in_order():
    async def main():
        async with serving() as place:
            one, two, other = await place.connect(), await place.connect(), await place.connect("?clientId=b")
            place.sockets.send([message("x", n=1), message("y", n=2)], "a")
            place.sockets.send([message("z", n=3)], "b")
            place.sockets.send([message("lost", n=4)], "nobody")
            return [
                [(await hear(ws))["data"]["n"] for _ in range(count)] for ws, count in ((one, 2), (two, 2), (other, 1))
            ]

    assert asyncio.run(main()) == [[1, 2], [1, 2], [3]]


def test_of_runs_without_a_client_only_what_is_public_is_told():
    async def main():
        async with serving() as place:
            ws = await place.connect()
            place.sockets.send(
                [message("private"), Message("progress", {"n": 1}, is_public=True), message("private")], ""
            )
            return await hear(ws)

    assert asyncio.run(main()) == {"type": "progress", "data": {"n": 1}}


def test_a_client_that_comes_back_hears_what_runs_until_it_is_over():
    async def main():
        async with serving() as place:
            place.sockets.send([message("executing", node="1", prompt_id="r")], "a")
            first = await hear(await place.connect())
            place.sockets.send([done("r")], "a")
            place.sockets.send([message("executing", node="2", prompt_id="s")], "")
            ws = await place.connect()
            place.sockets.send([message("next")], "a")
            return first, await hear(ws)

    first, then = asyncio.run(main())
    assert first == {"type": "executing", "data": {"node": "1", "prompt_id": "r"}}
    assert then["type"] == "next"


def test_changes_of_the_queue_are_told_together(monkeypatch):
    monkeypatch.setattr(module, "STATUS_SECONDS", 0.0)

    async def main():
        asked = []

        async def remaining():
            asked.append(1)
            return len(asked)

        async with serving(remaining) as place:
            ws = await place.connect()
            place.sockets.start()
            for _ in range(100):
                place.sockets.changed()
            first = await hear(ws)
            place.sockets.changed()
            return first, await hear(ws), len(asked)

    first, second, asked = asyncio.run(main())
    assert first == {"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 2}}}}
    assert second["data"]["status"]["exec_info"]["queue_remaining"] == 3
    assert asked == 3


def test_a_look_at_the_queue_that_fails_once_does_not_end_the_telling(monkeypatch):
    monkeypatch.setattr(module, "STATUS_SECONDS", 0.0)

    async def main():
        asked = []

        async def remaining():
            asked.append(1)
            if len(asked) == 2:
                raise OSError("the disk is away")
            return len(asked)

        async with serving(remaining) as place:
            ws = await place.connect()
            place.sockets.start()
            place.sockets.changed()
            while len(asked) < 2:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            place.sockets.changed()
            return (await asyncio.wait_for(hear(ws), 5))["data"]["status"]["exec_info"]["queue_remaining"]

    assert asyncio.run(main()) == 3


class Stuck:
    """A connection that takes nothing."""

    closed = False

    def __init__(self):
        self.sent, self.code = [], None

    async def send_str(self, text):
        self.sent.append(text)

    async def send_bytes(self, content):
        self.sent.append(content)

    async def close(self, code=1000, message=b""):
        self.closed, self.code = True, code


def test_a_client_that_is_behind_misses_what_passes_and_is_at_last_let_go(monkeypatch):
    monkeypatch.setattr(module, "WAITING", 100)

    async def main():
        ws = Stuck()
        socket = Socket("a", EVERYBODY, ws, Metrics())
        for number in range(30):
            socket.put(str(number), is_passing=True)
        assert len(socket._waiting) == 11
        for _ in range(200):
            socket.put("kept")
        await asyncio.wait_for(socket.write(), 20)
        return ws.code

    assert asyncio.run(main()) == 1013


def test_what_waits_for_a_client_that_takes_nothing_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "WAITING", 100)

    async def main():
        socket = Socket("a", EVERYBODY, Stuck(), Metrics())
        for _ in range(10_000):
            socket.put("x" * 10)  # its writer hangs in a send all the while
        return len(socket._waiting)

    assert asyncio.run(main()) <= 200


def test_a_connection_that_is_gone_is_forgotten():
    async def main():
        async with serving() as place:
            ws = await place.connect()
            await ws.close()
            while place.sockets._sockets:
                await asyncio.sleep(0.01)
            place.sockets.send([message("x")], "a")
            place.sockets.tell("logs", {}, ["a", "unknown"], scope="admin")
            return True

    assert asyncio.run(main())


def test_a_client_that_hangs_up_before_it_is_answered_is_no_fault(monkeypatch, caplog):
    async def main():
        async with serving() as place:
            real = web.WebSocketResponse.prepare

            async def prepare(ws, request):
                request.transport.abort()
                return await real(ws, request)

            monkeypatch.setattr(web.WebSocketResponse, "prepare", prepare)
            with contextlib.suppress(ClientError):
                await place.client.ws_connect("/ws?clientId=a")
            return dict(place.sockets._sockets)

    assert asyncio.run(main()) == {}
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_the_end_of_the_server_closes_every_connection():
    async def main():
        async with serving() as place:
            sockets = [await place.connect(), await place.connect("")]
            closing = asyncio.ensure_future(place.sockets.close())
            codes = [(await hear(ws)).type for ws in sockets]
            await closing
            return codes

    assert {code.name for code in asyncio.run(main())} <= {"CLOSE", "CLOSING", "CLOSED"}


def test_a_name_that_is_very_long_is_cut():
    async def main():
        async with serving() as place:
            ws = await place.client.ws_connect("/ws", params={"clientId": "x" * 5000})
            return (await hear(ws))["data"]["sid"]

    assert asyncio.run(main()) == "x" * 200
