"""The log: lines for people or JSON on stderr, the last of them kept for clients, secrets in none of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import re
import shutil
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple, TextIO, cast

from aiohttp import web
from pydantic import BaseModel, Field, ValidationError

from server.metrics import observed, route_of
from server.service import service_of

HIDDEN = "[redacted]"
KEPT = 300  # lines that clients can ask for
SUBSCRIBERS = 256
READS = ("GET", "HEAD", "OPTIONS")
LOUD = ("nodegraph", "nodes")  # the command line shows these itself; while a server runs, its own lines are enough
QUIET = "aiohttp.access"  # it would log queries, which may hold secrets; `access_log` takes its place
SECRET_FIELDS = re.compile(r"authorization|cookie|token|secret|password|api[-_]?key", re.IGNORECASE)
TOKEN = re.compile(r"(?:(?<![A-Za-z])|(?<=%[0-9A-Fa-f]{2})|(?<=\\[nrt]))ng_[A-Za-z0-9_\-]{8,}")
"""A token anywhere but within a word: after a percent-encoded or escaped character too."""

HEADER = re.compile(r"(authorization['\"\\]{0,2}\s*[:=,]\s*b?['\"\\]{0,2})[^'\"\\\r\n]+", re.IGNORECASE)
BEARER = re.compile(r"\b(bearer)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
PLAIN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))} | {10: "\n    "}
"""Neither a terminal's escapes nor lines that look like others': what follows a line break is indented."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
OnLine = Callable[[frozenset[str], dict[str, Any]], None]
log = logging.getLogger(__name__)


class Line(NamedTuple):
    """A line of the log as ComfyUI's clients read it: time (ISO 8601) and text with its line break."""

    t: str
    m: str


class LogRing(logging.Handler):
    """The last lines of the log, and the clients that want the next ones.

    Args:
        limit: lines kept.
    """

    def __init__(self, limit: int = KEPT) -> None:
        super().__init__()
        self.setFormatter(PersonFormatter())
        self._lines: deque[Line] = deque(maxlen=limit)
        self._news: deque[Line] = deque(maxlen=limit)
        self._clients: dict[str, None] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_line: OnLine | None = None
        self._is_due = False

    def attach(self, on_line: OnLine) -> None:
        """Has subscribers told from now on; called on the event loop.

        Args:
            on_line: called on this event loop with client ids and the `logs` message's content. Lines that arrive
                together come together.
        """
        self._loop, self._on_line = asyncio.get_running_loop(), on_line

    def detach(self) -> None:
        """Tells nobody any more."""
        self._loop = self._on_line = None

    def subscribe(self, client: str, enabled: bool) -> None:
        """Begins or ends telling a client; of too many the oldest is dropped."""
        with self._guard():
            self._clients.pop(client, None)
            if enabled:
                self._clients[client] = None
                if len(self._clients) > SUBSCRIBERS:
                    del self._clients[next(iter(self._clients))]

    def lines(self) -> list[Line]:
        """The lines kept, the oldest first."""
        with self._guard():
            return list(self._lines)

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps a line; `logging` calls it under the handler's lock."""
        line = Line(_when(record).isoformat(), self.format(record) + "\n")
        self._lines.append(line)
        loop = self._loop
        if not self._clients or loop is None:
            return
        self._news.append(line)
        if not self._is_due:
            self._is_due = True
            try:
                loop.call_soon_threadsafe(self._tell)
            except RuntimeError:  # the loop is closed: nobody listens any more
                self.detach()

    def _tell(self) -> None:
        with self._guard():
            entries, clients, on_line = list(self._news), frozenset(self._clients), self._on_line
            self._news.clear()
            self._is_due = False
        if on_line is not None and entries and clients:
            on_line(clients, _message(entries))

    @contextlib.contextmanager
    def _guard(self) -> Generator[None]:
        self.acquire()
        try:
            yield
        finally:
            self.release()


class PersonFormatter(logging.Formatter):
    """Lines for people: time, level, logger, message; further lines are indented."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text without secrets."""
        when = datetime.fromtimestamp(record.created).strftime("%Y-%m-%d %H:%M:%S")
        text = "\n".join(filter(None, [_words(record), _trouble(self, record)]))
        return f"{when} {record.levelname} {record.name}: {redacted(text).translate(CONTROLS)}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (UTC), `level`, `logger`, `message`, `exception`, and what `extra` passed."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON without secrets."""
        fields: dict[str, Any] = {
            "time": _when(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname, "logger": record.name, "message": redacted(_words(record)),
        }  # fmt: skip
        if trouble := _trouble(self, record):
            fields["exception"] = redacted(trouble)
        for name, value in vars(record).items():
            if name not in PLAIN_FIELDS and name not in fields:
                fields[name] = _plain(name, value)
        return json.dumps(fields, ensure_ascii=True)


def redacted(text: str) -> str:
    """The text without tokens and without values of `Authorization` headers."""
    text = HEADER.sub(rf"\1{HIDDEN}", text)
    return TOKEN.sub(HIDDEN, BEARER.sub(rf"\1 {HIDDEN}", text))


@contextlib.contextmanager
def logging_to(
    ring: LogRing, *, is_structured: bool = False, level: int = logging.INFO, stream: TextIO | None = None
) -> Generator[None]:
    """Writes the log of the whole process to a stream and a ring, until the block ends.

    Args:
        ring: keeps the last lines.
        is_structured: JSON lines in place of lines for people.
        level: the lowest that is written.
        stream: by default stderr.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if is_structured else PersonFormatter())
    root = logging.getLogger()
    loud, quiet = [logging.getLogger(name) for name in LOUD], logging.getLogger(QUIET)
    before = [(logger, logger.level, list(logger.handlers)) for logger in (root, *loud, quiet)]
    for logger in loud:
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)
    quiet.setLevel(logging.WARNING)
    root.setLevel(level)
    root.addHandler(handler)
    root.addHandler(ring)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.removeHandler(ring)
        for logger, old, handlers in before:
            logger.setLevel(old)
            logger.handlers[:] = handlers


