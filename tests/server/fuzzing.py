"""A server that is sent anything at all, everything that must not happen there, and what is sent."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import socket
import threading
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from nodegraph.lock import WORKERS
from tests.server.working import PATIENCE, at_work, n, no_torch

TIMES = int(os.environ.get("NODEGRAPH_FUZZ", "1"))
"""How many times as many examples; above 1 they are other ones each time."""

HANG = 20.0  # seconds without a byte that count as a hang
SECRET = b"the-secret-beside-the-home"
OWN = ("input", "output", "temp", "cache", "user", "workflows", "runs")  # what the server may write to below its home


WARNED = pytest.mark.filterwarnings(
    "ignore::aiohttp.BadContentDispositionHeader", "ignore::aiohttp.BadContentDispositionParam",
    "ignore:Generating overly large repr",
    "ignore:unclosed file:ResourceWarning",  # aiohttp leaves a file to the collector when its reader hangs up
)  # fmt: skip
"""Warnings that broken requests give."""


def many(count):
    """Settings for so many examples."""
    checks = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large)
    return settings(max_examples=count * TIMES, derandomize=TIMES == 1, suppress_health_check=checks)


@contextlib.contextmanager
def living(folder, **changes):
    """A `Live` server, whose workers start fast."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(no_torch(folder)))
        live = Live(folder, **changes)
        yield live
        live.close()


