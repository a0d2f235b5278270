"""Figures for Prometheus: the queue, nodes, caches, devices, requests and the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

from aiohttp import hdrs, web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from server.service import service_of

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
CLASSES = 300  # node types that have figures of their own; the others share one line
OTHER = "other"
STARTED = 10_000  # nodes under way whose type is remembered
WAIT_SECONDS = (0.01, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400)
RUN_SECONDS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400)
NODE_SECONDS = (0.01, 0.1, 0.5, 1, 5, 30, 120, 600)
REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)
LAG_WINDOW = 60  # seconds
LAG_STEP = 0.05
CLIENT_GONE = 499  # nginx's word for a client that left before the answer
WORKER_STATES = ("starting", "idle", "busy", "dead")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Note = Callable[[int, "web.StreamResponse | None", float], None]


class Metrics:
    """The figures of one server, in a registry of their own. Told on the event loop; `render` runs on any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.lag = Lag()
        self._classes: set[str] = set()
        self._started: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._places: dict[str, set[str]] = {}
        self._make_work_figures()
        self._make_device_figures()
        self._make_service_figures()

    def _make_work_figures(self) -> None:
        here = self.registry
        self._runs = Gauge("nodegraph_runs", "Runs by status; queued is the queue's depth.", ["status"], registry=here)
        self._wait = Histogram(
            "nodegraph_run_wait_seconds", "Time from submission to start.", buckets=WAIT_SECONDS, registry=here
        )
        self._run = Histogram(
            "nodegraph_run_seconds", "Time from start to end.", ["status"], buckets=RUN_SECONDS, registry=here
        )
        self._node = Histogram(
            "nodegraph_node_seconds", "Time nodes took.", ["class_type"], buckets=NODE_SECONDS, registry=here
        )
        self._nodes = Counter(
            "nodegraph_nodes", "Nodes by outcome: ran, cached_memory, cached_disk, failed, blocked.", ["outcome"],
            registry=here,
        )  # fmt: skip
        self._hits = Counter("nodegraph_cache_hits", "Results at hand, by tier.", ["tier"], registry=here)
        self._pace = Gauge(
            "nodegraph_steps_per_second", "Newest pace of nodes that step, such as samplers.", ["class_type"],
            registry=here,
        )  # fmt: skip

    def _make_device_figures(self) -> None:
        here = self.registry
        self._cache = Gauge(
            "nodegraph_cache_bytes", "Models and results held by a worker; place is a device or disk.",
            ["worker", "place"], registry=here,
        )  # fmt: skip
        self._used = Gauge(
            "nodegraph_device_memory_used_bytes", "Memory in use on a worker's device.", ["device"], registry=here
        )
        self._total = Gauge(
            "nodegraph_device_memory_total_bytes", "Memory of a worker's device.", ["device"], registry=here
        )
        self._workers = Gauge("nodegraph_workers", "Workers by state.", ["state"], registry=here)
        self._deaths = Counter("nodegraph_worker_deaths", "Workers that died or hung.", ["device"], registry=here)

    def _make_service_figures(self) -> None:
        here = self.registry
        self._requests = Counter(
            "nodegraph_http_requests", "Requests answered.", ["method", "route", "status"], registry=here
        )
        self._request_seconds = Histogram(
            "nodegraph_http_request_seconds", "Time to answer; streams are left out.", ["method", "route"],
            buckets=REQUEST_SECONDS, registry=here,
        )  # fmt: skip
        self._sockets = Gauge("nodegraph_websockets", "Open WebSockets.", registry=here)
        self._sent = Counter("nodegraph_events_sent", "Events sent to clients.", registry=here)
        self._dropped = Counter("nodegraph_previews_dropped", "Previews a slow client did not get.", registry=here)
        self._lag = Gauge(
            "nodegraph_loop_lag_seconds", "The longest the event loop was late in the last minute.", registry=here
        )
        if sys.platform == "linux":
            ProcessCollector(registry=here)
        else:
            memory = Gauge("process_resident_memory_bytes", "Resident memory size in bytes.", registry=here)
            memory.set_function(_resident_bytes)

    def take(self, event: Mapping[str, Any]) -> None:
        """Counts an event of the engine; types it does not know are left."""
        match event.get("type"):
            case "NodeStarted":
                self._started[event["run"], event["node"]] = event["class_type"]
                while len(self._started) > STARTED:
                    self._started.popitem(last=False)
            case "NodeProgress":
                class_type = self._started.get((event["run"], event["node"]))
                if class_type is not None and event.get("per_second") is not None:
                    self._pace.labels(self._label(class_type)).set(event["per_second"])
            case "NodeFinished":
                self._started.pop((event["run"], event["node"]), None)
                self._nodes.labels("ran").inc()
                self._node.labels(self._label(event["class_type"])).observe(event["seconds"])
            case "NodeCached":
                self._nodes.labels(f"cached_{event['tier']}").inc()
                self._hits.labels(event["tier"]).inc()
            case "NodeFailed":
                self._started.pop((event["run"], event["node"]), None)
                self._nodes.labels("failed").inc()
            case "NodeBlocked":
                self._nodes.labels("blocked").inc()
            case _:
                pass

    def run_over(self, record_status: str, wait_seconds: float | None, run_seconds: float | None) -> None:
        """Counts a run that is over; a time is None when it never started."""
        if wait_seconds is not None:
            self._wait.observe(wait_seconds)
        if run_seconds is not None:
            self._run.labels(record_status).observe(run_seconds)

    def beat(self, worker: str, memory: Mapping[str, Any]) -> None:
        """Takes what a worker told of its memory.

        Args:
            worker: its name, which is its device's.
            memory: a worker's `beat`: `device` {free, total}, `ledgers` {device: {used}}, `cache` {disk_bytes}.
        """
        device: Mapping[str, int] = memory.get("device") or {}
        if device.get("total"):
            self._used.labels(worker).set(device["total"] - device.get("free", 0))
            self._total.labels(worker).set(device["total"])
        held: Mapping[str, Mapping[str, int]] = memory.get("ledgers") or {}
        for place, figures in held.items():
            self._hold(worker, place, figures.get("used", 0))
        cache: Mapping[str, int] = memory.get("cache") or {}
        if "disk_bytes" in cache:
            self._hold(worker, "disk", cache["disk_bytes"])

    def worker_died(self, device: str) -> None:
        """Counts a worker that died, and forgets what it held."""
        self._deaths.labels(device).inc()
        for place in self._places.pop(device, ()):
            self._cache.remove(device, place)
        with contextlib.suppress(KeyError):  # older prometheus_client, of a worker whose memory was never asked for
            self._used.remove(device)

    def queue(self, counts: Mapping[str, int]) -> None:
        """Takes the number of runs of each status."""
        for status, number in counts.items():
            self._runs.labels(status).set(number)

    def workers(self, states: Iterable[str]) -> None:
        """Takes the state of each worker."""
        found = list(states)
        for state in WORKER_STATES:
            self._workers.labels(state).set(found.count(state))

    def socket_opened(self) -> None:
        """A WebSocket was opened."""
        self._sockets.inc()

    def socket_closed(self) -> None:
        """A WebSocket was closed."""
        self._sockets.dec()

    def sent(self, number: int = 1) -> None:
        """Counts events sent to clients, one for each client."""
        self._sent.inc(number)

    def preview_dropped(self, number: int = 1) -> None:
        """Counts previews that a client was too slow for."""
        self._dropped.inc(number)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Counts and times requests by the template of their route."""

        def note(status: int, response: web.StreamResponse | None, seconds: float) -> None:
            method = request.method if request.method in hdrs.METH_ALL else OTHER
            route = route_of(request)
            self._requests.labels(method, route, str(status)).inc()
            if response is None or not (status == 101 or response.content_type == "text/event-stream"):
                self._request_seconds.labels(method, route).observe(seconds)

        return await observed(request, handler, note)

    async def watching(self, _: web.Application) -> AsyncIterator[None]:
        """Measures the event loop while an application runs; for its `cleanup_ctx`."""
        task = asyncio.create_task(self.lag.watch(), name="loop-lag")
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    def render(self) -> bytes:
        """All figures in Prometheus's text format."""
        self._lag.set(self.lag.maximum(time.monotonic()))
        return generate_latest(self.registry)

    def _hold(self, worker: str, place: str, nbytes: int) -> None:
        self._places.setdefault(worker, set()).add(place)
        self._cache.labels(worker, place).set(nbytes)

    def _label(self, class_type: str) -> str:
        """The type itself for the first types met, so that strange workflows cannot fill the memory with labels."""
        if class_type not in self._classes:
            if len(self._classes) >= CLASSES:
                return OTHER
            self._classes.add(class_type)
        return class_type


