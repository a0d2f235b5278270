"""The queue: how many wait, and whether it moves."""

from __future__ import annotations

from pydantic import Field

from server.problems import View
from server.v1.operation import Answer, Call, operation


class Counts(View):
    """How many runs there are of each status."""

    queued: int
    running: int
    success: int
    error: int
    cancelled: int


class Queue(View):
    """The queue as it is now."""

    paused: bool = Field(description="true while no waiting run is begun")
    counts: Counts


@operation("GET", "/v1/queue", tag="queue", scope="run", answers={200: Answer("The queue.", Queue)})
async def get_queue(call: Call) -> Queue:
    """Tells how many runs wait, run and are over, and whether the queue is paused."""
    return await _queue(call)


@operation("POST", "/v1/queue/pause", tag="queue", scope="admin", problems=(507,),
           answers={200: Answer("The queue, paused.", Queue)})  # fmt: skip
async def pause_queue(call: Call) -> Queue:
    """Begins no more runs; those that run go on. Holds over a restart."""
    await call.service.runs.pause(True)
    call.service.feed.notify("QueueChanged")
    return await _queue(call)


@operation("POST", "/v1/queue/resume", tag="queue", scope="admin", problems=(507,),
           answers={200: Answer("The queue, moving.", Queue)})  # fmt: skip
async def resume_queue(call: Call) -> Queue:
    """Begins runs again."""
    await call.service.runs.pause(False)
    call.service.dispatcher.wake()
    call.service.feed.notify("QueueChanged")
    return await _queue(call)


async def _queue(call: Call) -> Queue:
    counts = await call.service.runs.counts()
    return Queue(paused=await call.service.runs.is_paused(), counts=Counts.model_validate(counts))
