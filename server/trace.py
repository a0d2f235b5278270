"""A run as a trace for Perfetto or Chrome's `about:tracing`: what ran when, what was at hand, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from server.records import NodeRecord, Record

PROCESS = 1
RUN_LANE = 1
MICROSECONDS = 1e6
SLACK = 0.01  # seconds: times of neighbours are taken by different clocks and may overlap by so much
INSTANT = ("cached", "blocked")


def chrome_trace(record: Record, lane_of: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A run in the Trace Event Format, JSON object form.

    Source: "Trace Event Format", Google, https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU

    Args:
        record: the run; times count from its submission, in microseconds.
        lane_of: the lane of each node type, such as `NodeSpec.lane`; by default all are in one. Nodes that overlap
            within a lane come in further rows of it.
    """
    begin = max(0.0, (record.started or record.created) - record.created)
    events = [_spell("waiting", 0.0, begin, RUN_LANE, "queue", {"status": record.status, "deaths": record.deaths})]
    length = max((node["start"] + node["seconds"] for node in record.nodes), default=0.0)
    if record.started is not None:
        if record.finished is not None:
            length = max(0.0, record.finished - record.started)
        args = {"status": record.status, "worker": record.worker}
        events.append(_spell("running", begin, length, RUN_LANE, "run", args))
    lanes: dict[tuple[str, int], int] = {}
    for node, place in zip(record.nodes, _places(record.nodes, lane_of or {}, length), strict=True):
        number = lanes.setdefault((place.lane, place.row), RUN_LANE + 1 + len(lanes))
        events.append(_of_node(node, place, begin, number))
    names = {RUN_LANE: "run"} | {number: _name(*lane) for lane, number in lanes.items()}
    return {
        "traceEvents": [*_names(record, names), *events],
        "displayTimeUnit": "ms",
        "otherData": {"run": record.id, "name": record.name, "status": record.status, "created": record.created},
    }


class _Place(NamedTuple):
    """Where a node is drawn: a row of a lane, and its time since the run began."""

    lane: str
    row: int
    start: float
    end: float


def _places(nodes: list[NodeRecord], lane_of: Mapping[str, str], length: float) -> list[_Place]:
    """The place of each node: the first row that is free when it starts, so that rows overlap nowhere."""
    found: dict[int, _Place] = {}
    ends: dict[str, list[float]] = {}
    for index in sorted(range(len(nodes)), key=lambda index: nodes[index]["start"]):
        node = nodes[index]
        start = node["start"]
        if node["state"] in INSTANT:
            found[index] = _Place(node["state"], 0, start, start)
            continue
        lane = lane_of.get(node["class_type"], "nodes")
        rows = ends.setdefault(lane, [])
        row = next((row for row, end in enumerate(rows) if end <= start + SLACK), len(rows))
        start = max(start, rows[row]) if row < len(rows) else start
        end = length if node["state"] == "running" else node["start"] + node["seconds"]
        rows[row : row + 1] = [max(start, end)]
        found[index] = _Place(lane, row, start, max(start, end))
    return [found[index] for index in range(len(nodes))]


def _of_node(node: NodeRecord, place: _Place, begin: float, lane: int) -> dict[str, Any]:
    args = {"node": node["node"], "state": node["state"], "bytes": node["nbytes"]}
    args |= {name: node[name] for name in ("why", "tier") if node[name] is not None}
    title, start = f"{node['class_type']} ({node['node']})", begin + place.start
    if node["state"] in INSTANT:
        return {"name": title, "cat": node["state"], "ph": "i", "s": "t", "ts": _micro(start), "pid": PROCESS,
                "tid": lane, "args": args}  # fmt: skip
    return _spell(title, start, place.end - place.start, lane, node["state"], args)


def _name(lane: str, row: int) -> str:
    return f"{lane} {row + 1}" if row else lane


def _spell(name: str, start: float, seconds: float, lane: int, category: str, args: dict[str, Any]) -> dict[str, Any]:
    """A complete event: something that took time."""
    return {"name": name, "cat": category, "ph": "X", "ts": _micro(start), "dur": _micro(seconds), "pid": PROCESS,
            "tid": lane, "args": args}  # fmt: skip


def _names(record: Record, lanes: Mapping[int, str]) -> list[dict[str, Any]]:
    """Metadata events: what the process and its lanes are called, and their order."""
    named = [_label("process_name", 0, {"name": f"{record.name or 'run'} {record.id}"})]
    for number, name in lanes.items():
        named += [
            _label("thread_name", number, {"name": name}),
            _label("thread_sort_index", number, {"sort_index": number}),
        ]
    return named


def _label(kind: str, lane: int, args: dict[str, Any]) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": PROCESS, "tid": lane, "args": args}


def _micro(seconds: float) -> float:
    return round(seconds * MICROSECONDS, 1)
