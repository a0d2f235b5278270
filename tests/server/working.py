"""Servers at work for tests: small nodes in a folder, an application over them, and a real process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import psutil
from aiohttp.test_utils import TestClient, TestServer

from nodegraph.settings import Settings
from server.app import make_app
from server.service import SERVICE
from server.settings import ServerSettings

PATIENCE = 60.0  # seconds after which a wait counts as a hang
TINY_JPEG = b"\xff\xd8tiny\xff\xd9"

NODES = '''
"""Nodes that work a little, wait, and die."""

import os
import signal
import sys
import time
from pathlib import Path

from nodegraph.context import Context
from nodegraph.spec import node

JPEG = b"\\xff\\xd8tiny\\xff\\xd9"


def count(file: str) -> int:
    with open(file, "ab") as opened:
        opened.write(b".")
    return Path(file).stat().st_size


@node("Word", category="t")
def word(*, text: str = "") -> str:
    return text


@node("Slow", category="t")
def slow(*, value: str, ms: int = 10) -> str:
    time.sleep(ms / 1000)
    return value


@node("Count", category="t", cache=False)
def counted(*, value: str, file: str) -> str:
    """Leave a trace of each call."""
    count(file)
    return value


@node("Steps", category="t")
def steps(*, ctx: Context, value: str, steps: int = 3) -> str:
    for step in range(1, steps + 1):
        ctx.step(step, steps)
    return value


@node("Painted", category="t")
def painted(*, ctx: Context, value: str, file: str) -> str:
    """Show a picture, and go on when a file is there."""
    ctx.step(1, 2, lambda: ("jpeg", JPEG))
    while not os.path.exists(file):
        time.sleep(0.005)
        ctx.check()
    return value


@node("Wait", category="t")
def wait(*, ctx: Context, value: str, file: str) -> str:
    """Go on when a file is there; look up for cancelling."""
    while not os.path.exists(file):
        time.sleep(0.005)
        ctx.check()
    return value


@node("Deaf", category="t")
def deaf(*, value: str, file: str) -> str:
    """Leave a trace and hear nothing any more."""
    count(file)
    while True:
        time.sleep(0.05)


@node("Mortal", category="t")
def mortal(*, value: str, file: str, how: str = "kill", times: int = 1) -> str:
    """End the process the first times that it is called."""
    if count(file) <= times:
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "exit":
            os._exit(7)
        if how == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if how == "system_exit":
            sys.exit(3)
    return value


@node("Noisy", category="t")
def noisy(*, value: str) -> str:
    """Write where reports go, or so it seems."""
    print("noise " * 100, flush=True)
    os.write(1, b"\\x00\\x00\\x00\\x10more noise")
    os.write(2, b"x" * 3_000_000 + b"\\n")
    return value + str(sys.stdin.read() if sys.stdin else "")


@node("Broken", category="t")
def broken(*, value: str) -> str:
    raise ValueError("it broke")


@node("Note", category="t", kind="sink")
def note(*, ctx: Context, value: str, prefix: str = "note") -> None:
    ctx.save(prefix, "txt", lambda file: file.write(value.encode()) and None)


@node("Tell", category="t", kind="sink")
def tell(*, ctx: Context, value: str, file: str) -> None:
    """Save a text, and only then die the first time."""
    ctx.save("tell", "txt", lambda opened: opened.write(value.encode()) and None)
    if count(file) <= 1:
        os.kill(os.getpid(), signal.SIGKILL)
'''


def n(class_type, **inputs):
    """A node as a graph has it; tuples are links."""
    return {"class_type": class_type, "inputs": {k: list(v) if isinstance(v, tuple) else v for k, v in inputs.items()}}


def node_folder(folder):
    """The folder with the small nodes, made when missing."""
    place = folder / "nodes"
    place.mkdir(parents=True, exist_ok=True)
    (place / "small.py").write_text(NODES)
    return place


def no_torch(folder):
    """A folder for PYTHONPATH in which torch cannot be imported: workers of small nodes start fast without it."""
    place = folder / "no_torch" / "torch"
    place.mkdir(parents=True, exist_ok=True)
    (place / "__init__.py").write_text("raise ImportError('these nodes need no torch')\n")
    return place.parent


class Whole:
    """A client of a whole application, with its parts."""

    def __init__(self, client, service):
        self.client, self.service = client, service

    async def ask(self, method, path, **options):
        """Status and JSON, or text where it is none."""
        async with self.client.request(method, path, **options) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if answer.content_type.endswith("json") else text

    async def prompt(self, graph, **rest):
        """Submits a graph that is sound -> its id."""
        status, answer = await self.ask("POST", "/prompt", json={"prompt": graph, **rest})
        assert (status, answer.get("node_errors")) == (200, {}), answer
        return answer["prompt_id"]

    async def over(self, run):
        """Waits for the end of a run -> what is known of it."""
        assert await self.service.dispatcher.finished(run, PATIENCE), f"run {run} does not end"
        return await self.service.runs.get(run)

    async def until(self, test):
        """Waits until something is true -> what it is."""

        async def wait():
            while not (found := await test() if asyncio.iscoroutinefunction(test) else test()):
                await asyncio.sleep(0.01)
            return found

        return await asyncio.wait_for(wait(), PATIENCE)


def settings_of(folder, **changes):
    """Settings of a server over the small nodes."""
    engine = Settings(home=folder / "home", device="cpu", node_paths=(node_folder(folder),))
    given = {"rate": 0.0, "devices": ("cpu",), **changes}
    return replace(ServerSettings(engine=replace(engine, **given.pop("engine", {}))), **given)


@contextlib.asynccontextmanager
async def at_work(folder, **changes):
    """A whole server with its worker processes."""
    app = await make_app(settings_of(folder, **changes))
    async with TestClient(TestServer(app)) as client:
        yield Whole(client, app[SERVICE])


class Process:
    """`nodegraph serve` as a process of its own, which can be killed and started again."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.options = folder, options
        self.home = folder / "home"
        self.address = ""
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self):
        assert self._process is not None
        return self._process.pid

    def start(self):
        """Starts it, on any free port."""
        environment = {**os.environ, "PYTHONPATH": str(no_torch(self.folder)), "PYTHONUNBUFFERED": "1"}
        words = ["serve", "--port", "0", "--no-browser", "--device", "cpu", "--home", str(self.home), "--rate", "0",
                 "--node-path", str(node_folder(self.folder)), *self.options]  # fmt: skip
        with open(self.folder / "log.txt", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "nodegraph", *words], env=environment, stdout=subprocess.PIPE, stderr=log,
                text=True,
            )  # fmt: skip
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("nodegraph serves http"), f"it said {line!r}; {self.log()}"
        self.address = line.split()[-1]

    def workers(self):
        """Process ids of its workers."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return [child.pid for child in psutil.Process(self.pid).children()]
        return []

    def kill(self):
        """Ends it with SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self):
        """Asks it to end -> its exit code."""
        return self._end(signal.SIGTERM)

    def close(self):
        """Ends it and what it left."""
        if self._process is not None:
            left = self.workers()
            self.kill()
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def log(self):
        """The end of what it wrote to stderr."""
        return (self.folder / "log.txt").read_text("utf-8", "replace")[-3000:]

    def ask(self, method, path, body=None):
        """Status and JSON of a request; OSError when the connection breaks."""
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address.rstrip("/") + path, content, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")

    def _end(self, how):
        assert self._process is not None and self._process.stdout is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(how)
        code = self._process.wait(PATIENCE)
        self._process.stdout.close()
        return code
