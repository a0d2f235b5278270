"""Bodies that stop coming, and codings that may never end."""

from __future__ import annotations

import asyncio
import zlib

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from server import stalled
from server.stalled import refuse_stalled


async def _length(request: web.Request) -> web.Response:
    return web.Response(text=str(len(await request.read())))


def _server() -> TestServer:
    app = web.Application(middlewares=[refuse_stalled])
    app.add_routes([web.post("/", _length), web.get("/", _length)])
    return TestServer(app)


@pytest.mark.parametrize("coding", ["deflate", "gzip, deflate", "x"])
def test_codings_that_may_hang_are_refused(coding):
    async def main():
        async with TestClient(_server()) as client:
            return (await client.post("/", data=zlib.compress(b"x"), headers={"Content-Encoding": coding})).status

    assert asyncio.run(main()) == 415


def test_a_client_that_stops_sending_is_hung_up_on(monkeypatch):
    monkeypatch.setattr(stalled, "STALL_SECONDS", 0.05)

    async def main():
        async with _server() as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nonly this")
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await asyncio.wait_for(reader.readexactly(1), 20)
            writer.close()

    asyncio.run(main())


def test_a_slow_client_that_goes_on_is_heard_out(monkeypatch):
    monkeypatch.setattr(stalled, "STALL_SECONDS", 0.3)

    async def pieces():
        for _ in range(8):
            await asyncio.sleep(0.1)
            yield b"xx"

    async def main():
        async with TestClient(_server()) as client:
            return await (await client.post("/", data=pieces())).text()

    assert asyncio.run(main()) == "16"


def test_a_request_without_a_body_is_not_watched(monkeypatch):
    monkeypatch.setattr(stalled, "_Watch", None)

    async def main():
        async with TestClient(_server()) as client:
            return (await client.get("/")).status

    assert asyncio.run(main()) == 200
