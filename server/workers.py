"""Worker processes as the server sees them: started, told, listened to, and watched for signs of life."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from nodegraph.settings import Settings
from nodegraph.worker import HEAD, Frame, encode, settings_json

log = logging.getLogger(__name__)
LONGEST = 1 << 30  # bytes of a frame


@dataclass
class WorkerState:
    """What is known of a worker.

    Attributes:
        name: its device, and a number where several share it.
        state: `starting`, `idle`, `busy` or `dead`.
        run: the run it has on lease.
        beat: its last report of what it holds.
        deaths: how often its process died.
    """

    name: str
    device: str
    state: str = "starting"
    run: str | None = None
    pid: int | None = None
    beat: dict[str, Any] = field(default_factory=dict[str, Any])
    deaths: int = 0

    @property
    def kind(self) -> str:
        """`cpu`, `cuda`, ...; the device's own name once it has told."""
        return str(self.beat.get("name", self.device)).partition(":")[0]

    def memory(self) -> dict[str, int]:
        """Bytes as ComfyUI's clients read them: of the device, and of what the worker holds there."""
        device: dict[str, int] = self.beat.get("device", {})
        held = sum(ledger["used"] for ledger in self.beat.get("ledgers", {}).values())
        total, free = device.get("total", 0), device.get("free", 0)
        return {"vram_total": total, "vram_free": free, "torch_vram_total": held, "torch_vram_free": 0}


class WorkerDied(Exception):
    """The process ended, or had to be ended; the message says how."""


class WorkerProcess:
    """One process of `nodegraph.worker`.

    Args:
        state: where its signs of life are noted.
    """

    def __init__(self, state: WorkerState) -> None:
        self.state = state
        self.frames: asyncio.Queue[Frame | None] = asyncio.Queue()
        self.heard = time.monotonic()
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._reason = ""

    async def start(self, settings: Settings, *, is_warm: bool = True) -> None:
        """Starts the process; its first frame says that it is ready. A warm one imports torch at once."""
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "nodegraph.worker", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, env=environment, limit=1 << 20,
        )  # fmt: skip
        self.state.pid = self._process.pid
        self.heard = time.monotonic()
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._note())]
        await self.send({"settings": settings_json(settings), "is_warm": is_warm})

    async def send(self, order: dict[str, Any]) -> None:
        """Gives an order. To a dead process it is lost; `next` tells of the death."""
        assert self._process is not None and self._process.stdin is not None
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(encode(Frame(order)))
            await self._process.stdin.drain()

    async def next(self, timeout: float) -> Frame | None:
        """The next report, or None after `timeout` seconds without one.

        Raises:
            WorkerDied: the process is gone.
        """
        try:
            frame = await asyncio.wait_for(self.frames.get(), timeout)
        except asyncio.TimeoutError:
            return None
        if frame is None:
            raise WorkerDied(await self._epitaph())
        return frame

    async def kill(self, reason: str) -> None:
        """Ends the process at once; `reason` is told instead of the signal."""
        self._reason = reason
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def stop(self, grace: float) -> None:
        """Ends the process: asks, waits, and then does not ask again."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            await self.send({"do": "stop"})
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), grace)
        await self.kill("")
        process._transport.close()  # type: ignore[reportUnknownMemberType, attr-defined]  # a grandchild may hold the pipes open
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _epitaph(self) -> str:
        assert self._process is not None
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._process.wait(), 5.0)
        if self._reason:
            return self._reason
        code = self._process.returncode
        if code is None:
            await self.kill("")
            return "it closed its pipe"
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            hint = ", as the system does when memory runs out" if -code == 9 else ""
            return f"it was ended by signal {name}{hint}"
        return f"it ended with exit code {code}"

    async def _listen(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        stream = self._process.stdout
        try:
            while True:
                head, body = HEAD.unpack(await stream.readexactly(HEAD.size))
                if head + body > LONGEST:
                    raise ValueError("a frame is too long")
                content = await stream.readexactly(head + body)
                self.heard = time.monotonic()
                frame = Frame(json.loads(content[:head]), content[head:])
                if frame.head["is"] == "beat":
                    self.state.beat = frame.head
                else:
                    self.frames.put_nowait(frame)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except (ValueError, TypeError, KeyError) as error:  # something else wrote to the pipe
            log.error("worker %s does not speak our protocol: %s", self.state.name, error)
            await self.kill("it wrote what is no report")
        finally:
            self.frames.put_nowait(None)

    async def _note(self) -> None:
        """Passes on what the process writes to stderr."""
        assert self._process is not None and self._process.stderr is not None
        stream, logger = self._process.stderr, logging.getLogger("nodegraph.worker")
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # a line over the limit
                continue
            if not line:
                return
            text = line.decode("utf-8", "replace").rstrip()
            level = logging.WARNING if text.startswith(("WARNING", "ERROR", "CRITICAL")) else logging.INFO
            logger.log(level, "%s: %s", self.state.name, text)
