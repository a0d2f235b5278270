"""Errors of this API: `application/problem+json` (RFC 9457), each of a known sort."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nodegraph.errors import FileProblem, NodegraphError, Problem, StorageError, WorkflowError, did_you_mean
from server.files import BadName, Taken, TooLarge
from server.pictures import NotAPicture
from server.runs import KeyReused, QueueFull

log = logging.getLogger(__name__)
MEDIA = "application/problem+json"


class Sort(NamedTuple):
    """A sort of error: its HTTP status, its title, and what it means."""

    status: int
    title: str
    doc: str


SORTS: Mapping[str, Sort] = {
    "malformed": Sort(400, "The request cannot be read", "The body is not what its content type says."),
    "unauthorized": Sort(401, "A token is needed", "No token was shown, or one that is not known."),
    "forbidden": Sort(403, "This is not allowed", "The token lacks the scope, or Host or Origin is not allowed here."),
    "not-found": Sort(404, "There is no such thing", "Nothing has this address or name."),
    "method": Sort(405, "The method is not allowed here", "The header Allow names those that are."),
    "not-acceptable": Sort(406, "It cannot be given in that form", "There is no picture to answer with."),
    "conflict": Sort(409, "It is not in a state for that", "For example, only a queued run can be moved."),
    "key-reused": Sort(409, "The idempotency key was used before", "The same key came with another request."),
    "run-cancelled": Sort(409, "The run was cancelled", "While the request waited for it."),
    "stale": Sort(412, "It was changed meanwhile", "Read it again, merge, and send its new ETag in If-Match."),
    "too-large": Sort(413, "The request is too large", "The body, a file or a picture has more than is allowed."),
    "media-type": Sort(415, "The content type is not read here", "The operation names those that are."),
    "invalid": Sort(422, "The request is not valid", "`problems` names every place and what is expected there."),
    "workflow": Sort(422, "The workflow cannot run", "`problems` names each node and input, and the nearest fix."),
    "missing": Sort(422, "Models or node types are missing", "The workflow is sound, but needs what is not installed."),
    "run-failed": Sort(422, "The run failed", "A node failed, or its worker died too often."),
    "unconditional": Sort(428, "A condition is needed", "Send If-Match with the ETag you read, so no save is lost."),
    "busy": Sort(429, "Too much at once", "Too many requests or queued runs; wait as Retry-After says."),
    "fault": Sort(500, "The server has a fault", "Its log has more."),
    "storage": Sort(507, "Nothing can be written", "The disk is full or cannot be written."),
}  # fmt: skip
"""Every sort of error, by the last word of its `type`."""

BY_STATUS: Mapping[int, str] = {sort.status: name for name, sort in reversed(SORTS.items())}
RETRY_SECONDS = 5


class View(BaseModel):
    """Base of what is answered; its checks are built when first used, not when the server starts."""

    model_config = ConfigDict(defer_build=True)


class Fault(View):
    """One thing that is wrong, and where."""

    where: str = Field(description="the place, as people read it")
    what: str = Field(description="what is wrong")
    expected: str | None = None
    fix: str | None = Field(default=None, description="the nearest fix")
    node: str | None = Field(default=None, description="id of the node")
    class_type: str | None = Field(default=None, description="type of the node")
    input: str | None = Field(default=None, description="name of the input or field")
    type: str = Field(default="invalid", description="ComfyUI's name of the mistake where it has one")
    kind: str = Field(default="invalid", description="invalid, missing_node or missing_model")

    @classmethod
    def of(cls, problem: Problem) -> Fault:
        """A problem of a workflow."""
        return cls(
            where=problem.where, what=problem.what, expected=problem.expected, fix=problem.fix, node=problem.node,
            class_type=problem.class_type, input=problem.input, type=problem.type, kind=problem.kind.value,
        )  # fmt: skip


class ProblemDocument(View):
    """An error."""

    model_config = ConfigDict(title="Problem")

    type: str = Field(description="the sort of error: `/v1/docs#problem-...`")
    title: str
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="what is wrong with this very request; what was expected; the nearest fix")
    fix: str | None = Field(default=None, description="the last part of the detail alone")
    problems: list[Fault] | None = None
    run: str | None = Field(default=None, description="id of the run this is about")


class Refusal(NodegraphError):
    """A request that is answered with an error.

    Args:
        sort: one of `SORTS`.
        detail: a sentence.
        problems: every single fault.
        run: the run this is about.
        headers: further headers of the answer.
    """

    def __init__(
        self, sort: str, detail: str, *, problems: Iterable[Fault] = (), run: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(detail)
        self.sort, self.detail, self.problems, self.run = sort, detail, list(problems), run
        self.headers = dict(headers or {})

    def response(self) -> web.Response:
        """The answer."""
        status, title, _ = SORTS[self.sort]
        document = ProblemDocument(
            type=f"/v1/docs#problem-{self.sort}", title=title, status=status, detail=self.detail,
            problems=self.problems or None, run=self.run,
        )  # fmt: skip
        text = document.model_dump_json(exclude_none=True)
        return web.Response(status=status, text=text, content_type=MEDIA, headers=self.headers)


def refusal_of(error: Exception) -> Refusal:
    """The error as an answer; a fault of the server for what is not the client's."""
    match error:
        case Refusal():
            return error
        case WorkflowError():
            faults = [Fault.of(problem) for problem in error.problems]
            return Refusal("missing" if faults and error.is_only_missing else "workflow", str(error), problems=faults)
        case TooLarge():
            return Refusal("too-large", str(error))
        case Taken():
            return Refusal("conflict", str(error))
        case BadName() | NotAPicture():
            return Refusal("invalid", str(error))
        case FileProblem():
            return Refusal("not-found", str(error))
        case QueueFull():
            return Refusal("busy", str(error), headers={"Retry-After": str(RETRY_SECONDS)})
        case KeyReused():
            return Refusal("key-reused", str(error))
        case StorageError():
            return Refusal("storage", str(error))
        case NodegraphError():
            return Refusal("invalid", str(error))
        case web.HTTPRequestEntityTooLarge():
            return Refusal("too-large", "the body is larger than this server takes; send less, or a smaller file")
        case web.RequestPayloadError() | HttpProcessingError():
            return Refusal(
                "malformed", "the body is not what its Content-Encoding or Transfer-Encoding says; send it plain"
            )
        case web.HTTPException() if error.status in BY_STATUS:
            return Refusal(BY_STATUS[error.status], error.reason)
        case _:
            log.debug("a request failed", exc_info=error)
            return Refusal("fault", f"the server failed with {type(error).__name__}; its log has more")


def misfits(error: ValidationError, where: str, names: Iterable[str] = ()) -> list[Fault]:
    """Pydantic's findings as faults.

    Args:
        error: what was raised.
        where: `body`, `query`, `path` or `header`.
        names: the fields there are, for the nearest fix.
    """
    known, found = list(names), list[Fault]()
    for item in error.errors(include_url=False):
        place = [str(part) for part in item["loc"]]
        what, fix = _spoken(item), None
        if item["type"] == "extra_forbidden":
            what, fix = "it is not known", did_you_mean(place[-1], known)
        found.append(
            Fault(where=".".join([where, *place]), what=what, fix=fix, input=place[-1] if place else None,
                  expected=", ".join(known) or "nothing" if item["type"] == "extra_forbidden" else None)
        )  # fmt: skip
    return found


def in_words(faults: Iterable[Fault]) -> str:
    """Faults as one text, a line each."""
    return "\n".join(
        "; ".join(filter(None, [f"{one.where}: {one.what}", one.expected and f"expected {one.expected}", one.fix]))
        for one in faults
    )


def _spoken(item: Any) -> str:
    text = str(item["msg"]).removeprefix("Value error, ")
    return text[:1].lower() + text[1:]