class Lag:
    """How late the event loop was, by second, for as long as the window."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, float]] = deque(maxlen=LAG_WINDOW + 1)

    def add(self, now: float, late: float) -> None:
        """Notes that at `now` the loop was `late`, both in seconds."""
        second = int(now)
        if self._seconds and self._seconds[-1][0] == second:
            late = max(late, self._seconds.pop()[1])
        self._seconds.append((second, late))

    def maximum(self, now: float) -> float:
        """The longest it was late in the window before `now`."""
        return max((late for second, late in list(self._seconds) if second > now - LAG_WINDOW - 1), default=0.0)

    async def watch(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep
    ) -> None:
        """Measures until it is cancelled: how much later than asked for a sleep ends."""
        before = clock()
        while True:
            await sleep(LAG_STEP)
            now = clock()
            self.add(now, max(0.0, now - before - LAG_STEP))
            before = now


async def observed(request: web.Request, handler: Handler, note: Note) -> web.StreamResponse:
    """Answers a request, and tells how: its status, the answer where no exception stands for it, and seconds."""
    start, status, response = time.perf_counter(), 500, None
    try:
        response = await handler(request)
        status = response.status
        return response
    except web.HTTPException as error:
        status = error.status
        raise
    except asyncio.CancelledError:
        status = CLIENT_GONE
        raise
    finally:
        note(status, response, time.perf_counter() - start)


def route_of(request: web.Request) -> str:
    """The template of a request's route, such as `/history/{id}`; `unmatched` when no route took it."""
    resource = request.match_info.route.resource
    return "unmatched" if resource is None else resource.canonical


def routes() -> list[web.RouteDef]:
    """GET /metrics."""
    return [web.get("/metrics", _metrics)]


async def _metrics(request: web.Request) -> web.Response:
    service = service_of(request)
    metrics = service.metrics
    metrics.queue(await service.runs.counts())
    workers = service.dispatcher.workers()
    metrics.workers(worker.state for worker in workers)
    for worker in workers:
        if worker.state in ("idle", "busy"):
            metrics.beat(worker.name, worker.beat)
    # Not on the desk's threads: the figures are wanted most when those are all busy.
    body = await asyncio.to_thread(metrics.render)
    return web.Response(body=body, headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})


def _resident_bytes() -> float:
    import psutil

    return float(psutil.Process().memory_info().rss)
