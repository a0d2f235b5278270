"""A run as it is read back from the database."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

LISTED = (
    "id, seq, number, priority, status, name, client, owner, scope, '' as graph, null as document, '{}' as extra,"
    " targets, '{}' as pictures, created, started, finished, leases, deaths, worker, error, outputs, result,"
    " null as nodes, null as messages, retry_of"
)
"""Columns of a list: all but the long ones."""

FILES = "select node, type, subfolder, filename, format, nbytes from files where run = ? order by position"


class FileRecord(NamedTuple):
    """A file that a run saved; `type` is `output` or `temp`."""

    node: str
    type: str
    subfolder: str
    filename: str
    format: str
    nbytes: int


class NodeRecord(TypedDict):
    """What became of a node: `state` is ran, cached, failed, blocked, or running, also where a run ended inside it.

    Times are in seconds since the run began.
    """

    node: str
    class_type: str
    state: str
    why: str | None
    tier: str | None
    start: float
    seconds: float
    nbytes: int
    notes: list[str]


class Draft(NamedTuple):
    """A run to be stored; see the columns in `migrations`."""

    graph: str
    document: str | None = None
    name: str = ""
    client: str = ""
    owner: str = ""
    scope: str = ""
    priority: int = 0
    number: float | None = None
    is_front: bool = False
    targets: tuple[str, ...] | None = None
    extra: str = "{}"
    pictures: str = "{}"
    words: str = ""
    id: str | None = None
    retry_of: str | None = None


class Ticket(NamedTuple):
    """A run that is stored; `is_new` is False when its idempotency key had come before."""

    id: str
    number: float
    is_new: bool = True


@dataclass(frozen=True)
class Record:
    """A run.

    Attributes:
        seq: counts submissions.
        number: its place in line, see `runs`.
        graph: the nodes as ComfyUI's API has them, as JSON text; empty in lists.
        document: our document as JSON text, where there is more to it than the graph.
        extra: ComfyUI's `extra_data` as JSON text.
        pictures: texts that pictures carry besides the graph, as JSON text.
        created, started, finished: seconds since 1970.
        leases: how often a worker was given it.
        deaths: workers that died under it.
        outputs: by node, as ComfyUI's history has them.
        result: declared outputs by name: values, or `{"files": [...]}`.
        messages: ComfyUI's messages, for its history.
    """

    id: str
    seq: int
    number: float
    priority: int
    status: str
    name: str
    client: str
    owner: str
    scope: str
    graph: str
    document: str | None
    extra: str
    pictures: str
    targets: tuple[str, ...] | None
    created: float
    started: float | None
    finished: float | None
    leases: int
    deaths: int
    worker: str | None
    error: dict[str, Any] | None
    outputs: dict[str, Any]
    result: dict[str, Any]
    nodes: list[NodeRecord]
    messages: list[Any]
    retry_of: str | None
    files: list[FileRecord]


class Page(NamedTuple):
    """Some records; `next` continues after them, `total` counts all that match."""

    records: list[Record]
    next: str | None
    total: int


class Ending(NamedTuple):
    """What is written down at the end of a run."""

    status: str
    error: Mapping[str, Any] | None
    outputs: Mapping[str, Any]
    result: Mapping[str, Any]
    nodes: Sequence[Any]
    messages: Sequence[Any]
    events: Sequence[Any]
    files: Sequence[FileRecord]


PLAIN = (
    "id", "seq", "number", "priority", "status", "name", "client", "owner", "scope", "graph", "document", "extra",
    "pictures", "created", "started", "finished", "leases", "deaths", "worker", "retry_of",
)  # fmt: skip


def record_of(row: sqlite3.Row, files: list[FileRecord]) -> Record:
    """A row of `runs` with its files."""
    return Record(
        **{name: row[name] for name in PLAIN},
        targets=None if row["targets"] is None else tuple(json.loads(row["targets"])),
        error=_json(row["error"], None), outputs=_json(row["outputs"], {}), result=_json(row["result"], {}),
        nodes=_json(row["nodes"], []), messages=_json(row["messages"], []), files=files,
    )  # fmt: skip


def file_of(row: sqlite3.Row) -> FileRecord:
    """A row of `files`."""
    return FileRecord(*row)


def _json(text: str | None, absent: Any) -> Any:
    return absent if text is None else json.loads(text)
