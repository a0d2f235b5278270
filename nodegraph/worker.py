"""A worker: a process that holds a session and runs what it is told to, for a server or whoever else starts it.

Orders come as frames on stdin, reports go as frames on stdout; what nodes print goes to stderr. A frame is two lengths
(u32, big-endian), a JSON object and bytes. When stdin ends the worker stops: it does not outlive who started it.

Orders, by `do`: `run` (its id, `document`, `targets`, `scope`, `texts`), `cancel` (`run`), `free`,
`stop`. Reports, by `is`: `ready`, `beat`, `events` (`run`, `events`), `preview` (`run`, `event` and the picture),
`done` (`run`, `status`, `error`, `result`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import re
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pydantic import TypeAdapter

from nodegraph.devices import loaded_torch
from nodegraph.errors import NodegraphError, WorkflowError
from nodegraph.events import Event, NodePreview, as_json
from nodegraph.keys import digest
from nodegraph.lock import WORKERS, Lock
from nodegraph.pictures import png_of
from nodegraph.running import Prepared, Running
from nodegraph.session import Session
from nodegraph.settings import Settings
from nodegraph.workflow import Workflow

log = logging.getLogger(__name__)
HEAD = struct.Struct(">II")
BEAT_SECONDS = 2.0
BATCH = 500  # events told in one frame at most
PLAIN = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


class Frame(NamedTuple):
    """A JSON object and bytes beside it."""

    head: dict[str, Any]
    body: bytes = b""


def encode(frame: Frame) -> bytes:
    """A frame as bytes."""
    head = json.dumps(frame.head, default=_plain).encode()
    return HEAD.pack(len(head), len(frame.body)) + head + frame.body


def _plain(value: Any) -> Any:
    """What a node gave where a plain value belongs: a scalar of numpy or torch as a number, all else as text."""
    try:
        return value.item()
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return repr(value)


def read(stream: BinaryIO) -> Frame | None:
    """The next frame of a stream, or None at its end."""
    lengths = stream.read(HEAD.size)
    if len(lengths) < HEAD.size:
        return None
    head, body = HEAD.unpack(lengths)
    content = stream.read(head + body)
    return Frame(json.loads(content[:head]), content[head:]) if len(content) == head + body else None


def settings_json(settings: Settings) -> dict[str, Any]:
    """Settings as JSON, for the first frame a worker reads."""
    return TypeAdapter(Settings).dump_python(settings, mode="json")


def settings_of(found: Any) -> Settings:
    """Settings from that JSON."""
    return TypeAdapter(Settings).validate_python(found)


class Worker:
    """Runs orders one after the other and reports.

    Args:
        session: where they run.
        tell: takes reports; called from any thread.
    """

    def __init__(self, session: Session, tell: Callable[[Frame], None]) -> None:
        self._session, self._tell = session, tell
        self._orders: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running: Running | None = None
        self._cancelled: set[str] = set()
        self._run = ""
        self._thread = threading.Thread(target=self._work, name="worker-runs", daemon=True)
        self._thread.start()

    def take(self, order: dict[str, Any]) -> None:
        """Carries out an order; a run waits for those before it."""
        match order["do"]:
            case "run":
                self._orders.put(order)
            case "cancel":
                self._cancel(order["run"])
            case "free":
                self._orders.put(order)
            case other:
                log.warning("order %r is unknown", other)

    def close(self) -> None:
        """Cancels what runs and ends."""
        self._orders.put(None)
        with self._lock:
            running = self._running
        if running is not None:
            running.cancel()
        self._thread.join()

    def beat(self) -> dict[str, Any]:
        """What the worker holds at the moment."""
        session = self._session
        free, total = session.device.memory() if session.device.kind == "cpu" or loaded_torch() else (0, 0)
        stats = session.cache.stats
        return {
            "is": "beat", "run": self._run, "name": session.device.name, "device": {"free": free, "total": total},
            "ledgers": session.held(), "models": len(session.models.loaded), "loads": session.models.loads,
            "cache": {"memory_hits": stats.memory_hits, "disk_hits": stats.disk_hits,
                      "disk_bytes": 0 if session.disk is None else session.disk.used},
        }  # fmt: skip

    def _cancel(self, run: str) -> None:
        with self._lock:
            self._cancelled.add(run)
            running = self._running if self._run == run else None
        if running is not None:
            running.cancel()

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            if order["do"] == "free":
                self._session.free_memory()
                continue
            run = order["run"]
            try:
                report = self._carry_out(order)
            except WorkflowError as error:
                problems = [problem.as_json() for problem in error.problems]
                report = {"status": "error", "error": {"message": str(error), "problems": problems}}
            except NodegraphError as error:
                report = {"status": "error", "error": {"message": str(error)}}
            except Exception as error:  # a fault of ours must not take the process with it
                log.exception("run %s failed in the worker", run)
                report = {"status": "error", "error": {"message": f"the worker failed: {error!r}; please report it"}}
            with self._lock:
                self._running, self._run = None, ""
                self._cancelled.discard(run)
            self._tell(Frame({"is": "done", "run": run, **report}))

    def _carry_out(self, order: Mapping[str, Any]) -> dict[str, Any]:
        session, run = self._session, order["run"]
        workflow = Workflow.of(order["document"])
        prepared = session.prepare(workflow, order["targets"], scope=order["scope"])
        running = session.submit(prepared, wants_values=bool(prepared.outputs), claim=run, texts=order["texts"])
        with self._lock:
            self._running, self._run = running, run
            is_cancelled = run in self._cancelled
        if is_cancelled:
            running.cancel()
        start, error, files = time.monotonic(), None, dict[str, list[Any]]()
        for event in running:
            told: dict[str, Any] = {**as_json(event), "run": run, "at": round(time.monotonic() - start, 4)}
            if told["type"] == "NodeFailed" and error is None:
                names = ("message", "node", "class_type", "traceback", "inputs", "is_out_of_memory")
                error = {name: told[name] for name in names}
            elif told["type"] == "Saved":
                files.setdefault(told["node"], []).append(told["file"])
            self._report(run, event, told)
        try:
            assert running.finished is not None
            status = running.finished.status
            if running.errors and status == "cancelled" and error is None:  # the engine gave up on it
                status, error = "error", {"message": str(next(iter(running.errors.values())))}
            result = self._result(running, prepared, files, run) if status == "success" else {}
        finally:
            running.release()
        return {"status": status, "error": error, "result": result}

    def _report(self, run: str, event: Event, told: dict[str, Any]) -> None:
        if isinstance(event, NodePreview):
            self._tell(Frame({"is": "preview", "run": run, "event": {**told, "image": ""}}, event.image))
        elif told["type"] != "RunFinished":
            self._tell(Frame({"is": "events", "run": run, "events": [told]}))

    def _result(self, running: Running, prepared: Prepared, files: Mapping[str, list[Any]], run: str) -> dict[str, Any]:
        """The declared outputs: plain values, and pictures as files: a sink's, where one saved them."""
        found: dict[str, Any] = {}
        for name, ref in prepared.outputs.items():
            if ref.node not in prepared.plan.targets:
                continue
            port = prepared.plan.steps[ref.node].spec.outputs[int(ref.slot)].port
            if port in PLAIN:
                found[name] = running.value(ref.node, ref.slot)
            elif port in ("IMAGE", "MASK"):
                sinks = [
                    step.id
                    for step in prepared.plan.steps.values()
                    if step.id in files and ref in step.arguments.values()
                ]
                saved = files[sinks[0]] if sinks else self._save(running.value(ref.node, ref.slot), prepared, run, name)
                found[name] = {"files": [{key: file[key] for key in _PLACE} for file in saved]}
        return found

    def _save(self, images: Any, prepared: Prepared, run: str, name: str) -> list[dict[str, Any]]:
        saved: list[dict[str, Any]] = []
        place = f"results/{digest('run', run).hex()}/{re.sub(r'[^A-Za-z0-9_-]+', '_', name)[:60]}"
        for number in range(len(images)):
            content = png_of(images[number : number + 1], prepared.workflow, self._session.spec)

            def write(file: BinaryIO, content: bytes = content) -> None:
                file.write(content)

            file = self._session.folders.save("temp", place, "png", write, (run, f"result {name} {number}"))
            saved.append(file._asdict())
        return saved


