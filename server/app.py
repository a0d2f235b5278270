"""The application: the parts of a server put together, and the routes over them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

from aiohttp import web

from nodegraph.errors import NodegraphError
from server import comfy, comfy_files, login, logs, metrics, userdata, v1
from server.auth import Tokens
from server.cleaning import keep_clean
from server.desk import Desk
from server.dispatcher import Dispatcher
from server.feed import Feed
from server.guard import Guard
from server.logs import LogRing, access_log
from server.metrics import Metrics
from server.runs import Runs
from server.service import SERVICE, Service, service_of
from server.settings import ServerSettings
from server.sockets import Sockets
from server.stalled import refuse_stalled
from server.store import DATABASE, Store
from server.web import Canvas, canvas_folder

COMFYUI_FRONTEND = "comfyui_frontend_package"


async def make_app(settings: ServerSettings, ring: LogRing | None = None) -> web.Application:
    """The application of a server; its parts begin to work when it starts, and end with it.

    Args:
        settings: how it is set up.
        ring: keeps the log's last lines.

    Raises:
        NodegraphError: the frontend is not installed, or a folder or the database cannot be used.
    """
    static = frontend_folder(settings)
    canvas = Canvas(canvas_folder()) if settings.frontend == "canvas" else None
    service = make_service(settings, ring or LogRing())
    app = web.Application(client_max_size=settings.max_upload, middlewares=[service.metrics.middleware, access_log])
    app[SERVICE] = service
    page = "" if static is None else (static / "index.html").read_text("utf-8")
    Guard(settings, service.tokens, page=page).install(app)
    app.middlewares.append(refuse_stalled)
    app.on_shutdown.append(_hang_up)
    app.cleanup_ctx.extend([_working, service.metrics.watching])
    app.add_routes([web.get("/healthz", _healthy), web.get("/readyz", _ready), *metrics.routes(), *login.routes()])
    app.add_routes(v1.routes())
    for route in [*comfy.routes(), *comfy_files.routes(), *userdata.routes(), *logs.routes()]:
        app.add_routes([route, web.RouteDef(route.method, f"/api{route.path}", route.handler, route.kwargs)])
    if canvas is not None:
        app.add_routes(canvas.routes())
    elif static is None:
        app.router.add_get("/", _front)
    else:

        async def index(_: web.Request) -> web.Response:
            return web.Response(text=page, content_type="text/html", headers=FRESH)

        app.router.add_get("/", index)
        app.router.add_static("/", static)
    return app


FRESH = {"Cache-Control": "no-cache"}


def make_service(settings: ServerSettings, ring: LogRing) -> Service:
    """The parts of a server, not yet at work; called on its event loop."""
    desk = Desk(settings.engine)
    store = Store(desk.folders.home / DATABASE)
    runs = Runs(store, queue_limit=settings.queue_limit, history_limit=settings.history_limit)
    feed, figures = Feed(runs), Metrics()

    async def remaining() -> int:
        return await comfy.remaining(service)

    sockets = Sockets(remaining, comfy.features(settings.max_upload), figures)
    dispatcher = Dispatcher(settings, runs, feed, desk, figures, send=sockets.send, changed=sockets.changed)
    service = Service(settings, store, desk, runs, feed, dispatcher, sockets, Tokens(store), figures, ring)
    return service


def frontend_folder(settings: ServerSettings) -> Path | None:
    """Where the files of ComfyUI's frontend are; None where it is not the chosen one.

    Raises:
        NodegraphError: it is not installed.
    """
    if settings.frontend != "comfyui":
        return None
    found = find_spec(COMFYUI_FRONTEND)
    places = [] if found is None else [Path(place) / "static" for place in found.submodule_search_locations or ()]
    folder = next((place for place in places if (place / "index.html").is_file()), None)
    if folder is None:
        raise NodegraphError(
            "ComfyUI's web frontend is not installed: pip install comfyui-frontend-package, or leave --frontend out"
        )
    return folder


async def _working(app: web.Application) -> AsyncIterator[None]:
    """The parts at work, from the start of the application to its end."""
    service = app[SERVICE]
    service.sockets.start()
    service.logs.attach(lambda clients, lines: service.sockets.tell("logs", lines, clients, scope="admin"))
    await service.dispatcher.start()
    cleaning = asyncio.create_task(keep_clean(service.desk), name="cleaning")
    yield
    cleaning.cancel()
    await asyncio.gather(cleaning, return_exceptions=True)
    await service.dispatcher.close()
    service.logs.detach()
    await asyncio.to_thread(service.desk.close)
    await asyncio.to_thread(service.store.close)


async def _hang_up(app: web.Application) -> None:
    """Ends what would never end by itself: streams and sockets."""
    app[SERVICE].feed.close()
    await app[SERVICE].sockets.close()


async def _front(_: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": "/v1/docs"})


async def _healthy(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def _ready(request: web.Request) -> web.Response:
    """200 when runs can be taken and carried out; else 503 with what is missing."""
    service = service_of(request)
    missing: list[str] = []
    if not service.desk.is_open:
        missing.append("node types are being loaded")
    if not any(worker.state in ("idle", "busy") for worker in service.dispatcher.workers()):
        missing.append("no worker is up")
    try:
        await service.runs.counts()
    except Exception as error:  # of SQLite or of the disk
        missing.append(f"the database cannot be read: {error}")
    body = {"status": "ready" if not missing else "not ready", "missing": missing}
    return web.json_response(body, status=503 if missing else 200)
