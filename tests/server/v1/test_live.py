"""The WebSocket for pages: what it tells, in which frames, and how it ends."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import WSMsgType, WSServerHandshakeError

from server import feed as feeds
from tests.server.v1.serving import DOCUMENT, served


async def hear(ws):
    """The next message: JSON, a binary frame as (head, picture), or what closed the connection."""
    message = await asyncio.wait_for(ws.receive(), 20)
    if message.type is WSMsgType.TEXT:
        return json.loads(message.data)
    if message.type is WSMsgType.BINARY:
        length = int.from_bytes(message.data[:4], "big")
        return json.loads(message.data[4 : 4 + length]), message.data[4 + length :]
    return message


def test_a_socket_tells_what_runs_do_by_their_numbers_without_paths(tmp_path):
    async def story():
        async with served(tmp_path) as api, api.client.ws_connect("/v1/socket") as ws:
            run = await api.submit()
            await api.carry()
            told = [await hear(ws) for _ in range(5)]
            assert [event["type"] for event in told] == ["RunQueued", "RunLeased", "NodeStarted", "Saved", "RunOver"]
            numbers = [event["number"] for event in told]
            assert numbers == sorted(set(numbers)) and {event["run"] for event in told} == {run}
            assert told[3]["file"]["filename"] == f"{run}.png" and "path" not in told[3]["file"]

    asyncio.run(story())


def test_a_preview_is_a_binary_frame_with_a_head(tmp_path):
    async def story():
        async with served(tmp_path) as api, api.client.ws_connect("/v1/socket") as ws:
            event = {"type": "NodePreview", "run": "r", "node": "3", "format": "jpeg", "image": "<4 bytes>"}
            api.service.feed.tell("r", event, b"\xff\xd8\xff\xd9")
            head, picture = await hear(ws)
            assert head == {"type": "NodePreview", "run": "r", "node": "3", "format": "jpeg", "number": 1}
            assert picture == b"\xff\xd8\xff\xd9"

    asyncio.run(story())


def test_a_socket_tells_what_else_changes_and_a_stream_of_events_does_not(tmp_path):
    async def story():
        async with served(tmp_path) as api, api.client.ws_connect("/v1/socket") as ws:
            stream = api.service.feed.follow()
            first = await api.submit()
            assert (await hear(ws))["type"] == "RunQueued"
            for method, path, options in (
                ("POST", "/v1/queue/pause", {}), ("PATCH", f"/v1/runs/{first}", {"json": {"priority": 3}}),
                ("POST", "/v1/queue/resume", {}),
            ):  # fmt: skip
                assert (await api.ask(method, path, **options))[0] == 200
                assert await hear(ws) == {"type": "QueueChanged"}
            assert (await api.ask("PUT", "/v1/workflows/mine", json=DOCUMENT))[0] == 201
            assert await hear(ws) == {"type": "WorkflowsChanged"}
            assert (await api.ask("DELETE", "/v1/workflows/mine"))[0] == 204
            assert await hear(ws) == {"type": "WorkflowsChanged"}
            stream.close()
            assert [told.event["type"] async for told in stream] == ["RunQueued"]

    asyncio.run(story())


def test_what_is_for_one_caller_only_that_caller_is_told(tmp_path):
    async def story():
        async with served(tmp_path, wants_token=True) as api:
            tokens = {name: await api.service.tokens.create(name, ["run"]) for name in ("ann", "bob")}
            sockets = {
                name: await api.client.ws_connect("/v1/socket", headers={"Authorization": f"Bearer {token}"})
                for name, token in tokens.items()
            }
            api.service.feed.notify("DraftsChanged", "ann", id="a")
            api.service.feed.notify("QueueChanged")
            assert await hear(sockets["ann"]) == {"type": "DraftsChanged", "id": "a"}
            assert await hear(sockets["ann"]) == await hear(sockets["bob"]) == {"type": "QueueChanged"}
            for ws in sockets.values():
                await ws.close()

    asyncio.run(story())


def test_a_socket_wants_a_token_an_own_page_and_an_upgrade(tmp_path):
    async def story():
        async with served(tmp_path, wants_token=True) as api:
            token = {"Authorization": f"Bearer {await api.service.tokens.create('ann', ['run'])}"}
            for headers, status in (({}, 401), ({**token, "Origin": "https://evil.example"}, 403),
                                    ({**token, "Host": "evil.example"}, 403)):  # fmt: skip
                with pytest.raises(WSServerHandshakeError) as refused:
                    await api.client.ws_connect("/v1/socket", headers=headers)
                assert refused.value.status == status
            status, problem = await api.ask("GET", "/v1/socket", headers=token)
            assert status == 400 and "send Upgrade" in problem["detail"]
            assert not api.service.feed._subscriptions

    asyncio.run(story())


def test_a_reader_too_far_behind_is_told_to_come_again(tmp_path, monkeypatch):
    monkeypatch.setattr(feeds, "WAITING", 3)

    async def story():
        async with served(tmp_path) as api, api.client.ws_connect("/v1/socket") as ws:
            for _ in range(9):
                api.service.feed.notify("QueueChanged")
            heard = [await hear(ws) for _ in range(5)]
            assert heard[:4] == [{"type": "QueueChanged"}] * 4
            assert (heard[4].type, heard[4].data) == (WSMsgType.CLOSE, 1013)

    asyncio.run(story())


def test_sockets_are_closed_when_the_server_ends_and_forgotten_when_a_client_goes(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            gone = await api.client.ws_connect("/v1/socket")
            await gone.close()
            async with api.client.ws_connect("/v1/socket") as ws:
                while len(api.service.feed._subscriptions) != 1:
                    await asyncio.sleep(0)
                api.service.feed.close()
                assert (await hear(ws))[:2] == (WSMsgType.CLOSE, 1001)

    asyncio.run(story())
