"""A whole server for tests of the API: all of it but the worker processes, whose part a test plays."""

from __future__ import annotations

import contextlib
import io
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohttp.test_utils import TestClient, TestServer
from PIL import Image

from nodegraph.settings import Settings
from server.app import make_app
from server.attempt import Attempt
from server.service import SERVICE, Service
from server.settings import ServerSettings

GRAPH: dict[str, Any] = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 7}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "a"}},
}
DOCUMENT: dict[str, Any] = {
    "nodegraph": 1,
    "name": "plain",
    "doc": "One colour.",
    "nodes": GRAPH,
    "inputs": {"width": {"bind": ["1.width"], "doc": "in pixels"}, "color": {"bind": ["1.color"]}},
    "outputs": {"image": "1.IMAGE"},
}


class Api:
    """A client of a server, and the server's parts."""

    def __init__(self, client: TestClient, service: Service) -> None:
        self.client, self.service = client, service

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Status and JSON, or bytes where it is none."""
        status, _, body = await self.whole(method, path, **options)
        return status, body

    async def whole(self, method: str, path: str, **options: Any) -> tuple[int, Any, Any]:
        """Status, headers and body."""
        response = await self.client.request(method, path, **options)
        is_json = response.content_type.endswith("json")
        body = await response.json(content_type=None) if is_json else await response.read()
        return response.status, response.headers, body

    async def submit(self, **body: Any) -> str:
        status, answer = await self.ask("POST", "/v1/runs", json={"workflow": DOCUMENT, **body})
        assert status == 202, answer
        return answer["id"]

    async def carry(self, status: str = "success", error: Any = None, picture: bytes | None = None) -> str:
        """Plays a worker: takes the next run, saves a picture, and ends the run -> its id."""
        service = self.service
        record = await service.runs.lease("test")
        assert record is not None, "nothing waits"
        attempt = Attempt(record, service.feed)
        attempt.order()
        attempt.start("test")
        attempt.take({"type": "NodeStarted", "run": record.id, "node": "1", "class_type": "EmptyImage", "why": "new"})
        result: dict[str, Any] = {}
        if status == "success":
            place = service.desk.folders.output / f"{record.id}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(picture or png())
            file = {"filename": place.name, "subfolder": "", "type": "output", "format": "png", "nbytes": 9}
            saved = {**file, "path": str(place)}
            attempt.take({"type": "Saved", "run": record.id, "node": "9", "file": saved, "is_cached": False})
            result = {"image": {"files": [file]}}
        await service.dispatcher._finish(attempt, status, error, result)
        return record.id


@contextlib.asynccontextmanager
async def served(home: Path, **changes: Any) -> AsyncIterator[Api]:
    """A server over a home; it listens on a free port of 127.0.0.1."""
    settings = replace(ServerSettings(engine=Settings(home=home), rate=0.0), **changes)
    app = await make_app(settings)
    app.cleanup_ctx.clear()
    service = app[SERVICE]
    try:
        async with TestClient(TestServer(app)) as client:
            yield Api(client, service)
    finally:
        service.feed.close()
        await service.desk.session()
        service.desk.close()
        service.store.close()


def png(size: tuple[int, int] = (40, 20)) -> bytes:
    """A small picture."""
    file = io.BytesIO()
    Image.new("RGB", size, (255, 0, 0)).save(file, "PNG")
    return file.getvalue()
