"""The log: its two shapes, what it keeps for clients, and what must never be in it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from server.logs import SUBSCRIBERS, LogRing, PersonFormatter, access_log, logging_to, redacted, routes
from server.service import SERVICE

SECRET = "ng_S3cret-value_0123456789abcdef"
log = logging.getLogger("server.test")


def written(ring: LogRing | None = None, *, is_structured: bool = False, level: int = logging.INFO):
    """A context that logs, and the stream it logs to."""
    stream = io.StringIO()
    return logging_to(ring or LogRing(), is_structured=is_structured, level=level, stream=stream), stream


def test_lines_for_people_have_time_level_and_logger():
    context, stream = written()
    with context:
        log.info("run %s: %s", "r1", "success")
        log.debug("not shown")
    assert stream.getvalue().endswith(" INFO server.test: run r1: success\n")
    assert stream.getvalue().count("\n") == 1


def test_structured_lines_are_json_with_the_fields_of_extra():
    context, stream = written(is_structured=True)
    with context:
        log.warning("worker %s died", "cpu", extra={"worker": "cpu", "seconds": 1.5, "odd": {"a": [1, object]}})
    (line,) = stream.getvalue().splitlines()
    found = json.loads(line)
    assert found.pop("time").endswith("Z")
    assert found == {
        "level": "WARNING", "logger": "server.test", "message": "worker cpu died", "worker": "cpu", "seconds": 1.5,
        "odd": {"a": [1, "<class 'object'>"]},
    }  # fmt: skip


def test_an_exception_is_part_of_its_line():
    context, stream = written(is_structured=True)
    with context:
        try:
            raise ValueError("no")
        except ValueError:
            log.exception("it failed")
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["exception"].endswith("ValueError: no")


@pytest.mark.parametrize(
    "text",
    [
        SECRET, f"token={SECRET}&x=1", f"x%20{SECRET}", f"x%3D{SECRET}", f"b'a\\n{SECRET}'", f"x_{SECRET}",
        "Authorization: Bearer S3cret-value", "{'Authorization': 'Basic S3cret-value'}",
        "<CIMultiDictProxy('Host': 'x', 'authorization': 'Digest S3cret-value')>",
        "((b'Authorization', b'S3cret-value'),)", '{"Authorization": "S3cret-value"}',
        '{\\"Authorization\\": \\"S3cret-value\\"}', "AUTHORIZATION=S3cret-value", "sent bearer S3cret-value",
    ],
)  # fmt: skip
def test_secrets_are_redacted_wherever_they_stand(text):
    assert "S3cret" not in redacted(text)
    assert "[redacted]" in redacted(text)


@pytest.mark.parametrize(
    "text", ["sampling_discrete_flow", "Authorization failed for alice", "a bearer of news", "ng_x"]
)
def test_other_words_are_left(text):
    assert redacted(text) == text


@pytest.mark.parametrize("is_structured", [True, False])
def test_no_secret_gets_into_a_line_by_any_way(is_structured):
    ring = LogRing()
    context, stream = written(ring, is_structured=is_structured)
    with context:
        try:
            raise PermissionError(SECRET)
        except PermissionError:
            log.exception("headers %s", {"Authorization": "Bearer " + SECRET}, extra={
                "authorization": "Basic abc-S3cret", "cookie": "S3cret", "deep": {"api_key": "S3cret"},
                "other": [SECRET],
            })  # fmt: skip
    assert "S3cret" not in stream.getvalue()
    assert "S3cret" not in str(ring.lines())
    assert "[redacted]" in stream.getvalue()


def test_a_line_cannot_pass_for_two_or_steer_the_terminal():
    context, stream = written()
    with context:
        log.info("name %s", "x\n2026-01-01 00:00:00 ERROR root: forged\x1b[2J\r")
    first, second = stream.getvalue().splitlines()
    assert second == "    2026-01-01 00:00:00 ERROR root: forged\\x1b[2J\\x0d"
    assert first.endswith("name x")


def test_a_line_whose_arguments_do_not_fit_is_not_lost():
    record = logging.makeLogRecord({"name": "x", "levelname": "INFO", "msg": "two %s %s", "args": ("one",)})
    assert PersonFormatter().format(record).endswith(" INFO x: two %s %s (its arguments cannot be shown)")


def test_loggers_are_as_before_afterwards_and_nothing_is_shown_twice():
    shown, engine = io.StringIO(), logging.getLogger("nodegraph")
    handler = logging.StreamHandler(shown)
    engine.addHandler(handler)
    try:
        before = list(logging.getLogger().handlers), logging.getLogger().level
        context, stream = written()
        with context:
            logging.getLogger("nodegraph.disk").warning("full")
        assert (list(logging.getLogger().handlers), logging.getLogger().level) == before
        assert handler in engine.handlers
        assert (stream.getvalue().count("full"), shown.getvalue()) == (1, "")
    finally:
        engine.removeHandler(handler)


def test_the_ring_keeps_the_last_lines():
    ring = LogRing(limit=3)
    context, _ = written(ring)
    with context:
        for number in range(5):
            log.info("line %d", number)
    assert [line.m.rpartition(": ")[2] for line in ring.lines()] == ["line 2\n", "line 3\n", "line 4\n"]
    assert ring.lines()[0].t.endswith("+00:00")


def test_subscribers_are_told_lines_of_every_thread_on_the_loop():
    told: list[tuple[frozenset[str], list[str]]] = []

    async def scenario() -> None:
        ring, news = LogRing(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def on_line(clients: frozenset[str], message: dict[str, Any]) -> None:
            assert asyncio.get_running_loop() is loop
            assert set(message["size"]) == {"cols", "rows"}
            told.append((clients, [entry["m"].rpartition(": ")[2] for entry in message["entries"]]))
            news.set()

        ring.attach(on_line)
        context, _ = written(ring)
        with context:
            log.info("before anybody listens")
            ring.subscribe("a", True)
            ring.subscribe("b", True)
            await asyncio.to_thread(lambda: [log.info("one"), log.info("two")])
            await asyncio.wait_for(news.wait(), 20)
            ring.subscribe("a", False)
            ring.subscribe("b", False)
            log.info("after")
            await asyncio.sleep(0)

    asyncio.run(scenario())
    assert {clients for clients, _ in told} == {frozenset({"a", "b"})}
    assert [line for _, lines in told for line in lines] == ["one\n", "two\n"]


def test_a_log_after_the_loop_is_closed_is_only_kept():
    ring = LogRing()

    async def scenario() -> None:
        ring.attach(lambda clients, message: None)
        ring.subscribe("a", True)

    asyncio.run(scenario())
    context, _ = written(ring)
    with context:
        log.info("late")
    assert len(ring.lines()) == 1


def test_of_too_many_subscribers_the_oldest_is_dropped():
    told: list[frozenset[str]] = []

    async def scenario() -> None:
        ring = LogRing()
        ring.attach(lambda clients, message: told.append(clients))
        for number in range(SUBSCRIBERS + 1):
            ring.subscribe(str(number), True)
        context, _ = written(ring)
        with context:
            log.info("x")
            await asyncio.sleep(0)

    asyncio.run(scenario())
    assert len(told[0]) == SUBSCRIBERS and "0" not in told[0]


async def _prompt(request: web.Request) -> web.Response:
    request["caller"] = SimpleNamespace(name="alice")
    return web.Response(headers={"Nodegraph-Run": "1234-abcd"})


async def _run(_: web.Request) -> web.Response:
    return web.Response()


async def _fails(_: web.Request) -> web.Response:
    raise web.HTTPForbidden


def _app(ring: LogRing) -> web.Application:
    app = web.Application(middlewares=[access_log])
    app[SERVICE] = SimpleNamespace(logs=ring)  # type: ignore[assignment]
    paths = [web.post("/prompt", _prompt), web.delete("/v1/runs/{id}", _run), web.delete("/no", _fails)]
    app.add_routes([*routes(), *paths])
    return app


def answers(ring: LogRing, *requests: tuple[str, str, dict[str, Any]]) -> list[tuple[int, str]]:
    async def scenario() -> list[tuple[int, str]]:
        async with TestClient(TestServer(_app(ring))) as client:
            found: list[tuple[int, str]] = []
            for method, path, rest in requests:
                answer = await client.request(method, path, **rest)
                found.append((answer.status, await answer.text()))
            return found

    return asyncio.run(scenario())


@pytest.mark.filterwarnings("ignore:It is recommended to use web.RequestKey")
def test_changes_are_logged_without_their_query():
    context, stream = written(is_structured=True, level=logging.DEBUG)
    with context:
        answers(
            LogRing(), ("POST", "/prompt?token=abc", {}), ("DELETE", "/v1/runs/42", {}),
            ("DELETE", "/v1/runs/a%0AERROR", {}), ("DELETE", "/no", {}),
        )  # fmt: skip
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    lines = [line for line in lines if line["logger"] == "server.logs"]
    assert [line.pop("ms") >= 0 for line in lines] == [True] * 4
    facts = [
        {key: line[key] for key in ("method", "route", "status", "caller", "run") if key in line} for line in lines
    ]
    assert facts == [
        {"method": "POST", "route": "/prompt", "status": 200, "caller": "alice", "run": "1234-abcd"},
        {"method": "DELETE", "route": "/v1/runs/{id}", "status": 200, "run": "42"},
        {"method": "DELETE", "route": "/v1/runs/{id}", "status": 200},
        {"method": "DELETE", "route": "/no", "status": 403},
    ]
    assert 'abc"' not in stream.getvalue() and "token" not in stream.getvalue()
    assert lines[0]["message"].startswith("POST /prompt 200 ")
    assert lines[0]["message"].endswith(" ms by alice run 1234-abcd")


def test_changes_are_told_and_submissions_only_where_they_are_refused():
    context, stream = written(level=logging.INFO)
    with context:
        answers(LogRing(), ("POST", "/prompt", {}), ("DELETE", "/v1/runs/42", {}), ("DELETE", "/no", {}))
    assert [line.split()[3:6] for line in stream.getvalue().splitlines()] == [
        ["server.logs:", "DELETE", "/v1/runs/{id}"], ["server.logs:", "DELETE", "/no"],
    ]  # fmt: skip


def test_reads_are_logged_at_debug():
    context, stream = written(level=logging.DEBUG)
    with context:
        answers(LogRing(), ("GET", "/nowhere", {}))
    assert "DEBUG server.logs: GET unmatched 404 " in stream.getvalue()


def test_comfyuis_clients_read_the_log():
    ring = LogRing()
    context, _ = written(ring)
    with context:
        log.info("hello")
        (status, text), (_, raw) = answers(ring, ("GET", "/internal/logs", {}), ("GET", "/internal/logs/raw", {}))
    assert status == 200
    assert json.loads(text).splitlines()[0].endswith("INFO server.test: hello")
    found = json.loads(raw)
    assert found["entries"][0]["m"].endswith("server.test: hello\n")
    assert set(found["size"]) == {"cols", "rows"}


def test_a_client_subscribes_and_what_is_no_subscription_is_refused_in_words():
    told: list[frozenset[str]] = []

    async def scenario() -> list[int]:
        ring = LogRing()
        ring.attach(lambda clients, message: told.append(clients))
        async with TestClient(TestServer(_app(ring))) as client:
            path, found = "/internal/logs/subscribe", list[int]()
            for body in (
                b"[" * 100_000,
                b"no",
                b'{"clientId": 3, "enabled": true}',
                b'{"clientId":"", "enabled":true}',
            ):
                answer = await client.patch(path, data=body)
                found.append(answer.status)
                assert "expected" in (await answer.json())["error"]
            answer = await client.patch(path, json={"clientId": "abc", "enabled": True})
            found.append(answer.status)
            context, _ = written(ring)
            with context:
                log.info("news")
                await asyncio.sleep(0)
            return found

    assert asyncio.run(scenario()) == [400, 400, 400, 400, 200]
    assert told == [frozenset({"abc"})]