@web.middleware
async def access_log(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Logs each request: changes at INFO, reads and submissions at DEBUG; its route's template, never its query."""

    def note(status: int, response: web.StreamResponse | None, seconds: float) -> None:
        run = "" if response is None else response.headers.get("Nodegraph-Run", "")
        is_quiet = request.method in READS or (run and status < 400)  # a run is told when it is over
        level = logging.DEBUG if is_quiet else logging.INFO
        if log.isEnabledFor(level):
            _log_access(level, request, status, round(seconds * 1000, 1), run or _run_of(request))

    return await observed(request, handler, note)


def _log_access(level: int, request: web.Request, status: int, took_ms: float, run: str) -> None:
    route, caller = route_of(request), getattr(request.get("caller"), "name", "")
    text = "%s %s %s %s ms" + (" by %s" if caller else "") + (" run %s" if run else "")
    fields = {"method": request.method, "route": route, "status": status, "ms": took_ms, "caller": caller, "run": run}
    log.log(
        level, text, request.method, route, status, took_ms, *filter(None, (caller, run)),
        extra={name: value for name, value in fields.items() if value != ""},
    )  # fmt: skip


def _run_of(request: web.Request) -> str:
    """The run a request is about, by the id in its address."""
    match = request.match_info
    found = match.get("run") or match.get("prompt_id")
    if found is None and "/runs/{id}" in route_of(request):
        found = match.get("id")
    return found if isinstance(found, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", found) else ""


class Subscription(BaseModel):
    """Body of PATCH /internal/logs/subscribe."""

    clientId: str = Field(min_length=1, max_length=200)  # noqa: N815  (ComfyUI's name)
    enabled: bool


def routes() -> list[web.RouteDef]:
    """ComfyUI's routes of the log."""
    return [
        web.get("/internal/logs", _text),
        web.get("/internal/logs/raw", _raw),
        web.patch("/internal/logs/subscribe", _subscribe),
    ]


async def _text(request: web.Request) -> web.Response:
    return web.json_response("".join(f"{line.t} - {line.m}" for line in service_of(request).logs.lines()))


async def _raw(request: web.Request) -> web.Response:
    return web.json_response(_message(service_of(request).logs.lines()))


async def _subscribe(request: web.Request) -> web.Response:
    try:
        wanted = Subscription.model_validate_json(await request.read())
    except ValidationError:
        fix = 'log subscription: not understood; expected {"clientId": "the id of your WebSocket", "enabled": true}'
        return web.json_response({"error": fix}, status=400)
    service_of(request).logs.subscribe(wanted.clientId, wanted.enabled)
    return web.Response()


def _message(lines: list[Line]) -> dict[str, Any]:
    columns, rows = shutil.get_terminal_size()
    return {"entries": [line._asdict() for line in lines], "size": {"cols": columns, "rows": rows}}


def _when(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, timezone.utc)


def _words(record: logging.LogRecord) -> str:
    """The message; one whose arguments do not fit is shown without them, so that no line is lost."""
    try:
        return record.getMessage()
    except Exception:  # whatever an argument raises, the log goes on
        return f"{record.msg} (its arguments cannot be shown)"


def _trouble(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """The traceback of a record, if it has one."""
    parts = [formatter.formatException(record.exc_info)] if record.exc_info else []
    return "\n".join([*parts, *([formatter.formatStack(record.stack_info)] if record.stack_info else [])])


def _plain(name: str, value: Any, depth: int = 0) -> Any:
    """A field as JSON has it, without secrets."""
    if SECRET_FIELDS.search(name):
        return HIDDEN
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping) and depth < 5:
        table = cast("Mapping[Any, Any]", value)
        return {str(key): _plain(str(key), item, depth + 1) for key, item in table.items()}
    if isinstance(value, (list, tuple)) and depth < 5:
        return [_plain("", item, depth + 1) for item in cast("list[Any] | tuple[Any, ...]", value)]
    return redacted(str(cast("object", value)))
