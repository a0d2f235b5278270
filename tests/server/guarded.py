"""A small application behind the guard, for its tests and those of the login page."""

from __future__ import annotations

from contextlib import asynccontextmanager

from aiohttp import CookieJar, web
from aiohttp.test_utils import TestClient, TestServer

from server import login
from server.auth import Tokens
from server.guard import Guard
from server.settings import ServerSettings
from server.store import Store


class Clock:
    """Seconds that stand still until a test moves them."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


async def _whoami(request):
    caller = request["caller"]
    return web.json_response({"name": caller.name, "may": [s for s in ("run", "edit", "admin") if caller.may(s)]})


async def _length(request):
    return web.json_response(len(await request.read()))


async def _limit(request):
    return web.json_response(request.client_max_size)


async def _socket(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


async def _conflict(_):
    raise web.HTTPConflict(text="mine alone")


class Place:
    """A client of the small application, with its tokens and its clock."""

    def __init__(self, client, tokens, clock):
        self.client, self.tokens, self.clock = client, tokens, clock

    @property
    def own(self):
        """The origin of the server."""
        return f"http://127.0.0.1:{self.client.port}"

    async def ask(self, method, path, token=None, **rest):
        """A request -> its status; redirects are not followed."""
        headers = {**rest.pop("headers", {}), **({"Authorization": f"Bearer {token}"} if token else {})}
        async with self.client.request(method, path, headers=headers, allow_redirects=False, **rest) as answer:
            await answer.read()
            return answer


@asynccontextmanager
async def serving(folder, page="", **settings):
    """The small application, served on a free port."""

    async def view(_):
        return web.FileResponse(folder / "picture.txt")

    store, clock = Store(folder / "server.sqlite"), Clock()
    (folder / "picture.txt").write_text("a picture")
    try:
        tokens = Tokens(store, clock)
        app = web.Application()
        Guard(ServerSettings(**settings), tokens, clock=clock, page=page).install(app)
        app.add_routes(login.routes())
        for path in ("/whoami", "/v1/whoami", "/healthz", "/api/whoami"):
            app.router.add_get(path, _whoami)
        for path in ("/prompt", "/free", "/v1/runs", "/settings", "/v1/tokens/{name}", "/v1/workflows/{name}"):
            app.router.add_post(path, _length)
        app.router.add_delete("/v1/runs", _whoami)
        app.router.add_post("/upload/image", _limit)
        app.router.add_get("/ws", _socket)
        app.router.add_get("/conflict", _conflict)
        app.router.add_get("/view", view)
        async with TestClient(TestServer(app), cookie_jar=CookieJar(unsafe=True)) as client:
            yield Place(client, tokens, clock)
    finally:
        store.close()
