"""Operations: one table that says what each reads and answers. The routes and the OpenAPI document come from it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_type_hints

from aiohttp import web
from pydantic import BaseModel

from server.problems import Refusal, refusal_of
from server.service import Service, service_of
from server.v1.reading import read_body, read_headers, read_path, read_query

if TYPE_CHECKING:
    from server.auth import Caller

log = logging.getLogger(__name__)
Function = Callable[..., Awaitable[Any]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Model = type[BaseModel]
ALWAYS = (401, 403, 422, 429)  # what every operation may answer: the guard's, and query parameters that are not known
WITH_BODY = (400, 413, 415)
PARTS = ("path", "query", "headers", "body")


class Answer(NamedTuple):
    """What an operation answers with a status.

    Attributes:
        doc: in words.
        model: the JSON of the body; None for no JSON.
        media: further content types, whose body is bytes.
        headers: further headers, with what they say.
    """

    doc: str
    model: Any = None
    media: tuple[str, ...] = ()
    headers: Mapping[str, str] = {}


class Reply(NamedTuple):
    """An answer with more than a body: a status other than the first, or headers."""

    model: BaseModel | None
    status: int
    headers: Mapping[str, str] = {}


@dataclass(frozen=True)
class Call:
    """A request as an operation's function sees it."""

    request: web.Request
    service: Service
    caller: Caller


@dataclass(frozen=True, eq=False)
class Operation:
    """A method and a path, and all there is to know of it.

    Attributes:
        name: its id, and the function's name.
        method, path: as OpenAPI has them; `{path:.+}` also takes slashes.
        tag: the group it is shown in.
        scope: what the caller's token must have.
        function: called with a `Call`, and with the models it names `path`, `query`, `headers` and `body`.
        parts: those models, by these names.
        form: what the multipart form holds, where one is taken in place of JSON.
        answers: by status; the first is the status of a plain result.
        problems: statuses of errors it may answer, with those every operation has.
        is_head: a HEAD request is answered as well.
    """

    name: str
    method: str
    path: str
    tag: str
    scope: str
    function: Function
    parts: Mapping[str, Model]
    form: Model | None
    answers: Mapping[int, Answer]
    problems: tuple[int, ...]
    is_head: bool = field(default=False)

    @property
    def summary(self) -> str:
        """One line."""
        return self._doc.partition("\n")[0].rstrip(".")

    @property
    def doc(self) -> str:
        """The rest of what is to be said."""
        return self._doc.partition("\n")[2].strip()

    @property
    def _doc(self) -> str:
        return inspect.cleandoc(self.function.__doc__ or self.name)

    def route(self) -> list[web.RouteDef]:
        """Its routes."""
        handler = self.handler()
        options = {"allow_head": self.is_head} if self.method == "GET" else {}
        return [web.route(self.method, self.path, handler, **options)]

    def handler(self) -> Handler:
        """Reads and checks a request, calls the function, and answers."""

        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                return await self._answered(request)
            except (asyncio.CancelledError, ConnectionResetError):
                raise
            except Exception as error:  # every error has one shape here
                refusal = refusal_of(error)
                if refusal.sort == "fault":
                    log.error("%s failed: %s", self.name, type(error).__name__)
                return refusal.response()

        return handle

    async def _answered(self, request: web.Request) -> web.StreamResponse:
        caller: Caller = request["caller"]
        if not caller.may(self.scope):
            raise Refusal("forbidden", f"this needs the scope {self.scope!r}; use a token that has it")
        call = Call(request, service_of(request), caller)
        given: dict[str, Any] = {"query": read_query(request, self.parts.get("query"))}
        if "path" in self.parts:
            given["path"] = read_path(request, self.parts["path"])
        if "headers" in self.parts:
            given["headers"] = read_headers(request, self.parts["headers"])
        if "body" in self.parts or self.form:
            given["body"] = await read_body(request, self.parts.get("body"), self.form is not None)
        wanted = {name: value for name, value in given.items() if name in self.parts}
        return self._respond(await self.function(call, **wanted))

    def _respond(self, result: Any) -> web.StreamResponse:
        if isinstance(result, web.StreamResponse):
            return result
        model, status, headers = result if isinstance(result, Reply) else Reply(result, next(iter(self.answers)))
        if model is None:
            return web.Response(status=status, headers=headers)
        return web.Response(
            status=status, text=model.model_dump_json(by_alias=True), content_type="application/json", headers=headers
        )


def operation(
    method: str, path: str, *, tag: str, scope: str, answers: Mapping[int, Answer], problems: Sequence[int] = (),
    form: Model | None = None, is_stream: bool = False,
) -> Callable[[Function], Operation]:  # fmt: skip
    """Declares a function as an operation; its docstring and the models of its parameters are read from it.

    Args:
        method: in capitals.
        path: with `{name}` for each path parameter.
        tag: the group it is shown in.
        scope: `run`, `edit` or `admin`.
        answers: what it answers when all is well; the first is what a plain result becomes.
        problems: statuses of errors beyond those that follow from what it reads.
        form: what a multipart form holds.
        is_stream: the answer goes on for as long as the client listens.
    """

    def declare(function: Function) -> Operation:
        hints = get_type_hints(function)
        parts = {name: _model(hints[name]) for name in PARTS if name in hints}
        found = {*ALWAYS, *problems, *(WITH_BODY if "body" in parts or form else ())}
        return Operation(
            function.__name__, method, path, tag, scope, function, parts, form, answers, tuple(sorted(found)),
            is_head=method == "GET" and not is_stream,
        )  # fmt: skip

    return declare


def routes_of(operations: Sequence[Operation], prefix: str) -> list[web.RouteDef]:
    """The routes of operations, and one that answers everything else below the prefix in the same shape."""
    allowed: dict[str, set[str]] = {}
    for one in operations:
        allowed.setdefault(_pattern(one.path), set()).update(route.method for route in one.route())

    async def unknown(request: web.Request) -> web.StreamResponse:
        path = request.rel_url.raw_path
        methods = sorted({name for pattern, names in allowed.items() if re.fullmatch(pattern, path) for name in names})
        if methods:
            detail = f"{request.method} is not for {request.path}; expected {', '.join(methods)}"
            return Refusal("method", detail, headers={"Allow": ", ".join(methods)}).response()
        return Refusal("not-found", f"{request.path} is no address of this API; see {prefix}/docs").response()

    known = [route for one in operations for route in one.route()]
    return [*known, web.route("*", f"{prefix}/{{tail:.*}}", unknown), web.route("*", prefix, unknown)]


def path_of(operation: Operation) -> str:
    """The path as OpenAPI has it, without expressions."""
    return re.sub(r":[^}]*\}", "}", operation.path)


def _model(hint: Any) -> Model:
    """The model of a parameter; `Model | None` for a body that may be a form."""
    return next((each for each in get_args(hint) if each is not type(None)), hint)


def _pattern(path: str) -> str:
    """What a path matches, as a regular expression over the quoted path."""
    parts = re.split(r"(\{[^}]*\})", path)
    return "".join((".+" if ":" in part else "[^/]+") if part.startswith("{") else re.escape(part) for part in parts)
