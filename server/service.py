"""What the routes of the server share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from server.settings import ServerSettings

if TYPE_CHECKING:
    from server.auth import Tokens
    from server.desk import Desk
    from server.dispatcher import Dispatcher
    from server.feed import Feed
    from server.logs import LogRing
    from server.metrics import Metrics
    from server.runs import Runs
    from server.sockets import Sockets
    from server.store import Store


@dataclass
class Service:
    """The parts of a running server.

    Attributes:
        settings: how it was set up.
        store: the database.
        desk: node types, folders and planning, off the event loop.
        runs: the queue and the history.
        feed: the events of runs under way, for whoever follows them.
        dispatcher: gives runs to workers.
        sockets: clients of ComfyUI's WebSocket.
        tokens: who may do what.
        metrics: figures for Prometheus.
        logs: the last lines of the log.
    """

    settings: ServerSettings
    store: Store
    desk: Desk
    runs: Runs
    feed: Feed
    dispatcher: Dispatcher
    sockets: Sockets
    tokens: Tokens
    metrics: Metrics
    logs: LogRing


SERVICE: web.AppKey[Service] = web.AppKey("service", Service)


def service_of(request: web.Request) -> Service:
    """The service behind a request."""
    return request.app[SERVICE]