class Live:
    """A server at work on a thread, and what went wrong in its event loop.

    Secrets lie beside its home, in it, and behind a link in its output folder.
    """

    def __init__(self, folder, **changes):
        self.folder, self.faults = Path(folder), []
        for place in (self.folder, self.folder / "home", self.folder / "home" / "beside"):
            place.mkdir(parents=True, exist_ok=True)
            (place / "secret.txt").write_bytes(SECRET)
        (self.folder / "home" / "output").mkdir()
        (self.folder / "home" / "output" / "out").symlink_to(self.folder, target_is_directory=True)
        self._changes = {"max_upload": 4 << 20, "max_pixels": 1_000_000, "is_warm": False, **changes}
        self._ready, self._is_up = threading.Event(), False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._ear = _Ear(self.faults)
        self._thread.start()
        assert self._ready.wait(PATIENCE) and self._is_up
        secret = self.wait(self.whole.service.tokens.create("good", ["run"]))
        self._credentials = {"Content_Type": "application/json", "Authorization": f"Bearer {secret}"}
        self.good()
        self._outside = self.outside()

    async def _serve(self):
        self.loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self.loop.set_exception_handler(lambda _, context: self.faults.append(repr(context)))
        try:
            async with at_work(self.folder, **self._changes) as self.whole:
                self.port, self._is_up = self.whole.client.port, True
                self._ready.set()
                await self._over.wait()
        finally:
            self._ready.set()

    def close(self):
        """Ends the server."""
        self.loop.call_soon_threadsafe(self._over.set)
        self._thread.join(PATIENCE)
        self._ear.close()
        assert not self._thread.is_alive()

    def wait(self, coroutine):
        """What a coroutine gives on the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE)

    def send(self, content, *, is_all=True):
        """Sends bytes -> status and the whole answer; status 0 where the connection was closed without one.

        `is_all` tells the server that nothing more comes; aiohttp then hangs up.
        """
        found = bytearray()
        with socket.create_connection(("127.0.0.1", self.port), timeout=HANG) as connection:
            with contextlib.suppress(ConnectionError):  # refused while it was sent
                connection.sendall(content)
                if is_all:
                    connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while piece := connection.recv(1 << 16):
                    found += piece
        assert SECRET not in found, content[:2000]
        status = int(found[9:12]) if found.startswith(b"HTTP/1.") else 0
        assert status < 500, (content[:2000], bytes(found[:2000]))
        return status, bytes(found)

    def ask(self, method, path, body=b"", **headers):
        """Sends a request with these headers -> status and the whole answer."""
        lines = {"Host": f"127.0.0.1:{self.port}", "Connection": "close", "Content-Length": len(body), **headers}
        head = b"".join(
            name.replace("_", "-").encode() + b": " + _bytes(value) + b"\r\n" for name, value in lines.items()
        )
        status, answer = self.send(
            _bytes(method) + b" " + _bytes(path) + b" HTTP/1.1\r\n" + head + b"\r\n" + body, is_all=False
        )
        assert status, (method, path, body[:1000], headers)
        return status, answer

    def good(self):
        """Submits a good prompt, after everything else is done, and waits for its end."""
        body = {"prompt": {"1": n("Word", text="fine"), "2": n("Note", value=("1", 0))}}
        status, answer = self.ask("POST", "/prompt", text_of(body), **self._credentials)
        assert status == 200, answer
        run = json.loads(answer.partition(b"\r\n\r\n")[2])["prompt_id"]
        assert self.wait(self.whole.over(run)).status == "success"

    def outside(self):
        """Everything in the folder that no client may change, with its content."""
        found = {}
        for place, folders, names in os.walk(self.folder):
            if Path(place) == self.folder / "home":
                folders[:] = [name for name in folders if name not in OWN]
                names = [name for name in names if not name.startswith("server.sqlite")]
            folders[:] = [name for name in folders if name not in (WORKERS, "__pycache__")]
            found |= {os.path.join(place, name): Path(place, name).read_bytes() for name in names}
            found |= {os.path.join(place, name): None for name in folders}
        return found

    def sound(self):
        """Fails unless the server works as before, nothing outside was touched and nothing went wrong unseen."""
        assert self.ask("GET", "/healthz")[0] == 200
        self.good()
        now = self.outside()
        touched = [place for place in {**now, **self._outside} if now.get(place, 0) != self._outside.get(place, 0)]
        assert not touched, touched
        assert not list(self.folder.glob("home/**/*.part")), "drafts are left behind"
        faults, self.faults[:] = list(self.faults), []
        assert not faults, faults


class _Ear(logging.Handler):
    """Takes down what is logged as an error."""

    LOGS = ("asyncio", "aiohttp", "server.v1")

    def __init__(self, faults):
        super().__init__(logging.ERROR)
        self._faults = faults
        for name in self.LOGS:
            logging.getLogger(name).addHandler(self)

    def emit(self, record):
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError | web.RequestPayloadError):  # aiohttp logs broken requests so
            self._faults.append(self.format(record))

    def close(self):
        for name in self.LOGS:
            logging.getLogger(name).removeHandler(self)
        super().close()


def _bytes(value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


# What is sent


def one_of(values):
    """One of some values that may be too long to be shown."""
    return st.integers(0, len(values) - 1).map(lambda at: values[at])


TEXT = st.one_of(
    st.text(max_size=20), st.text(st.characters(), max_size=8),  # lone surrogates, too
    one_of(["", "__proto__", "constructor", "\0", "\ud800", "\u202e", "1", "-1", "1.0", "é" * 300, "../../x",
                     "9" * 5000, "NaN", "true", "null", "[1, 0]", "{}", "%s%n", "a" * 100_000]),
)  # fmt: skip
NUMBER = st.one_of(
    st.integers(), st.floats(), one_of([2**63, -(2**63) - 1, 2**64, 10**400, -1, 0, 1e308, 5e-324, -0.0])
)
LEAF = st.one_of(st.none(), st.booleans(), NUMBER, TEXT)
LINK = st.tuples(st.sampled_from(["1", "2", "3", "9", "", "__proto__"]), st.integers(-2, 3) | TEXT | st.floats())
JUNK = st.recursive(
    LEAF | LINK.map(list),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


def deep(depth, opened="[", closed="]"):
    """JSON that is nested so deep."""
    return (opened * depth + closed * depth).encode()


@st.composite
def broken(draw, value):
    """A JSON value with something in it replaced, left out, added or repeated."""
    for _ in range(draw(st.integers(1, 3))):
        value = _broken(draw, value)
    return value


def _broken(draw, value):
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 5)) == 0:
        return draw(JUNK)
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    at = draw(st.integers(0, len(items) - 1))
    key, item = items[at]
    match draw(st.sampled_from(["into", "into", "into", "into", "drop", "add", "rename"])):
        case "into":
            items[at] = (key, _broken(draw, item))
        case "drop":
            del items[at]
        case "add":
            items.append((draw(TEXT), draw(JUNK)))
        case _:
            items[at] = (draw(TEXT), item)
    return dict(items) if isinstance(value, dict) else [item for _, item in items]


def text_of(value):
    """A value as JSON as it can be, which also has NaN and lone surrogates."""
    return json.dumps(value).encode()


@st.composite
def bitten(draw, content):
    """Bytes with some of them changed, left out, repeated or cut off."""
    found = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(found)))
        match draw(st.sampled_from(["set", "cut", "drop", "insert", "repeat"])):
            case "set":
                found[at : at + 1] = draw(st.binary(min_size=1, max_size=4))
            case "cut":
                del found[at:]
            case "drop":
                del found[at : at + draw(st.integers(1, 40))]
            case "insert":
                found[at:at] = draw(st.binary(min_size=1, max_size=12))
            case _:
                found[at:at] = found[at : at + draw(st.integers(1, 200))]
    return bytes(found)


# Good documents and pictures, to be broken


GRAPH = {
    "1": n("Word", text="a"), "2": n("Steps", value=("1", 0), steps=2), "3": n("Note", value=("2", 0), prefix="p"),
    "4": n("Broken", value=("1", 0)), "5": n("Note", value=("4", 0)),
}  # fmt: skip
BODY = {
    "prompt": GRAPH, "client_id": "c", "number": 1.5, "front": False, "extra_data": {"extra_pnginfo": {"workflow": {}}},
    "partial_execution_targets": ["3"],
}  # fmt: skip
DOCUMENT = {
    "nodegraph": 1, "name": "d", "doc": "", "nodes": GRAPH, "inputs": {"text": {"bind": ["1.text"]}},
    "outputs": {"word": "2.0"}, "requires": {"models": []}, "ui": {},
}  # fmt: skip
EDITOR = {
    "id": "x", "last_node_id": 12, "last_link_id": 3, "version": 0.4, "groups": [], "config": {}, "extra": {},
    "nodes": [
        {"id": 1, "type": "EmptyImage", "mode": 0, "inputs": [], "widgets_values": [16, 16, 1, 0],
         "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}]},
        {"id": 2, "type": "Reroute", "mode": 0, "inputs": [{"name": "", "type": "*", "link": 1}],
         "outputs": [{"name": "", "type": "IMAGE", "links": [2]}]},
        {"id": 3, "type": "sub", "mode": 0, "inputs": [{"name": "in", "type": "IMAGE", "link": 2}],
         "outputs": [{"name": "out", "type": "IMAGE", "links": [3]}]},
        {"id": 4, "type": "SaveImage", "mode": 0, "inputs": [{"name": "images", "type": "IMAGE", "link": 3}],
         "widgets_values": ["a"], "outputs": []},
    ],
    "links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"], [3, 3, 0, 4, 0, "IMAGE"]],
    "definitions": {"subgraphs": [
        {"id": "sub", "name": "s", "inputNode": {"id": -10}, "outputNode": {"id": -20},
         "inputs": [{"name": "in", "type": "IMAGE"}], "outputs": [{"name": "out", "type": "IMAGE"}],
         "nodes": [{"id": 7, "type": "ImageInvert", "inputs": [{"name": "image", "type": "IMAGE", "link": 1}],
                    "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [2]}]}],
         "links": [{"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 7, "target_slot": 0, "type": "IMAGE"},
                   {"id": 2, "origin_id": 7, "origin_slot": 0, "target_id": -20, "target_slot": 0, "type": "IMAGE"}]},
    ]},
}  # fmt: skip


def png(**texts):
    """A small PNG that carries texts."""
    carried, file = PngImagePlugin.PngInfo(), io.BytesIO()
    for name, text in texts.items():
        carried.add_text(name, text)
    carried.add_itxt("more", "x", zip=True)
    Image.new("RGB", (8, 8), (1, 2, 3)).save(file, "PNG", pnginfo=carried)
    return file.getvalue()


def webp(text):
    """A small WEBP that carries a text."""
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0110] = f"prompt:{text}"
    Image.new("RGB", (8, 8), (1, 2, 3)).save(file, "WEBP", exif=exif)
    return file.getvalue()


def other(form):
    """A small picture of another format."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (1, 2, 3)).save(file, form)
    return file.getvalue()


PNG, WEBP = png(prompt=json.dumps(GRAPH), nodegraph=json.dumps(DOCUMENT)), webp(json.dumps(GRAPH))
PICTURES = (PNG, png(workflow=json.dumps(EDITOR)), WEBP, *map(other, ("JPEG", "GIF", "BMP", "TIFF")))
MUTANTS = one_of(PICTURES).flatmap(bitten)