_PLACE = ("filename", "subfolder", "type", "format", "nbytes")


class Outbox:
    """Writes reports in a thread of its own; events that wait go together in one frame."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._frames: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="worker-reports", daemon=True)
        self._thread.start()

    def put(self, frame: Frame) -> None:
        """Has a report written."""
        self._frames.put(frame)

    def close(self) -> None:
        """Writes what is left."""
        self._frames.put(None)
        self._thread.join()

    def _work(self) -> None:
        is_over = False
        while not is_over:
            frames: list[Frame] = []
            frame = self._frames.get()
            while frame is not None and len(frames) < BATCH:
                frames.append(frame)
                try:
                    frame = self._frames.get_nowait()
                except queue.Empty:
                    break
            else:
                is_over = frame is None
                if frame is not None:
                    frames.append(frame)
            try:
                self._stream.write(b"".join(map(encode, _joined(frames))))
                self._stream.flush()
            except OSError:  # nobody reads any more; stdin ends too
                return


def _joined(frames: list[Frame]) -> list[Frame]:
    """Neighbouring events of a run as one frame."""
    found: list[Frame] = []
    for frame in frames:
        last = found[-1].head if found else {}
        if frame.head["is"] == "events" and last.get("is") == "events" and last["run"] == frame.head["run"]:
            last["events"] += frame.head["events"]
        else:
            found.append(frame)
    return found


def main() -> int:
    """Runs a worker on this process's stdin and stdout -> exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):  # terminals and systemd send them to the server's whole group, but
        signal.signal(number, signal.SIG_IGN)  # the end of a worker comes from the server, after the run under way
    orders = os.fdopen(os.dup(0), "rb")
    reports = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what nodes and libraries print must not come between the frames
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for name in ("nodegraph", "nodes"):
        logging.getLogger(name).setLevel(logging.INFO)
    first = read(orders)
    if first is None:
        return 0
    try:
        session = Session(settings_of(first.head["settings"]))
    except NodegraphError as error:
        log.error("%s", error)
        return 2
    outbox = Outbox(reports)
    with session, _lock(session.folders.home):
        worker = Worker(session, outbox.put)
        over = threading.Event()
        threading.Thread(target=_beats, args=(worker, outbox, over), name="worker-beats", daemon=True).start()
        outbox.put(Frame({"is": "ready", "pid": os.getpid(), "device": session.device.name}))
        if first.head["is_warm"]:
            threading.Thread(target=_warm, args=(session,), name="worker-warm", daemon=True).start()
        while (frame := read(orders)) is not None and frame.head["do"] != "stop":
            worker.take(frame.head)
        if frame is None:
            os._exit(1)  # who started it is gone, and may be back any moment with a worker that takes over the run
        over.set()
        worker.close()
    outbox.close()
    return 0


def _lock(home: Path) -> Lock:
    return Lock(home, f"{WORKERS}/{os.getpid()}.lock")


def _beats(worker: Worker, outbox: Outbox, over: threading.Event) -> None:
    while not over.wait(BEAT_SECONDS):
        with contextlib.suppress(Exception):  # a figure that cannot be had must not stop the heart
            outbox.put(Frame(worker.beat()))


def _warm(session: Session) -> None:
    """Imports what the first run would wait for."""
    with contextlib.suppress(Exception):
        import torch

        log.debug("torch %s on %s", torch.__version__, session.device.name)


if __name__ == "__main__":
    sys.exit(main())
