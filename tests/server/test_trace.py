"""Traces of runs, in the Trace Event Format."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from nodegraph.events import NodeBlocked, NodeCached, NodeFailed, NodeFinished, NodeStarted
from nodegraph.session import Session
from server.records import NodeRecord, Record
from server.trace import chrome_trace
from tests.nodegraph import trivial
from tests.nodegraph.trivial import n, start


def node(name: str, state: str = "ran", start: float = 0.0, seconds: float = 1.0, **rest: Any) -> NodeRecord:
    found: dict[str, Any] = {
        "node": name, "class_type": "Add", "state": state, "why": None, "tier": None, "start": start,
        "seconds": seconds, "nbytes": 0, "notes": [], **rest,
    }  # fmt: skip
    return NodeRecord(**found)


def record(nodes: list[NodeRecord], **rest: Any) -> Record:
    found: dict[str, Any] = {
        "id": "r1", "seq": 1, "number": 1.0, "priority": 0, "status": "success", "name": "sum", "client": "",
        "owner": "", "scope": "", "graph": "{}", "document": None, "extra": "{}", "pictures": "{}", "targets": None,
        "created": 1000.0, "started": 1002.5, "finished": 1012.5, "leases": 1, "deaths": 0, "worker": "cpu",
        "error": None, "outputs": {}, "result": {}, "nodes": nodes, "messages": [], "retry_of": None, "files": [],
        **rest,
    }  # fmt: skip
    return Record(**found)


def lanes(trace: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Events by the name of their lane."""
    names = {
        event["tid"]: event["args"]["name"] for event in trace["traceEvents"] if event["name"] == "thread_name"
    }  # fmt: skip
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names.values()}
    for event in trace["traceEvents"]:
        if event["ph"] != "M":
            found[names[event["tid"]]].append(event)
    return found


def spells(events: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    return [(event["name"], event["ts"], event["dur"]) for event in events]


def nodes_of(session: Session, document: dict[str, Any]) -> list[NodeRecord]:
    """Runs a document -> its nodes as a server writes them down."""
    found: dict[str, NodeRecord] = {}
    began = time.monotonic()
    running = start(session, document)
    for event in running:
        at = time.monotonic() - began
        match event:
            case NodeStarted():
                found[event.node] = node(event.node, "running", at, 0.0, class_type=event.class_type, why=event.why)
            case NodeFinished():
                found[event.node].update(state="ran", seconds=event.seconds, nbytes=event.nbytes)
            case NodeFailed():
                found[event.node].update(state="failed", seconds=at - found[event.node]["start"])
            case NodeCached():
                found[event.node] = node(
                    event.node, "cached", at, 0.0, class_type=event.class_type, tier=event.tier
                )  # fmt: skip
            case NodeBlocked():
                found[event.node] = node(event.node, "blocked", at, 0.0, class_type=event.class_type, why="no")
            case _:
                pass
    running.release()
    return list(found.values())


def test_a_run_of_the_engine_with_what_ran_was_at_hand_failed_and_was_blocked(tmp_path: Path):
    document = {"a": n("Const", value=1), "b": n("Add", a=("a", 0), b=2), "show": n("Show", value=("b", 0))}
    broken = {**document, "f": n("Fail", a=("b", 0)), "after": n("Show", value=("f", 0))}
    with trivial.session(tmp_path) as session:
        first = chrome_trace(record(nodes_of(session, document)))
        second = chrome_trace(record(nodes_of(session, broken), status="error"))
    assert json.loads(json.dumps(first)) == first
    assert [event["name"] for event in lanes(first)["nodes"]] == ["Const (a)", "Add (b)", "Show (show)"]
    assert {event["args"]["why"] != "" for event in lanes(first)["nodes"]} == {True}
    found = lanes(second)
    at_hand = {event["args"]["node"]: event for event in found["cached"]}
    assert set(at_hand) >= {"b"}
    assert (at_hand["b"]["ph"], at_hand["b"]["s"], at_hand["b"]["args"]["tier"]) == ("i", "t", "memory")
    assert [(event["args"]["node"], event["cat"]) for event in found["nodes"]] == [("f", "failed")]
    assert [event["args"]["node"] for event in found["blocked"]] == ["after"]


def test_the_wait_comes_first_and_times_are_microseconds_since_submission():
    trace = chrome_trace(record([node("1", start=0.5, seconds=2.0, why="new", nbytes=12)]))
    assert spells(lanes(trace)["run"]) == [("waiting", 0.0, 2_500_000.0), ("running", 2_500_000.0, 10_000_000.0)]
    (event,) = lanes(trace)["nodes"]
    assert (event["ph"], event["ts"], event["dur"]) == ("X", 3_000_000.0, 2_000_000.0)
    assert event["args"] == {"node": "1", "state": "ran", "bytes": 12, "why": "new"}
    assert trace["otherData"]["run"] == "r1"


def test_lanes_are_by_kind_and_nodes_that_overlap_come_in_further_rows():
    nodes = [
        node("1", start=0.0, seconds=2.0), node("2", start=1.0, seconds=2.0), node("3", start=2.5, seconds=1.0),
        node("4", start=0.0, seconds=9.0, class_type="SaveImage"),
    ]  # fmt: skip
    found = lanes(chrome_trace(record(nodes), {"Add": "device", "SaveImage": "io"}))
    found = {lane: [event["args"]["node"] for event in events] for lane, events in found.items() if lane != "run"}
    assert found == {"device": ["1", "3"], "device 2": ["2"], "io": ["4"]}


def test_neighbours_whose_clocks_differ_a_little_share_a_row_without_overlap():
    (first, second) = lanes(chrome_trace(record([node("1"), node("2", start=0.996)])))["nodes"]
    assert first["ts"] + first["dur"] == second["ts"]
    assert second["ts"] + second["dur"] == 2_500_000.0 + 1_996_000.0


def test_a_run_that_waits_has_only_a_lane_for_that():
    trace = chrome_trace(record([], status="queued", started=None, finished=None))
    assert spells(lanes(trace)["run"]) == [("waiting", 0.0, 0.0)]


def test_a_node_under_way_when_its_run_was_cancelled_lasts_to_the_end():
    trace = chrome_trace(record([node("1", "running", start=4.0, seconds=0.0)], status="cancelled"))
    assert spells(lanes(trace)["nodes"]) == [("Add (1)", 6_500_000.0, 6_000_000.0)]
