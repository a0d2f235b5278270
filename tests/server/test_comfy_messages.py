"""What ComfyUI's clients are told of a run, by events of real runs and by single events."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from nodegraph.events import Event, NodePreview, as_json
from nodegraph.spec import NODE_ATTRIBUTE, node
from nodegraph.types import Each
from server.comfy_messages import (
    RUNNING_SHOWN,
    Message,
    Teller,
    done,
    meta_of,
    preview_frame,
    preview_frame_with_metadata,
)
from tests.nodegraph.trivial import REGISTRY, n, run, session


@node("ShowText", category="t", kind="sink")
def show_text(*, text: str) -> str:
    return text


@node("Words", category="t")
def words(*, count: int) -> Each[str]:
    return Each(f"word {index}" for index in range(count))


WITH_TEXTS = REGISTRY.with_specs([getattr(show_text, NODE_ATTRIBUTE), getattr(words, NODE_ATTRIBUTE)])
SUMS = {"1": n("Const", value=2), "2": n("Add", a=("1", 0)), "3": n("SaveText", value=("2", 0))}


def told(teller: Teller, events: list[Event], status: str = "success") -> list[Message]:
    """All that is told from the start to the end of a run."""
    messages = teller.start()
    for event in events:
        messages += teller.tell(as_json(event), event.image if isinstance(event, NodePreview) else None)
    return [*messages, *teller.over(status), done(teller.run)]


def teller(graph: dict[str, Any], targets: list[str] | None = None) -> Teller:
    return Teller("r", graph, targets, clock=lambda: 12.5)


def types(messages: list[Message]) -> list[str]:
    return [message.type for message in messages]


def only(messages: list[Message], type: str) -> list[dict[str, Any]]:
    return [message.data for message in messages if message.type == type]


def started(node: str) -> dict[str, Any]:
    return {"type": "NodeStarted", "run": "x", "node": node, "class_type": "T", "why": ""}


def finished(node: str) -> dict[str, Any]:
    return {"type": "NodeFinished", "run": "x", "node": node, "class_type": "T", "seconds": 0.1, "nbytes": 1}


def cached(node: str) -> dict[str, Any]:
    return {"type": "NodeCached", "run": "x", "node": node, "class_type": "T", "tier": "memory"}


def saved(node: str, name: str, *, is_cached: bool = False, format: str = "png") -> dict[str, Any]:
    file = {"filename": name, "subfolder": "", "type": "output", "path": "/o/" + name, "nbytes": 1, "format": format}
    return {"type": "Saved", "run": "x", "node": node, "file": file, "is_cached": is_cached}


def shown(node: str, text: str, *, is_cached: bool = False) -> dict[str, Any]:
    return {"type": "Shown", "run": "x", "node": node, "text": text, "is_cached": is_cached}


def test_a_run_is_told_in_the_order_of_comfyui(tmp_path: Path):
    with session(tmp_path) as host:
        outcome = run(host, SUMS)
    one = teller(SUMS, ["3"])
    messages = told(one, outcome.events)
    each = ["progress_state", "executing", "progress_state"]
    saving = ["progress_state", "executing", "executed", "progress_state"]
    assert types(messages) == [
        "execution_start", "execution_cached", *each, *each, *saving, "execution_success", "executing",
    ]  # fmt: skip
    assert [data["node"] for data in only(messages, "executing")] == ["1", "2", "3", None]
    assert one.executed == ["1", "2", "3"]
    assert one.current is None
    assert all(data["prompt_id"] == "r" for data in (message.data for message in messages))


def test_a_note_is_no_message_and_parts_none(tmp_path: Path):
    def noted(node: str) -> dict[str, Any]:
        return {"type": "Noted", "run": "x", "node": node, "text": "no error"}

    events = [cached("1"), noted("1"), cached("2"), noted("2"), started("3"), noted("3"), finished("3")]
    with_notes, without = teller(SUMS), teller(SUMS)
    messages = [message for event in events for message in with_notes.tell(event)]
    assert messages == [message for event in events if event["type"] != "Noted" for message in without.tell(event)]
    assert only(messages, "execution_cached")[0]["nodes"] == ["1", "2"]


def test_a_node_runs_and_then_is_finished(tmp_path: Path):
    with session(tmp_path) as host:
        outcome = run(host, SUMS)
    states = only(told(teller(SUMS, ["3"]), outcome.events), "progress_state")
    assert [{name: row["state"] for name, row in data["nodes"].items()} for data in states] == [
        {name: state} for name in ("1", "2", "3") for state in ("running", "finished")
    ]
    assert states[1]["nodes"]["1"] == {
        "value": 1.0, "max": 1.0, "state": "finished", "node_id": "1", "prompt_id": "r", "display_node_id": "1",
        "parent_node_id": None, "real_node_id": "1",
    }  # fmt: skip


def test_what_was_saved_is_told_with_the_node_and_kept_for_the_history(tmp_path: Path):
    with session(tmp_path) as host:
        outcome = run(host, SUMS)
    one = teller(SUMS, ["3"])
    messages = told(one, outcome.events)
    file = {"filename": "note_00001_.txt", "subfolder": "", "type": "output"}
    assert only(messages, "executed") == [
        {"node": "3", "display_node": "3", "output": {"files": [file]}, "prompt_id": "r"}
    ]
    assert one.outputs == {"3": {"files": [file]}}


def test_a_run_that_is_all_cached_names_every_node_and_tells_its_output_again(tmp_path: Path):
    with session(tmp_path) as host:
        run(host, SUMS)
        outcome = run(host, SUMS)
    messages = told(teller(SUMS, ["3"]), outcome.events)
    assert types(messages) == ["execution_start", "execution_cached", "executed", "execution_success", "executing"]
    assert only(messages, "execution_cached")[0]["nodes"] == ["3", "1", "2"]
    assert only(messages, "executed")[0]["output"]["files"][0]["filename"] == "note_00001_.txt"


def test_nodes_that_are_needed_elsewhere_are_not_told_as_cached(tmp_path: Path):
    graph = {**SUMS, "4": n("Mul", a=("1", 0)), "5": n("Show", value=("4", 0))}
    with session(tmp_path, keeps=True) as host:
        run(host, SUMS)
        outcome = run(host, graph)
    messages = told(teller(graph, ["3", "5"]), outcome.events)
    assert only(messages, "execution_cached")[0]["nodes"] == [*outcome.cached, "2"]
    assert set(outcome.cached) == {"1", "3"}
    assert [data["node"] for data in only(messages, "executing")] == ["4", "5", None]


def test_a_cached_target_without_output_is_told_with_none(tmp_path: Path):
    graph = {"1": n("Const", value=3), "2": n("Show", value=("1", 0))}
    with session(tmp_path) as host:
        run(host, graph)
        outcome = run(host, graph)
    messages = told(teller(graph, ["2"]), outcome.events)
    assert only(messages, "executed") == [{"node": "2", "display_node": "2", "output": None, "prompt_id": "r"}]


def test_without_targets_what_nothing_links_to_stands_for_them(tmp_path: Path):
    with session(tmp_path) as host:
        run(host, SUMS)
        outcome = run(host, SUMS)
    messages = told(teller(SUMS), outcome.events)
    assert only(messages, "execution_cached")[0]["nodes"] == ["3", "1", "2"]


def test_a_text_shown_is_told(tmp_path: Path):
    graph = {"1": n("ShowText", text="hello")}
    with session(tmp_path, WITH_TEXTS) as host:
        first, second = run(host, graph), run(host, graph)
    assert only(told(teller(graph, ["1"]), first.events), "executed")[0]["output"] == {"text": ["hello"]}
    assert only(told(teller(graph, ["1"]), second.events), "executed")[0]["output"] == {"text": ["hello"]}


def test_many_texts_of_a_node_are_told_at_most_twice(tmp_path: Path):
    graph = {"1": n("Words", count=50), "2": n("ShowText", text=("1", 0))}
    with session(tmp_path, WITH_TEXTS) as host:
        outcome = run(host, graph)
    outputs = [data["output"]["text"] for data in only(told(teller(graph, ["2"]), outcome.events), "executed")]
    assert outputs == [["word 0"], [f"word {index}" for index in range(50)]]


def test_a_failure_is_told_with_its_node_its_inputs_and_its_traceback(tmp_path: Path):
    graph = {"1": n("Const", value=7), "2": n("Fail", a=("1", 0), message="it\nbroke: twice"),
             "3": n("Show", value=("2", 0))}  # fmt: skip
    with session(tmp_path) as host:
        outcome = run(host, graph)
    one = teller(graph, ["3"])
    messages = told(one, outcome.events, "error")
    assert types(messages)[-3:] == ["progress_state", "execution_error", "executing"]
    assert only(messages, "progress_state")[-1]["nodes"]["2"]["state"] == "error"
    error = only(messages, "execution_error")[0]
    assert (error["node_id"], error["node_type"], error["exception_type"]) == ("2", "Fail", "ValueError")
    assert error["exception_message"] == "it\nbroke: twice"
    assert error["current_inputs"]["a"] == ["7"]
    assert (error["executed"], error["current_outputs"], error["timestamp"]) == (["1"], ["1"], 12500)
    assert error["traceback"][0].startswith("  File ")
    assert [type for type, _ in one.messages] == ["execution_start", "execution_cached", "execution_error"]


def test_a_worker_that_died_is_told_with_the_node_that_ran():
    one = teller({"1": n("Const")}, ["1"])
    one.tell(started("1"))
    error = one.over("error", {"message": "the worker was killed", "node": None, "class_type": None})[-1].data
    assert (error["node_id"], error["node_type"]) == ("1", "Const")
    assert (error["exception_message"], error["exception_type"]) == ("the worker was killed", "RuntimeError")
    assert error["traceback"] == []


def test_a_cancelled_run_names_the_node_that_ran_and_goes_to_everybody():
    one = teller({"1": n("Const"), "2": n("Show", value=("1", 0))}, ["2"])
    for event in (started("1"), finished("1"), started("2")):
        one.tell(event)
    (message,) = one.over("cancelled")
    assert (message.type, message.is_public) == ("execution_interrupted", True)
    assert message.data == {
        "prompt_id": "r", "node_id": "2", "node_type": "Show", "executed": ["1"], "timestamp": 12500,
    }  # fmt: skip


def test_a_run_cancelled_before_anything_ran_is_told_all_the_same():
    one = teller({"1": n("Const")}, ["1"])
    assert types([*one.start(), *one.over("cancelled")]) == [
        "execution_start", "execution_cached", "execution_interrupted",
    ]  # fmt: skip


def test_the_history_keeps_the_milestones():
    one = teller({"1": n("Const")}, ["1"])
    messages = [*one.start(), *one.tell(started("1")), *one.tell(finished("1")), *one.over("success")]
    assert one.messages == [
        ["execution_start", {"prompt_id": "r", "timestamp": 12500}],
        ["execution_cached", {"prompt_id": "r", "nodes": [], "timestamp": 12500}],
        ["execution_success", {"prompt_id": "r", "timestamp": 12500}],
    ]
    assert json.loads(json.dumps([message.data for message in messages])) == [message.data for message in messages]


def test_progress_is_told_by_the_state_and_then_the_steps():
    one = teller({"1": n("Const")}, ["1"])
    one.tell(started("1"))
    state, steps = one.tell({"type": "NodeProgress", "run": "x", "node": "1", "step": 3, "total": 20})
    assert (state.data["nodes"]["1"]["value"], state.data["nodes"]["1"]["max"]) == (3, 20)
    assert (steps.type, steps.data) == ("progress", {"value": 3, "max": 20, "prompt_id": "r", "node": "1"})
    assert (state.is_public, steps.is_public) == (True, True)
    ended = one.tell(finished("1"))[-1].data["nodes"]["1"]
    assert (ended["value"], ended["max"], ended["state"]) == (20, 20, "finished")


def test_two_nodes_at_once_are_both_shown():
    one = teller({"1": n("Const"), "2": n("Const")}, ["1", "2"])
    one.tell(started("1"))
    both = one.tell(started("2"))[0].data["nodes"]
    assert {name: row["state"] for name, row in both.items()} == {"1": "running", "2": "running"}
    assert one.current == "2"
    after = one.tell(finished("1"))[-1].data["nodes"]
    assert {name: row["state"] for name, row in after.items()} == {"1": "finished", "2": "running"}


@pytest.mark.parametrize("are_parallel", [False, True])
def test_what_is_told_is_linear_in_the_nodes(are_parallel):
    def rows(count: int) -> int:
        graph = {str(index): n("Const") for index in range(count)}
        one = teller(graph, list(graph))
        events = [started(name) for name in graph] if are_parallel else []
        if not are_parallel:
            for name in graph:
                events += [started(name), finished(name)]
        states = [only(one.tell(event), "progress_state") for event in [*events, *map(finished, graph)]]
        return sum(len(data["nodes"]) for found in states for data in found)

    assert rows(400) <= 400 * 3 * (RUNNING_SHOWN + 1)
    assert rows(400) <= 2 * rows(200) + 2 * RUNNING_SHOWN**2


def test_an_early_node_among_very_many_still_has_its_progress_told():
    graph = {str(index): n("Const") for index in range(RUNNING_SHOWN + 5)}
    one = teller(graph, list(graph))
    for name in graph:
        one.tell(started(name))
    state = one.tell({"type": "NodeProgress", "run": "x", "node": "0", "step": 1, "total": 2})[0]
    assert state.data["nodes"]["0"]["value"] == 1
    assert len(state.data["nodes"]) == RUNNING_SHOWN + 1


def test_nodes_found_in_the_cache_later_are_told_in_a_message_of_their_own():
    graph = {name: n("Const") for name in "12345"}
    one = teller(graph, list(graph))
    messages = [*one.tell(cached("1")), *one.tell(started("2"))]
    messages += [*one.tell(cached("3")), *one.tell(cached("4")), *one.tell(finished("2"))]
    assert [data["nodes"] for data in only(messages, "execution_cached")] == [["1"], ["3", "4"]]


def test_all_pictures_of_a_cached_node_are_told_together():
    one = teller({"1": n("SaveImage")}, ["1"])
    events = [cached("1"), saved("1", "a.png", is_cached=True), saved("1", "b.png", is_cached=True)]
    messages = [message for event in events for message in one.tell(event)] + one.over("success")
    (executed,) = only(messages, "executed")
    assert [image["filename"] for image in executed["output"]["images"]] == ["a.png", "b.png"]
    assert types(messages) == ["execution_cached", "executed", "execution_success"]


def test_a_picture_of_a_node_found_in_the_cache_later_is_not_lost_when_others_come_between():
    one = teller({"1": n("SaveImage"), "2": n("Const")}, ["1"])
    events = [started("2"), cached("1"), finished("2"), saved("1", "a.png", is_cached=True)]
    messages = [message for event in events for message in one.tell(event)]
    assert [data["output"] for data in only(messages, "executed")][-1]["images"][0]["filename"] == "a.png"


@pytest.mark.parametrize(
    ("class_type", "format", "output"),
    [
        ("SaveImage", "png", ["images"]),
        ("SaveAnimatedWEBP", "webp", ["images", "animated"]),
        ("SaveAnimatedPNG", "png", ["images", "animated"]),
        ("SaveLatent", "latent", ["latents"]),
        ("SaveAudio", "flac", ["audio"]),
        ("SaveVideo", "mp4", ["images", "animated"]),
        ("SaveNotes", "csv", ["files"]),
    ],
)
def test_files_are_told_by_their_kind(class_type, format, output):
    one = teller({"1": n(class_type)}, ["1"])
    for event in (started("1"), saved("1", "x." + format, format=format)):
        one.tell(event)
    executed = only(one.tell(finished("1")), "executed")[0]
    assert list(executed["output"]) == output
    assert executed["output"].get("animated", [True]) == [True]


def test_what_is_told_does_not_change_afterwards():
    one = teller({"1": n("SaveImage")}, ["1"])
    for event in (started("1"), saved("1", "a.png")):
        one.tell(event)
    first = only(one.tell(finished("1")), "executed")[0]
    one.tell(saved("1", "b.png", is_cached=True))
    assert len(first["output"]["images"]) == 1


def test_a_node_that_runs_again_tells_its_new_files_alone():
    one = teller({"1": n("SaveImage")}, ["1"])
    for event in (cached("1"), saved("1", "a.png", is_cached=True), started("1"), saved("1", "b.png")):
        one.tell(event)
    assert [item["filename"] for item in one.outputs["1"]["images"]] == ["b.png"]


@pytest.mark.parametrize(
    ("node", "shown", "parent"),
    [("12:3", "12", "12"), ("12:4:3", "12", "12:4"), ("12.add.next", "12", "12.add"), ("7:1", "7:1", None),
     ("12", "12", None), ("99:1", "99:1", "99")],
)  # fmt: skip
def test_a_node_inside_another_is_shown_by_the_outer_one(node, shown, parent):
    graph = {"12": n("workflow:sharpen"), "7:1": n("Const")}
    one = teller(graph, ["12"])
    state, executing = one.tell(started(node))[1:]
    assert (executing.data["node"], executing.data["display_node"]) == (node, shown)
    row = state.data["nodes"][node]
    assert (row["display_node_id"], row["real_node_id"], row["parent_node_id"]) == (shown, shown, parent)
    assert meta_of([node], graph) == {
        node: {"node_id": node, "display_node": shown, "parent_node": parent, "real_node_id": shown}
    }


def test_a_preview_is_a_picture_with_its_place():
    one = teller({"1": n("KSampler")}, ["1"])
    one.tell(started("1"))
    event = as_json(NodePreview("x", "1", "jpeg", b"picture"))
    (message,) = one.tell(event, b"picture")
    assert (message.type, message.image, message.format) == ("preview", b"picture", "jpeg")
    assert message.data == {
        "node_id": "1", "prompt_id": "r", "display_node_id": "1", "parent_node_id": None, "real_node_id": "1",
        "image_type": "image/jpeg",
    }  # fmt: skip


def test_events_without_a_message_tell_nothing():
    one = teller({"1": n("Const")}, ["1"])
    one.tell(started("1"))
    assert one.tell({"type": "NodeBlocked", "run": "x", "node": "1", "class_type": "T", "because": "2"}) == []
    assert one.tell({"type": "RunStarted", "run": "x", "nodes": 3}) == []
    assert one.tell({"type": "NodeProgress", "run": "x", "node": "9", "step": 1, "total": 2}) == []


def test_frames_are_laid_out_as_comfyui_lays_them_out():
    assert preview_frame(b"abc", "jpeg") == b"\0\0\0\1\0\0\0\1abc"
    assert preview_frame(b"abc", "png") == b"\0\0\0\1\0\0\0\2abc"
    frame = preview_frame_with_metadata(b"abc", {"node_id": "é"})
    event, length = struct.unpack(">II", frame[:8])
    assert (event, json.loads(frame[8 : 8 + length]), frame[8 + length :]) == (4, {"node_id": "é"}, b"abc")


def test_a_graph_of_thousands_of_nodes_in_one_chain_is_told_without_recursion():
    graph = {"0": n("Const"), **{str(index): n("Add", a=(str(index - 1), 0)) for index in range(1, 5000)}}
    one = teller(graph, ["4999"])
    one.tell(cached("4999"))
    told_cached = only(one.over("success"), "execution_cached")[0]
    assert set(told_cached["nodes"]) == set(graph)
