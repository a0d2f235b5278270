"""Events of runs as server-sent events, resumable by number."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from server.feed import Subscription, Told
from server.records import Record
from server.v1.models import FINISHED, RunPath
from server.v1.operation import Answer, Call, operation
from server.v1.reading import WHOLE, Flag, Parameters
from server.v1.runs import record_of

HEARTBEAT_SECONDS = 15.0
HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
LAST = "RunOver"
STREAM = {
    200: Answer("A stream of events, each a JSON object with its `type` and `run`.", media=("text/event-stream",))
}
After = Annotated[int, Field(ge=0, le=10**15), WHOLE]


class StreamQuery(Parameters):
    """What is told."""

    previews: Flag = Field(default=False, description="also pictures of work under way, in base64")


class ResumeQuery(StreamQuery):
    """What is told, and from where on."""

    after: After | None = Field(default=None, description="only events with a greater number")


class ResumeHeaders(Parameters):
    """What a browser sends when it connects again."""

    last: After | None = Field(default=None, alias="Last-Event-ID", description="as `after`; goes before it")


@operation("GET", "/v1/runs/{id}/events", tag="events", scope="run", problems=(404,), answers=STREAM, is_stream=True)
async def follow_run(call: Call, *, path: RunPath, query: ResumeQuery, headers: ResumeHeaders) -> web.StreamResponse:
    """Tells what a run does, from its begin or from a number on, until it is over.

    `id:` is the number of an event. Numbers grow within a run, with gaps. Progress and previews are told only as they
    happen. The last event is `RunOver`.
    """
    await record_of(call, path.id)
    number = next((given for given in (headers.last, query.after) if given is not None), 0)
    stream = await _opened(call)
    async for told in _of_run(call, path.id, number):
        await _send(stream, told, with_previews=query.previews)
    return stream


@operation("GET", "/v1/events", tag="events", scope="run", answers=STREAM, is_stream=True)
async def follow_all(call: Call, *, query: StreamQuery) -> web.StreamResponse:
    """Tells what all runs do, from now on.

    Numbers belong to each run, so there is no `id:` here; what was missed, each run's own stream has.
    """
    subscription = call.service.feed.follow()
    try:
        stream = await _opened(call)
        async for told in _with_beats(subscription):
            await _send(stream, told, with_previews=query.previews, is_numbered=False)
        return stream
    finally:
        subscription.close()


def event_of(told: Told) -> dict[str, Any]:
    """An event as clients are told it: no paths of this machine."""
    event: dict[str, Any] = dict(told.event)
    if "file" in event:
        event["file"] = {name: value for name, value in event["file"].items() if name != "path"}
    return event


async def _of_run(call: Call, run: str, number: int) -> AsyncIterator[Told | None]:
    """Events after a number, the last one included; None now and then, so that the connection is seen to live.

    It also ends when the reader is too far behind or the server stops; browsers then connect again by themselves.
    """
    subscription = call.service.feed.follow(run)
    try:
        for told in await call.service.feed.since(run, number):
            number = told.number
            yield told
            if told.event["type"] == LAST:
                return
        record = await call.service.runs.get(run)
        if record is None or record.status in FINISHED:
            yield _over(run, number, record)
            return
        async for told in _with_beats(subscription):
            if told is None or told.number > number:
                yield told
                if told is not None and told.event["type"] == LAST:
                    return
    finally:
        subscription.close()


async def _with_beats(subscription: Subscription) -> AsyncIterator[Told | None]:
    """Events of a subscription, and None whenever nothing came for a while."""
    events = aiter(subscription)
    coming = asyncio.ensure_future(anext(events, None))
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=HEARTBEAT_SECONDS)
            if not done:
                yield None
                continue
            told = coming.result()
            if told is None:
                return
            yield told
            coming = asyncio.ensure_future(anext(events, None))
    finally:
        coming.cancel()


def _over(run: str, number: int, record: Record | None) -> Told:
    """The end of a run whose own last event is not kept."""
    status = "deleted" if record is None else record.status
    error = None if record is None or record.error is None else record.error.get("message")
    return Told(number + 1, run, {"type": LAST, "run": run, "status": status, "error": error})


async def _opened(call: Call) -> web.StreamResponse:
    stream = web.StreamResponse(headers=HEADERS)
    await stream.prepare(call.request)
    await stream.write(b": events\n\n")  # so that whoever waits for a first byte knows that it is open
    return stream


async def _send(
    stream: web.StreamResponse, told: Told | None, *, with_previews: bool, is_numbered: bool = True
) -> None:
    if told is None:
        await stream.write(b": beat\n\n")
        return
    event = event_of(told)
    if told.event["type"] == "NodePreview":
        if not with_previews or told.image is None:
            return
        event["image"] = base64.b64encode(told.image).decode()
    name = f"id: {told.number}\n" if is_numbered else ""
    text = f"{name}event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n"
    await stream.write(text.encode())
