"""Which pictures go to which clients of ComfyUI's WebSocket."""

from __future__ import annotations

import asyncio

from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestClient, TestServer

from server.comfy_messages import Message, preview_frame, preview_frame_with_metadata
from server.metrics import Metrics
from server.sockets import Sockets
from tests.server.test_sockets import named

PLACE = {"node_id": "3", "image_type": "image/png"}
STEP, RESULT = Message("preview", PLACE, b"step", "jpeg"), Message("preview", PLACE, b"result", "png")
DONE = Message("executing", {"node": None, "prompt_id": "x"})


async def _frames(messages: list[Message], *, asks: bool) -> list[bytes]:
    """The binary frames that a client is sent, one that asked for previews or one that never spoke of them."""

    async def remaining() -> int:
        return 0

    sockets = Sockets(remaining, {"supports_preview_metadata": True}, Metrics())
    app = web.Application(middlewares=[named])
    app.router.add_get("/ws", sockets.handle)
    async with TestClient(TestServer(app)) as client, client.ws_connect("/ws?clientId=me") as ws:
        assert (await ws.receive_json())["data"]["sid"] == "me"
        if asks:
            await ws.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
            assert (await ws.receive_json())["type"] == "feature_flags"
        sockets.send([*messages, DONE], "me")
        found: list[bytes] = []
        while (message := await ws.receive()).type is WSMsgType.BINARY:
            found.append(message.data)
        return found


def test_only_a_client_that_asked_is_shown_work_under_way():
    assert asyncio.run(_frames([STEP], asks=False)) == []
    assert asyncio.run(_frames([STEP], asks=True)) == [preview_frame_with_metadata(b"step", PLACE)]


def test_a_run_that_asked_for_previews_shows_them_to_clients_that_did_not():
    assert asyncio.run(_frames([STEP._replace(is_asked=True)], asks=False)) == [preview_frame(b"step", "jpeg")]


def test_a_picture_that_is_a_result_reaches_every_client():
    assert asyncio.run(_frames([STEP, RESULT], asks=False)) == [preview_frame(b"result", "png")]
    assert asyncio.run(_frames([RESULT], asks=True)) == [preview_frame_with_metadata(b"result", PLACE)]


def test_no_result_is_left_out_for_a_client_that_is_behind():
    assert len(asyncio.run(_frames([RESULT] * 500, asks=False))) == 500
