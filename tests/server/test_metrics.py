"""Figures for Prometheus, read back by Prometheus's own parser."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from server.metrics import CLASSES, Lag, Metrics, routes
from server.service import SERVICE


def figures(text: str | bytes) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Samples by name, then by labels."""
    text = text if isinstance(text, str) else text.decode()
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return figures(metrics.render()).get(name, {}).get(tuple(sorted(labels.items())))


def event(type: str, node: str = "1", **rest: Any) -> dict[str, Any]:
    return {"type": type, "run": "r", "node": node, "class_type": "KSampler", **rest}


def test_the_events_of_a_run_are_counted_by_outcome_and_timed_by_type():
    metrics = Metrics()
    for told in (
        event("RunStarted", nodes=4), event("NodeCached", tier="memory"), event("NodeCached", "2", tier="disk"),
        event("NodeStarted", "3", why="new"), event("NodeFinished", "3", seconds=2.5, nbytes=4),
        event("NodeStarted", "4", why="new"), event("NodeFailed", "4", message="no"), event("NodeBlocked", "5"),
    ):  # fmt: skip
        metrics.take(told)
    outcomes = figures(metrics.render())["nodegraph_nodes_total"]
    assert {labels[0][1]: number for labels, number in outcomes.items()} == {
        "cached_memory": 1, "cached_disk": 1, "ran": 1, "failed": 1, "blocked": 1,
    }  # fmt: skip
    assert value(metrics, "nodegraph_cache_hits_total", tier="disk") == 1
    assert value(metrics, "nodegraph_node_seconds_sum", class_type="KSampler") == 2.5
    assert value(metrics, "nodegraph_node_seconds_bucket", class_type="KSampler", le="1.0") == 0
    assert value(metrics, "nodegraph_node_seconds_bucket", class_type="KSampler", le="5.0") == 1


def test_the_pace_of_a_sampler_is_told_by_its_type():
    metrics = Metrics()
    metrics.take(event("NodeStarted", why="new"))
    progress = {"type": "NodeProgress", "run": "r", "node": "1", "step": 1, "total": 20}
    metrics.take({**progress, "per_second": None})
    assert value(metrics, "nodegraph_steps_per_second", class_type="KSampler") is None
    metrics.take({**progress, "step": 2, "per_second": 7.5})
    assert value(metrics, "nodegraph_steps_per_second", class_type="KSampler") == 7.5


def test_progress_of_a_node_that_nobody_started_is_left():
    metrics = Metrics()
    metrics.take({"type": "NodeProgress", "run": "r", "node": "1", "step": 2, "total": 3, "per_second": 1.0})
    assert "nodegraph_steps_per_second" not in figures(metrics.render())


def test_types_beyond_the_limit_share_one_line():
    metrics = Metrics()
    for number in range(CLASSES + 5):
        metrics.take({**event("NodeFinished", seconds=1.0, nbytes=0), "class_type": f'Odd "{number}"\n'})
    counts = figures(metrics.render())["nodegraph_node_seconds_count"]
    assert len(counts) == CLASSES + 1
    assert counts[("class_type", "other"),] == 5
    assert counts[("class_type", 'Odd "0"\n'),] == 1


def test_runs_waits_and_workers():
    metrics = Metrics()
    metrics.run_over("success", 3.0, 10.0)
    metrics.run_over("cancelled", None, None)
    metrics.queue({"queued": 7, "running": 1})
    metrics.workers(["idle", "busy", "busy"])
    assert value(metrics, "nodegraph_run_wait_seconds_count") == 1
    assert value(metrics, "nodegraph_run_seconds_sum", status="success") == 10
    assert value(metrics, "nodegraph_run_seconds_count", status="cancelled") is None
    assert value(metrics, "nodegraph_runs", status="queued") == 7
    assert [value(metrics, "nodegraph_workers", state=state) for state in ("idle", "busy", "dead")] == [1, 2, 0]
    metrics.workers([])
    assert value(metrics, "nodegraph_workers", state="busy") == 0


def test_a_beat_tells_memory_and_a_death_forgets_it():
    metrics = Metrics()
    beat = {
        "is": "beat", "run": "", "device": {"free": 30, "total": 100}, "cache": {"memory_hits": 1, "disk_bytes": 9},
        "ledgers": {"cuda:0": {"used": 20, "budget": 90}, "cpu": {"used": 5, "budget": 50}},
    }  # fmt: skip
    metrics.beat("cuda:0", beat)
    assert value(metrics, "nodegraph_device_memory_used_bytes", device="cuda:0") == 70
    assert value(metrics, "nodegraph_device_memory_total_bytes", device="cuda:0") == 100
    places = {place: value(metrics, "nodegraph_cache_bytes", worker="cuda:0", place=place) for place in
              ("cuda:0", "cpu", "disk")}  # fmt: skip
    assert places == {"cuda:0": 20, "cpu": 5, "disk": 9}
    metrics.worker_died("cuda:0")
    assert value(metrics, "nodegraph_worker_deaths_total", device="cuda:0") == 1
    assert value(metrics, "nodegraph_cache_bytes", worker="cuda:0", place="cpu") is None
    metrics.beat("cuda:0", {})
    metrics.worker_died("cuda:1")
    assert value(metrics, "nodegraph_device_memory_used_bytes", device="cuda:0") is None


