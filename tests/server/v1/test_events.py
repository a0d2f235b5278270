"""Server-sent events: told as they come, and from a number on."""

from __future__ import annotations

import asyncio
import base64
import json

from server.v1 import events
from tests.server.v1.serving import served


def read(text):
    """Events of a stream as (id, type, data)."""
    found = []
    for block in text.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if fields:
            data = json.loads(fields["data"])
            assert fields["event"] == data["type"]
            found.append((int(fields["id"]) if "id" in fields else None, data["type"], data))
    return found


def test_a_stream_has_all_of_a_run_and_ends_with_it(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            run = await api.submit()
            following = asyncio.create_task(api.whole("GET", f"/v1/runs/{run}/events"))
            while not api.service.feed._subscriptions:
                await asyncio.sleep(0)
            await api.carry()
            status, headers, body = await following
            assert (status, headers["Content-Type"]) == (200, "text/event-stream")
            live = read(body)
            assert [kind for _, kind, _ in live] == ["RunQueued", "RunLeased", "NodeStarted", "Saved", "RunOver"]
            numbers = [number for number, _, _ in live]
            assert numbers == sorted(set(numbers))
            assert live[-1][2]["status"] == "success"
            assert live[3][2]["file"] == {
                "filename": f"{run}.png", "subfolder": "", "type": "output", "format": "png", "nbytes": 9,
            }  # fmt: skip
            assert read((await api.ask("GET", f"/v1/runs/{run}/events"))[1]) == live

    asyncio.run(story())


def test_a_stream_goes_on_after_a_number(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            run = await api.submit()
            await api.carry()
            whole = read((await api.ask("GET", f"/v1/runs/{run}/events"))[1])
            after = whole[2][0]
            assert read((await api.ask("GET", f"/v1/runs/{run}/events?after={after}"))[1]) == whole[3:]
            headers = {"Last-Event-ID": str(after)}
            assert read((await api.ask("GET", f"/v1/runs/{run}/events?after=0", headers=headers))[1]) == whole[3:]
            last = read((await api.ask("GET", f"/v1/runs/{run}/events?after={whole[-1][0]}"))[1])
            assert [kind for _, kind, _ in last] == ["RunOver"]
            headers = {"Last-Event-ID": "x"}
            assert (await api.ask("GET", f"/v1/runs/{run}/events", headers=headers))[0] == 422

    asyncio.run(story())


def test_a_run_cancelled_in_the_queue_is_over(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            run = await api.submit()
            following = asyncio.create_task(api.ask("GET", f"/v1/runs/{run}/events"))
            while not api.service.feed._subscriptions:
                await asyncio.sleep(0)
            await api.ask("POST", f"/v1/runs/{run}/cancel")
            assert [(kind, data.get("status")) for _, kind, data in read((await following)[1])] == [
                ("RunQueued", None), ("RunOver", "cancelled"),
            ]  # fmt: skip

    asyncio.run(story())


def test_previews_are_told_on_request_alone(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            run, feed = await api.submit(), api.service.feed
            streams = [asyncio.create_task(api.ask("GET", f"/v1/runs/{run}/events{query}"))
                       for query in ("", "?previews=true")]  # fmt: skip
            while len(feed._subscriptions) < 2:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            feed.tell(run, {"type": "NodePreview", "run": run, "node": "1", "format": "jpeg", "image": ""}, b"pixels")
            await api.ask("POST", f"/v1/runs/{run}/cancel")
            without, shown = [read((await stream)[1]) for stream in streams]
            assert [kind for _, kind, _ in without] == ["RunQueued", "RunOver"]
            assert base64.b64decode(shown[1][2]["image"]) == b"pixels"

    asyncio.run(story())


def test_a_silent_stream_shows_that_it_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.001)

    async def story():
        async with served(tmp_path) as api:
            run = await api.submit()
            response = await api.client.get(f"/v1/runs/{run}/events")
            assert await response.content.readuntil(b": beat\n\n")
            response.close()

    asyncio.run(story())


def test_one_stream_has_all_runs(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            response = await api.client.get("/v1/events")
            await response.content.readuntil(b"\n\n")
            runs = [await api.submit(), await api.submit()]
            text = b"".join([await response.content.readuntil(b"\n\n") for _ in runs])
            assert [(number, data["run"]) for number, _, data in read(text)] == [(None, run) for run in runs]
            api.service.feed.close()
            assert await response.read() == b""

    asyncio.run(story())
