"""ComfyUI's queue and history as text from the database."""

from __future__ import annotations

import asyncio
import json

import pytest

from server import comfy_rows
from server.records import Draft, Ending
from server.runs import Runs
from server.store import Store

GRAPH = {"9": {"class_type": 'ünknown " \\ \u2028', "inputs": {"a": [1, "2"], "b": None}}}


@pytest.fixture
def place(tmp_path):
    store = Store(tmp_path / "a.sqlite")
    yield store, Runs(store, queue_limit=99, history_limit=99)
    store.close()


def ended(status="success", **rest):
    return Ending(
        status,
        **{"error": None, "outputs": {}, "result": {}, "nodes": [], "messages": [], "events": [], "files": [], **rest},
    )


def put(runs, id, status=None, **rest):
    async def main():
        ending = rest.pop("ending", None)
        await runs.submit(Draft(**{"graph": json.dumps(GRAPH), "id": id, "targets": ("9",), **rest}))
        if status is not None:
            await runs.lease("w")
        if status not in (None, "running"):
            await runs.finish(id, ending or ended(status))

    asyncio.run(main())


def queue(store):
    return json.loads(asyncio.run(store.read(comfy_rows.queue)))


def history(store, most=None, offset=-1):
    return json.loads(asyncio.run(store.read(lambda database: comfy_rows.history(database, most, offset))))


def one(store, run):
    return json.loads(asyncio.run(store.read(lambda database: comfy_rows.one_history(database, run))))


def test_the_queue_is_in_the_order_in_which_it_will_run(place):
    store, runs = place
    put(runs, "running", "running", extra='{"client_id": "ü"}')
    put(runs, "a")
    put(runs, "late", number=2.5)
    put(runs, "first", priority=1)
    put(runs, 'quote " id', targets=None)
    found = queue(store)
    assert found["queue_running"] == [[0, "running", GRAPH, {"client_id": "ü"}, ["9"]]]
    assert [(item[0], item[1]) for item in found["queue_pending"]] == [
        (2, "first"), (1, "a"), (2.5, "late"), (3, 'quote " id'),
    ]  # fmt: skip
    assert [type(item[0]) for item in found["queue_pending"]] == [int, int, float, int]
    assert found["queue_pending"][3][4] == []


def test_an_empty_database_gives_empty_answers(place):
    store, _ = place
    assert queue(store) == {"queue_running": [], "queue_pending": []}
    assert history(store) == history(store, 5) == history(store, 5, 0) == one(store, "x") == {}


def test_an_entry_of_the_history_is_whole(place):
    store, runs = place
    outputs = {"9": {"images": [{"filename": "ü.png", "subfolder": "", "type": "output"}]}, "12:3": {"text": ["x"]}}
    messages = [["execution_start", {"prompt_id": "a", "timestamp": 1}]]
    put(runs, "a", "success", ending=ended(outputs=outputs, messages=messages))
    found = history(store)["a"]
    assert found["prompt"] == [0, "a", GRAPH, {}, ["9"]]
    assert found["outputs"] == outputs
    assert found["status"] == {"status_str": "success", "completed": True, "messages": messages}
    assert found["meta"]["9"] == {"node_id": "9", "display_node": "9", "parent_node": None, "real_node_id": "9"}
    assert set(found["meta"]) == {"9", "12:3"}
    assert one(store, "a") == {"a": found}


@pytest.mark.parametrize("status", ["error", "cancelled"])
def test_what_did_not_succeed_counts_as_an_error(place, status):
    store, runs = place
    put(runs, "a", status)
    found = one(store, "a")["a"]["status"]
    assert (found["status_str"], found["completed"]) == ("error", False)


def test_only_runs_that_began_and_are_over_are_in_the_history(place):
    store, runs = place
    for name, status in (("a", "success"), ("b", "running"), ("c", None), ("d", None)):
        put(runs, name, status)
    asyncio.run(runs.cancel_queued("d"))
    assert list(history(store)) == ["a"]
    assert one(store, "b") == one(store, "c") == one(store, "d") == {}


def test_pages_count_from_the_oldest_and_without_an_offset_from_the_newest(place):
    store, runs = place
    for name in "abcde":
        put(runs, name, "success")
    assert list(history(store)) == list("abcde")
    assert list(history(store, 2)) == ["d", "e"]
    assert list(history(store, 2, 1)) == ["b", "c"]
    assert list(history(store, None, 3)) == ["d", "e"]
    assert history(store, 0) == history(store, -3) == history(store, 2, 99) == {}
    assert list(history(store, 99, 0)) == list("abcde")