def test_sockets_events_and_previews_are_counted():
    metrics = Metrics()
    metrics.socket_opened()
    metrics.socket_opened()
    metrics.socket_closed()
    metrics.sent(500)
    metrics.preview_dropped()
    assert value(metrics, "nodegraph_websockets") == 1
    assert value(metrics, "nodegraph_events_sent_total") == 500
    assert value(metrics, "nodegraph_previews_dropped_total") == 1


def test_the_process_tells_its_memory():
    found = value(Metrics(), "process_resident_memory_bytes")
    assert found is not None and found > 1 << 20


def test_two_servers_in_one_process_share_nothing():
    first, second = Metrics(), Metrics()
    first.sent()
    assert value(second, "nodegraph_events_sent_total") == 0


def test_the_lag_is_the_maximum_of_the_last_minute():
    lag = Lag()
    assert lag.maximum(5.0) == 0
    for now, late in ((0.1, 0.2), (0.2, 0.9), (0.3, 0.1), (30.0, 0.4)):
        lag.add(now, late)
    assert lag.maximum(30.0) == 0.9
    assert lag.maximum(80.0) == 0.4
    assert lag.maximum(200.0) == 0


def test_the_lag_is_how_much_later_than_asked_for_the_loop_woke():
    lag, times = Lag(), iter([10.0, 10.05, 10.35, 10.40])
    naps = iter([None, None, None])

    async def sleep(_: float) -> None:
        if next(naps, "over") == "over":
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(lag.watch(lambda: next(times), sleep))
    assert lag.maximum(10.4) == pytest.approx(0.25)


def test_the_loop_is_watched_as_long_as_the_application_runs():
    async def scenario() -> tuple[bool, bool]:
        app = web.Application()
        app.cleanup_ctx.append(Metrics().watching)

        def is_watched() -> bool:
            return any(task.get_name() == "loop-lag" for task in asyncio.all_tasks())

        async with TestServer(app):
            during = is_watched()
        return during, is_watched()

    assert asyncio.run(scenario()) == (True, False)


class Runs:
    async def counts(self) -> dict[str, int]:
        return {"queued": 3, "running": 1}


class Dispatcher:
    def workers(self) -> list[Any]:
        beat = {"device": {"free": 1, "total": 4}}
        return [SimpleNamespace(name="cpu", state="busy", beat=beat), SimpleNamespace(name="x", state="dead", beat={})]


async def _ok(_: web.Request) -> web.Response:
    return web.Response()


async def _refuses(_: web.Request) -> web.Response:
    raise web.HTTPConflict


async def _breaks(_: web.Request) -> web.Response:
    raise ValueError("a bug")


async def _stream(_: web.Request) -> web.Response:
    return web.Response(body=b"", content_type="text/event-stream")


async def _socket(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.close()
    return socket


def _app(metrics: Metrics) -> web.Application:
    app = web.Application(middlewares=[metrics.middleware])
    app[SERVICE] = SimpleNamespace(metrics=metrics, runs=Runs(), dispatcher=Dispatcher())  # type: ignore[assignment]
    app.add_routes([
        *routes(), web.get("/history/{id}", _ok), web.post("/refuses", _refuses), web.get("/breaks", _breaks),
        web.get("/stream", _stream), web.get("/ws", _socket), web.route("*", "/any", _ok),
    ])  # fmt: skip
    return app


def test_requests_are_counted_by_the_template_of_their_route():
    metrics = Metrics()

    async def scenario() -> None:
        async with TestClient(TestServer(_app(metrics))) as client:
            for path in ("/history/1", "/history/2?secret=ng_1", "/breaks", "/wp-admin.php", "/stream"):
                await client.get(path)
            await client.post("/refuses")
            await client.request("PROPFIND", "/any")
            await client.ws_connect("/ws")

    asyncio.run(scenario())
    counts = figures(metrics.render())["nodegraph_http_requests_total"]
    found = {tuple(value for _, value in labels): number for labels, number in counts.items()}
    assert found == {
        ("GET", "/history/{id}", "200"): 2, ("GET", "/breaks", "500"): 1, ("GET", "unmatched", "404"): 1,
        ("GET", "/stream", "200"): 1, ("POST", "/refuses", "409"): 1, ("other", "/any", "200"): 1,
        ("GET", "/ws", "101"): 1,
    }  # fmt: skip
    timed = figures(metrics.render())["nodegraph_http_request_seconds_count"]
    routes_timed = {dict(labels)["route"]: number for labels, number in timed.items()}
    assert routes_timed == {"/history/{id}": 2, "/breaks": 1, "unmatched": 1, "/refuses": 1, "/any": 1}


@pytest.mark.parametrize("accept", ["*/*", "application/openmetrics-text; version=no; q=x", ""])
def test_prometheus_gets_the_queue_and_the_workers_as_they_are_now(accept):
    async def scenario() -> tuple[int, str, str]:
        async with TestClient(TestServer(_app(Metrics()))) as client:
            answer = await client.get("/metrics", headers={"Accept": accept})
            return answer.status, answer.headers["Content-Type"], await answer.text()

    status, content_type, text = asyncio.run(scenario())
    assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    found = figures(text)
    assert found["nodegraph_runs"][("status", "queued"),] == 3
    assert found["nodegraph_workers"][("state", "dead"),] == 1
    assert found["nodegraph_device_memory_used_bytes"] == {(("device", "cpu"),): 3}
    assert found["nodegraph_loop_lag_seconds"][()] >= 0
