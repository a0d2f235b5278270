"""Operations: one place reads requests, and every error has one shape."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Annotated

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from pydantic import Field

from nodegraph.errors import FileProblem, Kind, NodegraphError, Problem, StorageError, WorkflowError
from server.auth import Caller
from server.files import BadName, Taken, TooLarge
from server.problems import Refusal, View
from server.runs import KeyReused, QueueFull
from server.service import SERVICE
from server.v1.operation import Answer, Call, operation, routes_of
from server.v1.reading import WHOLE, Body, Flag, Parameters


class Thing(Body):
    name: str = Field(max_length=5)
    size: int = Field(default=1, ge=1, le=9)


class Place(Parameters):
    id: str = Field(pattern="^[a-z]+$")


class Which(Parameters):
    limit: Annotated[int, Field(ge=1, le=9), WHOLE] = 5
    tags: list[str] = Field(default=[], max_length=2)
    deep: Flag = False


class Heads(Parameters):
    key: str | None = Field(default=None, alias="X-Key", max_length=3)


class Echo(View):
    text: str


@operation("POST", "/v1/things/{id}", tag="t", scope="run", answers={201: Answer("made", Echo)})
async def make(call: Call, *, path: Place, query: Which, headers: Heads, body: Thing) -> Echo:
    """Makes a thing.

    And says so.
    """
    return Echo(text=f"{path.id} {query.limit} {query.tags} {query.deep} {headers.key} {body.name} {body.size}")


ERRORS: dict[str, Exception] = {}


@operation("GET", "/v1/fail/{id}", tag="t", scope="run", answers={200: Answer("never", Echo)})
async def fail(call: Call, *, path: Place) -> Echo:
    raise ERRORS[path.id]


@operation("DELETE", "/v1/things/{id}", tag="t", scope="admin", answers={204: Answer("gone")})
async def remove(call: Call, *, path: Place) -> None:
    return None


def asked(method, path, scopes=("edit",), **options):
    """What a small application answers: status, headers, body."""

    @web.middleware
    async def let_in(request, handler):
        request["caller"] = Caller("me", frozenset(scopes))
        return await handler(request)

    async def do(function, *args):
        return function(*args)

    async def ask():
        app = web.Application(middlewares=[let_in], client_max_size=100_000)
        app[SERVICE] = SimpleNamespace(desk=SimpleNamespace(do=do))
        app.add_routes(routes_of([make, fail, remove], "/v1"))
        async with TestClient(TestServer(app)) as client:
            response = await client.request(method, path, **options)
            is_json = response.content_type.endswith("json")
            return response.status, response.headers, await response.json(content_type=None) if is_json else None

    return asyncio.run(ask())


def problem(status, sort, answer):
    found, headers, body = answer
    assert (found, headers["Content-Type"]) == (status, "application/problem+json; charset=utf-8")
    assert (body["status"], body["type"]) == (status, f"/v1/docs#problem-{sort}")
    return body


def test_a_request_is_read_by_the_models_of_the_function():
    status, _, body = asked(
        "POST", "/v1/things/abc?limit=7&tags=x&tags=y&deep=true", json={"name": "n"}, headers={"X-Key": "k"}
    )
    assert (status, body) == (201, {"text": "abc 7 ['x', 'y'] True k n 1"})


def test_an_operation_tells_what_its_function_says_of_itself():
    assert (make.name, make.summary, make.doc) == ("make", "Makes a thing", "And says so.")
    assert make.problems == (400, 401, 403, 413, 415, 422, 429)
    assert remove.problems == (401, 403, 422, 429)


@pytest.mark.parametrize(
    ("path", "body", "where", "word"),
    [
        ("/v1/things/ABC", {"name": "n"}, "path.id", "pattern"),
        ("/v1/things/a?limit=10", {"name": "n"}, "query.limit", "9"),
        ("/v1/things/a?limit=1.0", {"name": "n"}, "query.limit", "whole number"),
        ("/v1/things/a?limit=%C2%B2", {"name": "n"}, "query.limit", "whole number"),
        ("/v1/things/a?deep=yes", {"name": "n"}, "query.deep", "true or false"),
        ("/v1/things/a?tags=1&tags=2&tags=3", {"name": "n"}, "query.tags", "at most 2"),
        ("/v1/things/a", {"name": "n", "size": 10}, "body.size", "9"),
        ("/v1/things/a", {"name": "n", "size": "3"}, "body.size", "integer"),
        ("/v1/things/a", {"name": "n", "size": True}, "body.size", "integer"),
        ("/v1/things/a", {}, "body.name", "required"),
        ("/v1/things/a", [], "body", "valid"),
    ],
)
def test_what_does_not_fit_is_named(path, body, where, word):
    found = problem(422, "invalid", asked("POST", path, json=body))
    assert [fault["where"] for fault in found["problems"]] == [where]
    assert word in found["detail"] and found["detail"].startswith(where)


def test_every_misfit_is_told_at_once_and_a_misspelt_name_has_its_fix():
    found = problem(422, "invalid", asked("POST", "/v1/things/a", json={"name": "too long", "siez": 1}))
    assert [(fault["where"], fault.get("fix")) for fault in found["problems"]] == [
        ("body.name", None),
        ("body.siez", "did you mean 'size'?"),
    ]
    found = problem(422, "invalid", asked("POST", "/v1/things/a?limti=1", json={"name": "n"}))
    assert found["detail"] == "query.limti: it is not known; expected limit, tags, deep; did you mean 'limit'?"


def test_a_parameter_given_twice_is_refused():
    found = problem(422, "invalid", asked("POST", "/v1/things/a?limit=1&limit=2", json={"name": "n"}))
    assert found["detail"] == "query.limit: it is given 2 times; expected once"


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"{", "line 1, column 2"),
        (b'{"name": "a", "name": "b"}', "twice"),
        (b'{"name": NaN}', "NaN"),
        (b'{"name": 1e999}', "too large"),
        (b'{"name": "\\ud800"}', "surrogate"),
        (b"\xff\xfe", "UTF-8"),
        (b"[" * 90_000, "nested"),
    ],
)
def test_a_body_that_is_no_json_is_malformed(body, word):
    answer = asked("POST", "/v1/things/a", data=body, headers={"Content-Type": "application/json"})
    assert word in problem(400, "malformed", answer)["detail"]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_body_that_is_not_what_its_encoding_says_is_malformed(coding):
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    answer = asked("POST", "/v1/things/a", data=b'{"name": "n"}', headers=headers)
    assert "Content-Encoding" in problem(400, "malformed", answer)["detail"]


def test_bodies_of_other_types_or_sizes_are_refused():
    answer = asked("POST", "/v1/things/a", data=b"a", headers={"Content-Type": "text/csv"})
    assert "'text/csv' is not read here; expected application/json" in problem(415, "media-type", answer)["detail"]
    problem(413, "too-large", asked("POST", "/v1/things/a", json={"name": "n" * 200_000}))


def test_a_method_or_an_address_that_is_not_there_has_the_same_shape():
    answer = asked("PATCH", "/v1/things/a")
    assert "expected DELETE, POST" in problem(405, "method", answer)["detail"]
    assert answer[1]["Allow"] == "DELETE, POST"
    problem(404, "not-found", asked("GET", "/v1/nothing/here"))
    problem(404, "not-found", asked("GET", "/v1"))


def test_the_scope_is_checked():
    assert "'admin'" in problem(403, "forbidden", asked("DELETE", "/v1/things/a"))["detail"]
    assert asked("DELETE", "/v1/things/a", scopes=["admin"])[0] == 204


@pytest.mark.parametrize(
    ("error", "status", "sort"),
    [
        (FileProblem("none"), 404, "not-found"),
        (BadName("bad"), 422, "invalid"),
        (Taken("taken"), 409, "conflict"),
        (TooLarge("large"), 413, "too-large"),
        (KeyReused("again"), 409, "key-reused"),
        (StorageError("full"), 507, "storage"),
        (NodegraphError("odd"), 422, "invalid"),
        (Refusal("stale", "old", run="r"), 412, "stale"),
        (ValueError("a fault of ours"), 500, "fault"),
    ],
)
def test_each_error_has_its_status(error, status, sort):
    ERRORS["x"] = error
    found = problem(status, sort, asked("GET", "/v1/fail/x"))
    assert "a fault of ours" not in found["detail"]
    assert found.get("run") == ("r" if sort == "stale" else None)


def test_a_full_queue_says_when_to_come_again():
    ERRORS["x"] = QueueFull("full")
    answer = asked("GET", "/v1/fail/x")
    problem(429, "busy", answer)
    assert int(answer[1]["Retry-After"]) > 0


def test_problems_of_a_workflow_come_one_by_one():
    wrong = Problem("'eulr' is unknown", "3", "KSampler", "sampler_name", "a sampler", "did you mean 'euler'?")
    absent = Problem("'x' is not among the loras", "4", "Lora", "name", kind=Kind.MISSING_MODEL)
    ERRORS["x"] = WorkflowError([wrong, absent])
    found = problem(422, "workflow", asked("GET", "/v1/fail/x"))
    assert found["problems"][0] == {
        "where": "node 3 (KSampler) sampler_name", "what": "'eulr' is unknown", "expected": "a sampler",
        "fix": "did you mean 'euler'?", "node": "3", "class_type": "KSampler", "input": "sampler_name",
        "type": "invalid", "kind": "invalid",
    }  # fmt: skip
    ERRORS["x"] = WorkflowError([absent])
    assert problem(422, "missing", asked("GET", "/v1/fail/x"))["problems"][0]["kind"] == "missing_model"
