"""One attempt at a run: what its events add up to."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

from nodegraph.events import (
    NodeBlocked,
    NodeCached,
    NodeFailed,
    NodeFinished,
    NodeStarted,
    Noted,
    Saved,
    SavedFile,
    as_json,
)
from server.attempt import Attempt
from server.feed import Feed
from server.records import Draft, FileRecord
from server.runs import Runs
from server.store import Store

GRAPH = {name: {"class_type": "A", "inputs": {}} for name in "1239"}


def attempt_in(folder, events, **changes):
    """An attempt that has taken events -> it, and the feed."""

    async def main():
        store = Store(folder / "a.sqlite")
        runs = Runs(store, queue_limit=9, history_limit=9)
        await runs.submit(Draft(json.dumps(GRAPH), id="r", targets=("9",)))
        record = await runs.lease("w")
        feed = Feed(runs)
        attempt = Attempt(replace(record, **changes), feed)
        messages = attempt.start("w")
        for place, event in enumerate(events):
            messages += attempt.take({**as_json(event), "at": place * 0.5})
        store.close()
        return attempt, messages, await feed.since("r", 0)

    return asyncio.run(main())


def saved(node, name, *, is_cached=False):
    return Saved("r", node, SavedFile(name, "", "output", f"/x/{name}", 5, "png"), is_cached)


def test_nodes_are_noted_with_their_states_and_times(tmp_path):
    events = [
        NodeCached("r", "1", "A", "disk"), NodeStarted("r", "2", "A", "seed changed"),
        NodeFinished("r", "2", "A", 0.25, 77), NodeStarted("r", "3", "A", "first run"),
        NodeFailed("r", "3", "A", "no", {}, "", False), NodeBlocked("r", "9", "A", "3"),
    ]  # fmt: skip
    attempt, _, _ = attempt_in(tmp_path, events)
    found = attempt.ending("error", {"message": "no"}, {})
    assert [(node["node"], node["state"], node["why"], node["tier"], node["start"]) for node in found.nodes] == [
        ("1", "cached", None, "disk", 0.0), ("2", "ran", "seed changed", None, 0.5),
        ("3", "failed", "first run", None, 1.5), ("9", "blocked", "node 3 failed", None, 2.5),
    ]  # fmt: skip
    assert (found.nodes[1]["seconds"], found.nodes[1]["nbytes"], found.nodes[2]["seconds"]) == (0.25, 77, 0.5)
    assert (found.status, found.error, found.result) == ("error", {"message": "no"}, {})


def test_what_nodes_have_to_say_is_kept_with_them(tmp_path):
    events = [
        NodeCached("r", "1", "A", "disk"), Noted("r", "1", "one"), NodeStarted("r", "2", "A", ""),
        Noted("r", "2", "two"), Noted("r", "2", "three"), NodeFinished("r", "2", "A", 0.25, 77),
        NodeStarted("r", "1", "A", "it was lost"),
    ]  # fmt: skip
    attempt, _, told = attempt_in(tmp_path, events)
    assert [(node["node"], node["notes"]) for node in attempt.nodes] == [("1", []), ("2", ["two", "three"])]
    assert [one.event["text"] for one in told if one.event["type"] == "Noted"] == ["one", "two", "three"]


def test_files_are_noted_once_each_in_order_whoever_tells_them(tmp_path):
    events = [
        NodeStarted("r", "9", "A", ""), saved("9", "b.png"), saved("9", "a.png"), NodeFinished("r", "9", "A", 1.0, 0),
        NodeCached("r", "3", "A", "memory"), saved("3", "b.png", is_cached=True),
    ]  # fmt: skip
    attempt, _, _ = attempt_in(tmp_path, events)
    found = attempt.ending("success", None, {})
    assert [file[1:] for file in found.files] == [
        FileRecord("9", "output", "", "b.png", "png", 5)[1:], FileRecord("9", "output", "", "a.png", "png", 5)[1:],
    ]  # fmt: skip
    assert [file["filename"] for file in found.outputs["9"]["images"]] == ["b.png", "a.png"]


def test_the_events_that_are_written_down_are_those_that_were_told(tmp_path):
    attempt, _, told = attempt_in(tmp_path, [NodeStarted("r", "2", "A", "")])
    found = attempt.ending("success", None, {})
    assert [tuple(pair) for pair in found.events] == [(one.number, one.event) for one in told]
    assert [one.event["type"] for one in told] == ["RunLeased", "NodeStarted"]
    assert (told[0].event["worker"], told[0].event["attempt"]) == ("w", 1)
    json.dumps(found.events)


def test_a_later_attempt_is_numbered_so(tmp_path):
    _, messages, told = attempt_in(tmp_path, [], deaths=2, leases=3)
    assert told[0].event["attempt"] == 3
    assert told[0].number > 3_000_000
    assert [message.type for message in messages] == ["execution_start"]


def test_the_end_is_told_to_clients_and_to_the_feed(tmp_path):
    attempt, _, _ = attempt_in(tmp_path, [NodeStarted("r", "2", "A", "")])
    assert [message.type for message in attempt.over("cancelled", None)][-1] == "execution_interrupted"
    attempt.tell_over("cancelled", {"message": "stopped"})
    last = attempt._feed.so_far("r")[-1].event
    assert (last["type"], last["run"], last["status"], last["error"]) == ("RunOver", "r", "cancelled", "stopped")
