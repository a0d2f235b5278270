"""Gives runs to workers, and sees to it that each ends exactly once whatever dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from nodegraph.devices import visible_devices
from nodegraph.errors import StorageError
from nodegraph.lock import wait_for_workers
from nodegraph.worker import Frame
from server.attempt import Attempt
from server.comfy_messages import Message, done
from server.desk import Desk
from server.feed import Feed
from server.metrics import Metrics
from server.records import Ending, NodeRecord
from server.runs import Runs
from server.settings import ServerSettings
from server.workers import WorkerDied, WorkerProcess, WorkerState

T = TypeVar("T")
log = logging.getLogger(__name__)
SLICE = 100  # events handled before others on the loop get their turn
LOOK_SECONDS = 1.0  # how often a silent worker is looked at
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 30.0  # seconds between two starts of a worker that keeps dying
END_SECONDS = 10.0  # how long workers of an earlier server may take to notice that it is gone
LONGEST_WRITE_PAUSE = 5.0  # seconds between two tries to write to a database that cannot be written
CALM_SECONDS = 60.0  # a worker that lived so long may start again at once


class Dispatcher:
    """The workers, and what they are at.

    Args:
        settings: devices, patience and retries.
        send: takes messages for ComfyUI's clients, with the client of the run.
        changed: called when the queue has changed.
    """

    def __init__(
        self, settings: ServerSettings, runs: Runs, feed: Feed, desk: Desk, metrics: Metrics, *,
        send: Callable[[list[Message], str], None], changed: Callable[[], None],
    ) -> None:  # fmt: skip
        self._settings, self._runs, self._feed, self._desk, self._metrics = settings, runs, feed, desk, metrics
        self._send, self._changed = send, changed
        self._states: dict[str, WorkerState] = {}
        self._processes: dict[str, WorkerProcess] = {}
        self._attempts: dict[str, tuple[Attempt, WorkerProcess]] = {}
        self._awaited: dict[str, list[asyncio.Future[None]]] = {}
        self._idlers: set[asyncio.Future[None]] = set()
        self._news = 0  # counts what idle workers are woken for
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = asyncio.Event()

    async def start(self) -> None:
        """Takes up what an earlier server left, and starts a worker for each device."""
        left = await self._desk.do(wait_for_workers, self._desk.folders.home, END_SECONDS)
        for worker in left:
            log.error(
                "worker process %d of an earlier server does not end; end it, or its run may be saved twice", worker.pid
            )
        count = await self._runs.give_back_all()
        if count:
            log.info("%d runs that were under way when the server ended are taken up again", count)
        await self._desk.do(self._desk.folders.settle_others, await self._runs.unfinished())
        for device in await self._desk.do(self._devices):
            name = device if device not in self._states else f"{device} #{len(self._states)}"
            state = self._states[name] = WorkerState(name, device)
            self._tasks.append(asyncio.create_task(self._tend(state), name=f"worker {name}"))

    async def close(self) -> None:
        """Lets what runs finish within the grace time, else gives it back to the queue; ends the workers."""
        self._closing.set()
        self.wake()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._settings.grace_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(process.stop(2.0) for process in self._processes.values()))

    def wake(self) -> None:
        """Something was queued, resumed or ended: idle workers look."""
        self._changed()
        self._news += 1
        for idler in self._idlers:
            if not idler.done():
                idler.set_result(None)

    def workers(self) -> list[WorkerState]:
        """The workers, in the order of the devices."""
        return list(self._states.values())

    def running(self) -> list[str]:
        """Ids of the runs on lease."""
        return list(self._attempts)

    def nodes(self, run: str) -> list[NodeRecord]:
        """What has become of the nodes of a run on lease so far; nothing of others."""
        found = self._attempts.get(run)
        return [] if found is None else found[0].nodes

    async def finished(self, run: str, seconds: float | None = None) -> bool:
        """Waits for the end of a run -> False when the time is over first, or there is no such run."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaited.setdefault(run, []).append(future)
        try:
            record = await self._runs.get(run)
            if record is None or record.finished is not None:
                return record is not None
            await asyncio.wait_for(future, seconds)
            return True
        except asyncio.TimeoutError:
            return False
        finally:
            waiting = self._awaited.get(run, [])
            if future in waiting:
                waiting.remove(future)
            if not waiting:
                self._awaited.pop(run, None)

    async def cancel(self, run: str) -> str | None:
        """Ends a run that waits, or has one that runs stop -> its status now; None when there is none such."""
        if await self._runs.cancel_queued(run):
            self.dropped(run)
            return "cancelled"
        if await self._runs.note_cancel(run):
            found = self._attempts.get(run)
            if found is not None:
                attempt, process = found
                attempt.cancelled = attempt.cancelled or time.monotonic()
                await process.send({"do": "cancel", "run": run})
        record = await self._runs.get(run)
        return None if record is None else record.status

    def dropped(self, run: str) -> None:
        """Tells that a run was taken out of the queue."""
        self._feed.tell(run, {"type": "RunOver", "run": run, "time": time.time(), "status": "cancelled", "error": None})
        self._feed.end(run)
        self._over(run)
        self._changed()

    async def free(self) -> None:
        """Has every worker let go of models and cached values it does not need, after what it runs."""
        for process in list(self._processes.values()):
            await process.send({"do": "free"})

    # A worker's life

    async def _tend(self, state: WorkerState) -> None:
        """Starts a worker, gives it runs, and starts it again when it dies."""
        failures = 0
        while not self._closing.is_set():
            process = WorkerProcess(state)
            began = time.monotonic()
            try:
                state.state = "starting"
                settings = replace(self._settings.engine, device=state.device, previews=self._settings.previews)
                await process.start(settings, is_warm=self._settings.is_warm)
                self._processes[state.name] = process
                await self._serve(state, process)
            except WorkerDied as death:
                state.deaths += 1
                self._metrics.worker_died(state.name)
                log.error("worker %s died: %s; it is started again", state.name, death)
            except OSError as error:
                log.error("worker %s cannot be started: %s", state.name, error.strerror or error)
            except Exception:  # a fault of ours must not leave a device without a worker
                log.exception("worker %s is started again after a fault of the server", state.name)
            finally:
                state.state, state.pid, state.run = "dead", None, None
                self._processes.pop(state.name, None)
                await asyncio.shield(process.stop(2.0))
            failures = 0 if time.monotonic() - began > CALM_SECONDS else failures + 1
            if failures > 1:
                with contextlib.suppress(asyncio.TimeoutError):
                    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures, 10))
                    await asyncio.wait_for(self._closing.wait(), pause)

    async def _serve(self, state: WorkerState, process: WorkerProcess) -> None:
        while not self._closing.is_set():
            frame = await self._next(process)
            if frame is not None and frame.head["is"] == "ready":
                break
        state.state = "idle"
        while not self._closing.is_set():
            news = self._news
            record = await self._persist(lambda: self._runs.lease(state.name))
            if record is None:
                await self._idle(process, news)
                continue
            state.state, state.run = "busy", record.id
            attempt = Attempt(record, self._feed)
            self._attempts[record.id] = attempt, process
            self._changed()
            try:
                await self._carry(attempt, state, process)
            finally:
                self._attempts.pop(record.id, None)
            state.state, state.run = "idle", None

    async def _idle(self, process: WorkerProcess, news: int) -> None:
        """Waits for something newer than `news` of the queue, and looks whether the worker lives."""
        if self._news == news:
            idler = asyncio.get_running_loop().create_future()
            self._idlers.add(idler)
            try:
                await asyncio.wait({idler}, timeout=LOOK_SECONDS)
            finally:
                self._idlers.discard(idler)
        await self._look(process)
        while not process.frames.empty():
            await self._next(process)

    async def _look(self, process: WorkerProcess) -> None:
        """Ends a worker that shows no life; what waits for its reports is then told of its death."""
        if time.monotonic() - process.heard > self._settings.beat_seconds:
            await process.kill(f"it showed no life for {self._settings.beat_seconds:g} s")

    async def _persist(self, write: Callable[[], Awaitable[T]]) -> T:
        """What a write to the database gives, tried until the database can be written."""
        pause = 0.1
        while True:
            try:
                return await write()
            except StorageError as error:
                log.error("the queue waits for the database: %s", error)
                await asyncio.sleep(pause)
                pause = min(LONGEST_WRITE_PAUSE, 2 * pause)

    async def _next(self, process: WorkerProcess) -> Frame | None:
        frame = await process.next(LOOK_SECONDS)
        if frame is None:
            await self._look(process)
        return frame

    # A run's life

    async def _carry(self, attempt: Attempt, state: WorkerState, process: WorkerProcess) -> None:
        record = attempt.record
        try:
            order = await self._desk.do(attempt.order)
            self._send(attempt.start(state.name), record.client)
            await process.send(order)
            done = await self._follow(attempt, process)
        except WorkerDied as death:
            await self._bury(attempt, "its worker died", str(death))
            raise
        except asyncio.CancelledError:  # the server ends
            await asyncio.shield(self._runs.give_back(record.id, is_death=False))
            raise
        except Exception as error:
            await self._bury(attempt, "the server failed at it", repr(error))
            raise
        await self._finish(attempt, done["status"], done["error"], done.get("result") or {})

    async def _follow(self, attempt: Attempt, process: WorkerProcess) -> Mapping[str, Any]:
        """Takes the reports on a run -> the last of them."""
        grace, stall = self._settings.grace_seconds, self._settings.stall_seconds
        while True:
            frame = await self._next(process)
            now = time.monotonic()
            if attempt.cancelled is not None and now - attempt.cancelled > grace:
                await process.kill(f"its run did not stop within {grace:g} s")
            elif now - attempt.heard > stall:
                await process.kill(f"its run told nothing for {stall:g} s")
            if frame is None or frame.head.get("run") != attempt.record.id:
                continue
            if frame.head["is"] == "done":
                return frame.head
            if frame.head["is"] == "preview":
                self._take(attempt, [frame.head["event"]], frame.body)
                continue
            events = frame.head["events"]
            for first in range(0, len(events), SLICE):
                self._take(attempt, events[first : first + SLICE], None)
                await asyncio.sleep(0)

    def _take(self, attempt: Attempt, events: list[dict[str, Any]], image: bytes | None) -> None:
        messages: list[Message] = []
        for event in events:
            messages += attempt.take(event, image)
            self._metrics.take(event)
        self._send(messages, attempt.record.client)

    async def _bury(self, attempt: Attempt, what: str, reason: str) -> None:
        """A run lost its worker: it is tried again, or told why not."""
        record = attempt.record
        if attempt.cancelled is not None:
            await self._finish(attempt, "cancelled", None, {})
        elif record.deaths < self._settings.retries:
            log.warning("run %s is tried again, as %s: %s", record.id, what, reason)
            attempt.tell_feed("RunRetried", reason=f"{what}: {reason}")
            await self._persist(lambda: self._runs.give_back(record.id, is_death=True))
            self.wake()
        else:
            times = "" if record.deaths == 0 else f" {record.deaths + 1} times"
            await self._finish(attempt, "error", {"message": f"{what}{times}: {reason}"}, {})

    async def _finish(
        self, attempt: Attempt, status: str, error: Mapping[str, Any] | None, result: Mapping[str, Any]
    ) -> None:
        record = attempt.record
        messages = attempt.over(status, error)
        ending = attempt.ending(status, error, result)
        try:
            is_first = await self._persist(lambda: self._runs.finish(record.id, ending))
        except Exception as fault:  # what it made is nothing that a database holds; that it is over must be there
            log.exception("run %s: its end cannot be written down", record.id)
            status, error = "error", {"message": f"what it made cannot be written down: {fault!r}"}
            messages = attempt.over(status, error)
            bare = Ending(status, error, {}, {}, [], [], [], [])
            is_first = await self._persist(lambda: self._runs.finish(record.id, bare))
        await self._desk.do(self._desk.folders.settle, record.id)
        if not is_first:
            log.error("run %s had ended before; its second end is dropped", record.id)
            return
        attempt.tell_over(status, error)
        self._send([*messages, done(record.id)], record.client)
        now = time.time()
        started = record.started or now
        self._metrics.run_over(status, started - record.created, now - started)
        owner = f" of {record.owner}" if record.owner else ""
        log.info("run %s%s: %s in %.2f s", record.id, owner, status, now - started)
        self._over(record.id)
        self._changed()

    def _over(self, run: str) -> None:
        for future in self._awaited.pop(run, ()):
            if not future.done():
                future.set_result(None)

    def _devices(self) -> Sequence[str]:
        asked = self._settings.engine.device
        return self._settings.devices or (visible_devices() if asked == "auto" else [asked])
