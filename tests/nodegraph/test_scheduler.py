"""What runs, what is at hand, and that every run ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodegraph.context import Context
from nodegraph.errors import Interrupted, NodeError
from nodegraph.events import (
    Event,
    NodeBlocked,
    NodeCached,
    NodeFailed,
    NodeFinished,
    NodeStarted,
    RunFinished,
    RunStarted,
)
from nodegraph.execute import Run
from nodegraph.session import Running, Session
from nodegraph.spec import NODE_ATTRIBUTE, node
from nodegraph.types import Lazy
from nodegraph.workflow import Workflow
from tests.nodegraph import trivial
from tests.nodegraph.trivial import GATES, PATIENCE, REGISTRY, finish, n, run, start

DIAMOND = {
    "base": n("Const", value=7),
    "left": n("Add", a=("base", 0), b=1),
    "right": n("Mul", a=("base", 0), b=2),
    "join": n("Mul", a=("left", 0), b=("right", 0)),
    "out": n("Show", value=("join", 0)),
}


def start_with(session: Session, document: Any, emit: Callable[[Run, Event], None]) -> tuple[Run, list[Event]]:
    """A run whose events are seen under the lock, as they happen."""
    prepared = session.prepare(Workflow.of(document))
    events: list[Event] = []
    made: list[Run] = []

    def note(event: Event) -> None:
        events.append(event)
        if made:
            emit(made[0], event)

    made.append(Run(session, "r", prepared.plan, prepared.planner, document=None, scope="s", priority=0,
                    wants_values=False, emit=note))  # fmt: skip
    made[0].start()
    assert made[0].over.wait(PATIENCE), f"the run hangs after {events[-3:]}"
    return made[0], events


def test_a_first_run_runs_everything_and_a_second_nothing(session: Session) -> None:
    first = run(session, DIAMOND)
    assert first.values == {"out": 3 * 8 + 5 * (3 * 7 + 5 * 2)}
    assert first.ran == ["base", "left", "right", "join", "out"]
    second = run(session, DIAMOND)
    assert (second.values, second.ran, second.cached) == (first.values, [], ["out"])
    assert second.finished.unneeded == 4


def test_an_edit_runs_only_what_follows_it(session: Session) -> None:
    run(session, DIAMOND)
    edited = run(session, {**DIAMOND, "right": n("Mul", a=("base", 0), b=9)})
    assert edited.values == {"out": 3 * 8 + 5 * (3 * 7 + 5 * 9)}
    assert edited.ran == ["right", "join", "out"]
    assert sorted(edited.cached) == ["base", "left"]


def test_swapped_inputs_are_another_result(session: Session) -> None:
    run(session, DIAMOND)
    swapped = run(session, {**DIAMOND, "join": n("Mul", a=("right", 0), b=("left", 0))})
    assert swapped.values == {"out": 3 * (3 * 7 + 5 * 2) + 5 * 8}
    assert swapped.ran == ["join", "out"]


def test_the_slots_of_a_node_are_told_apart(session: Session) -> None:
    document = {"d": n("DivMod", a=17, b=5), "q": n("Show", value=("d", "quotient")), "r": n("Show", value=("d", 1))}
    found = run(session, document)
    assert found.values == {"q": 3, "r": 2}
    assert found.ran == ["d", "q", "r"]


def test_equal_work_runs_once_in_a_run(session: Session) -> None:
    document = {
        "a": n("Const", value=1), "b": n("Const", value=1), "c": n("Add", a=("a", 0)), "d": n("Add", a=("b", 0)),
        "out": n("Show", value=("c", 0)), "same": n("Show", value=("d", 0)), "sum": n("Mul", a=("c", 0), b=("d", 0)),
        "last": n("Show", value=("sum", 0)),
    }  # fmt: skip
    found = run(session, document)
    assert found.values == {"out": 2, "same": 2, "last": 16}
    assert found.ran == ["a", "c", "out", "sum", "last"]
    assert sorted(found.cached) == ["d", "same"]


@pytest.mark.parametrize("keeps", [True, False])
def test_a_long_chain_runs_without_recursion(tmp_path: Path, keeps: bool) -> None:
    length = 100_000 if keeps else 20_000
    document = {"0": n("Const")} | {str(i): n("Add", a=(str(i - 1), 0)) for i in range(1, length)}
    document["out"] = n("Show", value=(str(length - 1), 0))
    with trivial.session(tmp_path, keeps=keeps) as session:
        first = run(session, document)
        assert first.values == {"out": length - 1}
        assert len(first.ran) == length + 1
        again = run(session, document)
        assert again.ran == ([] if keeps else first.ran)


def test_without_keeping_each_value_goes_after_its_last_use(tmp_path: Path) -> None:
    with trivial.session(tmp_path, keeps=False) as session:
        first = run(session, DIAMOND)
        assert first.values == {"out": 3 * 8 + 5 * 31}
        assert first.ran == ["base", "left", "right", "join", "out"]
        assert len(session.cache) == 0
        assert session.ledger("cpu").used == 0
        assert run(session, DIAMOND).ran == first.ran


def test_a_node_that_always_runs_runs_each_time_and_takes_what_follows_along(session: Session) -> None:
    document = {"a": n("Const", value=2), "b": n("Always", a=("a", 0)), "out": n("Show", value=("b", 0))}
    assert run(session, document).ran == ["a", "b", "out"]
    again = run(session, document)
    assert (again.values, again.ran, again.cached) == ({"out": 2}, ["b", "out"], ["a"])


# Failing


def test_a_failing_node_stops_only_what_depends_on_it(session: Session) -> None:
    document = {
        "a": n("Const", value=1), "bad": n("Fail", a=("a", 0)), "after": n("Add", a=("bad", 0)),
        "x": n("Show", value=("after", 0)), "good": n("Add", a=("a", 0)), "y": n("Show", value=("good", 0)),
    }  # fmt: skip
    found = run(session, document)
    assert found.status == "error"
    assert found.values == {"y": 2}
    assert sorted(found.ran) == ["a", "good", "y"]
    assert list(found.errors) == ["bad"]
    assert [(event.node, event.because) for event in found.of(NodeBlocked)] == [("after", "bad"), ("x", "bad")]
    assert (found.finished.failed, found.finished.blocked) == (1, 2)
    mended = run(session, {**document, "bad": n("Add", a=("a", 0))})
    assert (mended.values, mended.ran) == ({"x": 3, "y": 2}, ["after", "x"])  # `bad` is now the same work as `good`


def test_equal_failing_nodes_are_called_once(session: Session) -> None:
    document = {"p": n("Fail"), "q": n("Fail"), "x": n("Show", value=("p", 0)), "y": n("Show", value=("q", 0))}
    found = run(session, document)
    assert len(found.of(NodeFailed)) == 1
    assert found.finished.blocked == 3
    assert found.ran == []


def test_the_error_of_a_target_is_that_of_the_node_behind_it(session: Session) -> None:
    running = start(session, {"p": n("Fail"), "x": n("Show", value=("p", 0))})
    assert finish(running).status == "error"
    with pytest.raises(NodeError, match=r"node p \(Fail\): it broke"):
        running.value("x")


def test_an_exit_inside_a_node_is_its_failure(session: Session) -> None:
    @node("Exit", category="t")
    def leave() -> int:
        raise SystemExit(3)

    @node("ExitAsync", category="t")
    async def leave_async() -> int:
        raise SystemExit(4)

    session.registry = REGISTRY.with_specs([getattr(leave, NODE_ATTRIBUTE), getattr(leave_async, NODE_ATTRIBUTE)])
    document = {"p": n("Exit"), "q": n("ExitAsync"), "x": n("Show", value=("p", 0)), "y": n("Show", value=("q", 0))}
    found = run(session, document)
    assert {name: error.message for name, error in found.errors.items()} == {"p": "SystemExit: 3", "q": "SystemExit: 4"}
    assert run(session, DIAMOND).status == "success"  # the lane and the loop are alive


def test_a_fault_of_the_engine_ends_the_run(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> str:
        raise RuntimeError("planted")

    with monkeypatch.context() as patch:
        patch.setattr(session, "why", broken)
        found = run(session, DIAMOND)
        assert (found.status, found.ran) == ("cancelled", [])
        assert "the engine failed: RuntimeError('planted')" in str(found.errors["base"])
        assert run(session, {"a": n("AsyncAdd", a=1), "out": n("Show", value=("a", 0))}).status == "cancelled"
    assert run(session, DIAMOND).ran == ["base", "left", "right", "join", "out"]


# Lists


def test_a_list_maps_what_follows_and_a_list_input_takes_it_whole(session: Session) -> None:
    document = {
        "r": n("Range", n=4), "m": n("Mul", a=("r", 0), b=1), "s": n("Sum", items=("m", 0)), "out": n("Show",
        value=("s", 0)),
        "each": n("Show", value=("m", 0)),
    }  # fmt: skip
    found = run(session, document)
    assert found.values == {"out": 5 + 2 * 8 + 3 * 11 + 4 * 14, "each": (5, 8, 11, 14)}
    assert found.ran == ["r", "m", "s", "out", "each"]


def test_shorter_lists_repeat_their_last_item(session: Session) -> None:
    document = {
        "a": n("Range", n=2),
        "b": n("Range", n=4),
        "m": n("Mul", a=("a", 0), b=("b", 0)),
        "out": n("Show", value=("m", 0)),
    }
    assert run(session, document).values == {"out": (0, 3 + 5, 3 + 10, 3 + 15)}


def test_an_empty_list_runs_what_follows_no_times(session: Session) -> None:
    document = {
        "a": n("Range", n=0), "b": n("Range", n=3), "m": n("Mul", a=("a", 0), b=("b", 0)), "s": n("Sum", items=("m",
        0)),
        "out": n("Show", value=("s", 0)), "each": n("Show", value=("m", 0)), "f": n("Fail", a=("a", 0)),
        "ok": n("Show", value=("f", 0)),
    }  # fmt: skip
    found = run(session, document)
    assert found.values == {"out": 0, "each": (), "ok": ()}
    assert found.status == "success"
    assert run(session, document).ran == []


def test_a_list_into_a_control_node_is_refused(session: Session) -> None:
    document = {
        "r": n("Range", n=2), "c": n("Echo", value=("r", 0)),
        "s": n("Switch", condition=("c", 0), on_true=("r", 0), on_false=("r", 0)), "out": n("Show", value=("s", 0)),
    }  # fmt: skip
    found = run(session, document)
    assert "condition got a list over its link" in found.errors["s"].message
    assert found.ran == ["r", "c"]


def test_a_control_node_forwards_a_list_as_it_is(session: Session) -> None:
    document = {
        "r": n("Range", n=3), "s": n("Switch", condition=True, on_true=("r", 0), on_false=1), "m": n("Add", a=("s", 0)),
        "out": n("Show", value=("m", 0)),
    }  # fmt: skip
    found = run(session, document)
    assert found.values == {"out": (1, 2, 3)}
    assert found.ran == ["s", "r", "m", "out"]


# Lazy inputs


def switched(condition: bool, a: int, b: int) -> dict[str, Any]:
    return {
        "a": n("Const", value=a), "b": n("Const", value=b), "c": n("Echo", value=condition),
        "s": n("Switch", condition=("c", 0), on_true=("a", 0), on_false=("b", 0)), "add": n("Add", a=("s", 0)),
        "out": n("Show", value=("add", 0)),
    }  # fmt: skip


def test_an_unused_branch_does_not_run_and_does_not_invalidate(session: Session) -> None:
    first = run(session, switched(True, 1, 2))
    assert (first.values, first.ran) == ({"out": 2}, ["c", "s", "a", "add", "out"])
    edited = run(session, switched(True, 1, 99))
    assert (edited.values, edited.ran, edited.cached) == ({"out": 2}, ["s"], ["c", "out"])
    other = run(session, switched(False, 1, 99))
    assert (other.values, other.ran) == ({"out": 100}, ["c", "s", "b", "add", "out"])


def test_a_switch_shares_keys_with_the_branch_it_forwards(session: Session) -> None:
    run(session, switched(True, 1, 2))
    direct = run(session, {"a": n("Const", value=1), "add": n("Add", a=("a", 0)), "out": n("Show", value=("add", 0))})
    assert (direct.values, direct.ran, direct.cached) == ({"out": 2}, [], ["out"])


def test_a_control_node_may_be_the_target(session: Session) -> None:
    document = switched(False, 4, 6)
    found = run(session, document, ["s"])
    assert (found.values, found.ran) == ({"s": 6}, ["c", "s", "b"])
    nested = {**document, "t": n("Switch", condition=True, on_true=("s", 0), on_false=1)}
    assert run(session, nested, ["t"]).values == {"t": 6}
    literal = {"t": n("Switch", condition=True, on_true="now", on_false=1)}
    assert run(session, literal, ["t"]).values == {"t": "now"}
    missing = {"f": n("Fail"), "t": n("Switch", condition=True, on_true=("f", 0), on_false=1)}
    assert (run(session, missing, ["t"]).status, run(session, missing, ["t"]).values) == ("error", {})


def test_a_control_node_awaits_one_handle_and_forwards_another(session: Session) -> None:
    document = {
        "a": n("Const", value=-1), "b": n("Const", value=5), "p": n("IfPositive", a=("a", 0), b=("b", 0)),
        "out": n("Show", value=("p", 0)),
    }  # fmt: skip
    found = run(session, document)
    assert (found.values, found.ran) == ({"out": 5}, ["a", "p", "b", "out"])
    again = run(session, document)
    assert (again.values, again.ran, sorted(again.cached)) == ({"out": 5}, ["p"], ["a", "out"])


def test_a_control_node_awaits_two_handles_at_once(session: Session) -> None:
    document = {
        "a": n("Const", value=3),
        "b": n("Add", a=("a", 0)),
        "p": n("Both", a=("a", 0), b=("b", 0)),
        "out": n("Show", value=("p", 0)),
    }
    found = run(session, document)
    assert found.values == {"out": 34}
    assert sorted(found.ran) == ["a", "b", "out", "p"]
    literal = run(session, {"p": n("Both", a=1, b=2), "out": n("Show", value=("p", 0))})
    assert literal.values == {"out": 12}


def test_awaiting_what_fails_blocks_the_control_node(session: Session) -> None:
    document = {"f": n("Fail"), "p": n("IfPositive", a=("f", 0), b=1), "out": n("Show", value=("p", 0))}
    found = run(session, document)
    assert list(found.errors) == ["f"]
    assert [(event.node, event.because) for event in found.of(NodeBlocked)] == [("p", "f"), ("out", "f")]


def test_a_control_node_may_catch_what_fails(session: Session) -> None:
    document = {
        "f": n("Fail"),
        "b": n("Const", value=8),
        "p": n("Orelse", a=("f", 0), b=("b", 0)),
        "out": n("Show", value=("p", 0)),
    }
    found = run(session, document)
    assert (found.values, found.ran) == ({"out": 8}, ["p", "b", "out"])
    assert list(found.errors) == ["f"]


def test_a_chain_of_switches_runs_and_changes_nothing_when_hit(session: Session) -> None:
    length = 2000
    document: dict[str, Any] = {"0": n("Const", value=3)}
    for i in range(1, length):
        document[str(i)] = n("Switch", condition=bool(i % 2), on_true=(str(i - 1), 0), on_false=(str(i - 1), 0))
    document["out"] = n("Show", value=(str(length - 1), 0))
    assert run(session, document).values == {"out": 3}
    again = run(session, document)
    assert (again.values, again.cached, len(again.ran)) == ({"out": 3}, ["out"], length - 1)


# Expansion


@pytest.mark.parametrize("kind", ["Loop", "Unrolled"])
def test_a_loop_of_ten_thousand_runs(session: Session, kind: str) -> None:
    document = {
        "a": n("Const", value=5),
        "l": n(kind, times=10_000, value=("a", 0), step=2),
        "out": n("Show", value=("l", 0)),
    }
    found = run(session, document)
    assert found.values == {"out": 20_005}
    assert len(found.ran) == (20_003 if kind == "Loop" else 10_003)
    again = run(session, document)
    assert (again.values, again.cached) == ({"out": 20_005}, ["out"])
    assert max(map(len, found.ran)) < 200  # ids do not grow with the depth of a loop


def test_a_longer_loop_runs_only_its_new_rounds(session: Session) -> None:
    def document(times: int) -> dict[str, Any]:
        return {"l": n("Loop", times=times, value=1), "out": n("Show", value=("l", 0))}

    run(session, document(3))
    longer = run(session, document(5))
    assert longer.values == {"out": 6}
    added = [name for name in longer.ran if name.endswith(".add")]
    assert added == ["l.next.next.next.add", "l.next.next.next.next.add"]


def test_unrolled_work_shares_keys_with_the_same_work_written_out(session: Session) -> None:
    run(
        session,
        {"a": n("Const", value=1), "l": n("Unrolled", times=2, value=("a", 0)), "out": n("Show", value=("l", 0))},
    )
    written = {
        "a": n("Const", value=1),
        "b": n("Add", a=("a", 0), b=1),
        "c": n("Add", a=("b", 0), b=1),
        "out": n("Show", value=("c", 0)),
    }
    assert run(session, written).ran == []


def test_a_wrong_expansion_fails_its_node_and_no_more(session: Session) -> None:
    for kind, message in [("Ad", "did you mean 'Add'?"), ("Sum", "items: is missing")]:
        found = run(
            session, {"e": n("Expand", kind=kind, value=1), "out": n("Show", value=("e", 0)), "ok": n("Show", value=1)}
        )
        assert message in found.errors["e"].message
        assert (found.values, found.finished.blocked) == ({"ok": 1}, 1)
    assert run(session, {"e": n("Expand", kind="Add", value=1), "out": n("Show", value=("e", 0))}).values == {"out": 2}


def test_an_expansion_of_a_name_already_taken_is_refused(session: Session) -> None:
    @node("Twice", category="t")
    async def twice(*, ctx: Context, value: Lazy[int]) -> int:
        ctx.expand("Add", name="same", a=value)
        return ctx.expand("Add", name="same", a=value)[0]  # type: ignore[return-value]

    session.registry = REGISTRY.with_specs([getattr(twice, NODE_ATTRIBUTE)])
    found = run(session, {"e": n("Twice", value=1), "out": n("Show", value=("e", 0))})
    assert "made twice" in found.errors["e"].message


def test_only_control_nodes_may_expand(session: Session) -> None:
    @node("Sly", category="t")
    def sly(*, ctx: Context) -> int:
        return ctx.expand("Const")[0]  # type: ignore[return-value]

    session.registry = REGISTRY.with_specs([getattr(sly, NODE_ATTRIBUTE)])
    found = run(session, {"e": n("Sly"), "out": n("Show", value=("e", 0))})
    assert "only a control node" in found.errors["e"].message


# Two runs at once


def test_two_runs_share_a_node_in_flight(session: Session) -> None:
    document = {"g": n("Gated", name="g", a=4), "add": n("Add", a=("g", 0)), "out": n("Show", value=("add", 0))}
    first = start(session, document)
    GATES["g"].wait_for_entry()
    second = start(session, document)
    GATES["g"].opened.set()
    one, two = finish(first), finish(second)
    assert one.values == two.values == {"out": 5}
    assert GATES["g"].calls == 1
    assert sorted(one.ran + two.ran) == ["add", "g", "out"]


@pytest.mark.parametrize("keeps", [True, False])
def test_a_run_takes_over_what_a_cancelled_one_was_making(tmp_path: Path, keeps: bool) -> None:
    document = {"g": n("Patient", name="g", a=4), "out": n("Show", value=("g", 0))}
    with trivial.session(tmp_path, keeps=keeps) as session:
        first = start(session, document)
        GATES["g"].wait_for_entry()
        second = start(session, document)
        first.cancel()
        assert finish(first).status == "cancelled"
        GATES["g"].opened.set()
        two = finish(second)
        assert (two.status, two.values, two.ran) == ("success", {"out": 4}, ["g", "out"])


def test_a_run_tries_on_its_own_what_failed_in_another(session: Session) -> None:
    @node("FailOnce", category="t")
    def fail_once(*, name: str) -> int:
        gate = GATES[name]
        gate.calls += 1
        gate.entered.set()
        assert gate.opened.wait(PATIENCE)
        if gate.calls == 1:
            raise ValueError("once")
        return gate.calls

    session.registry = REGISTRY.with_specs([getattr(fail_once, NODE_ATTRIBUTE)])
    document = {"f": n("FailOnce", name="f"), "out": n("Show", value=("f", 0))}
    first = start(session, document)
    GATES["f"].wait_for_entry()
    second = start(session, document)
    GATES["f"].opened.set()
    assert finish(first).status == "error"
    two = finish(second)
    assert (two.status, two.values, two.ran) == ("success", {"out": 2}, ["f", "out"])


def test_a_waiting_run_may_be_cancelled_and_more_than_once(session: Session) -> None:
    document = {"g": n("Gated", name="g", a=4), "out": n("Show", value=("g", 0))}
    first = start(session, document)
    GATES["g"].wait_for_entry()
    second = start(session, document)
    second.cancel()
    second.cancel()
    two = finish(second)
    assert (two.status, two.ran) == ("cancelled", [])
    GATES["g"].opened.set()
    assert finish(first).values == {"out": 4}


def test_a_run_that_waits_and_works_may_be_cancelled_more_than_once(session: Session) -> None:
    shared = {"g": n("Gated", name="g", a=4), "out": n("Show", value=("g", 0))}
    first = start(session, shared)
    GATES["g"].wait_for_entry()
    second = start(session, {**shared, "h": n("GatedIo", name="h"), "more": n("Show", value=("h", 0))})
    GATES["h"].wait_for_entry()
    second.cancel()
    second.cancel()
    assert not second._run.over.is_set()  # a node of it still runs
    GATES["h"].opened.set()
    assert finish(second).status == "cancelled"
    GATES["g"].opened.set()
    assert finish(first).status == "success"


def test_many_runs_of_one_document_from_many_threads_do_the_work_once(session: Session) -> None:
    document = {str(i): n("Add", a=i % 7, b=i) for i in range(50)} | {"out": n("Show", value=("49", 0))}
    document |= {f"s{i}": n("Show", value=(str(i), 0)) for i in range(50)}
    barrier = threading.Barrier(4)
    found: list[trivial.Outcome] = []

    def work() -> None:
        barrier.wait(PATIENCE)
        found.append(run(session, document, scope=threading.current_thread().name))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(found) == 4
    assert all(outcome.values == found[0].values for outcome in found)
    assert sum(len(outcome.ran) for outcome in found) == 50 + 50


def test_nodes_of_other_lanes_run_at_the_same_time(session: Session) -> None:
    document = {
        "a": n("Gated", name="a"),
        "b": n("GatedIo", name="b"),
        "x": n("Show", value=("a", 0)),
        "y": n("Show", value=("b", 0)),
    }
    running = start(session, document)
    GATES["a"].wait_for_entry()
    GATES["b"].wait_for_entry()
    GATES["a"].opened.set()
    GATES["b"].opened.set()
    assert sorted(finish(running).ran) == ["a", "b", "x", "y"]


def test_async_nodes_overlap(session: Session) -> None:
    document = {
        "a": n("Meet", name="m", who="a", a=1), "b": n("Meet", name="m", who="b", a=2),
        "x": n("Show", value=("a", 0)), "y": n("Show", value=("b", 0)),
    }  # fmt: skip
    found = run(session, document)
    assert found.values == {"x": 1, "y": 2}
    assert sorted(found.ran) == ["a", "b", "x", "y"]
    assert run(session, document).ran == []


# Cancelling


@pytest.mark.parametrize("kind", ["Patient", "Forever"])
def test_a_cancelled_run_ends_and_the_next_one_goes_on_from_there(session: Session, kind: str) -> None:
    document = {
        "a": n("Const", value=1),
        "b": n("Add", a=("a", 0)),
        "c": n("Show", value=("b", 0)),
        "g": n(kind, name="g"),
        "out": n("Show", value=("g", 0)),
    }
    running = start(session, document)
    GATES["g"].wait_for_entry()
    running.cancel()
    found = finish(running)
    assert found.status == "cancelled"
    assert "g" not in found.ran
    again = run(session, {name: document[name] for name in "abc"})
    assert set(again.ran).isdisjoint(found.ran)
    assert again.values == {"c": 2}


def test_a_run_may_be_cancelled_at_every_event(tmp_path: Path) -> None:
    document = switched(True, 1, 2) | {
        "m": n("AsyncAdd", a=("a", 0)), "l": n("Loop", times=2, value=("m", 0)), "last": n("Show", value=("l", 0)),
        "p": n("Patient", name="open", a=3), "show": n("Show", value=("p", 0)), "io": n("GatedIo", name="open"),
        "t": n("Show", value=("io", 0)), "w": n("IfPositive", a=("m", 0), b=2), "u": n("Show", value=("w", 0)),
    }  # fmt: skip
    GATES["open"].opened.set()
    with trivial.session(tmp_path) as session:
        scratch = run(session, document)
    number, ended = 0, False
    while not ended:
        with trivial.session(tmp_path) as session:
            seen = 0

            def cancel(made: Run, _: Event, at: int = number) -> None:
                nonlocal seen
                seen += 1
                if seen == at + 1:
                    made.cancel()

            made, events = start_with(session, document, cancel)
            ended = seen <= number
            assert isinstance(events[-1], RunFinished)
            assert not session.flights
            assert all(
                entry.pins == 0 for entry in session.cache._entries.values() if entry.key not in targets_of(made)
            )
            made.release()
            assert all(entry.pins == 0 for entry in session.cache._entries.values())
            after = run(session, document)
            assert (after.status, after.values) == ("success", scratch.values)
            control = {"s", "w", "l", "l.next", "l.next.next"}
            assert set(after.ran) - control == set(scratch.ran) - control - set(made.ran)
        number += 1
    assert number > 30


def targets_of(made: Run) -> set[bytes]:
    return {made.step(name).key or b"" for name in made.plan.targets}


def test_a_failure_at_every_node_leaves_no_pins_and_a_mended_run_gives_the_same(tmp_path: Path) -> None:
    document = switched(False, 1, 2) | {
        "l": n("Unrolled", times=2, value=("add", 0)),
        "last": n("Show", value=("l", 0)),
    }
    with trivial.session(tmp_path) as session:
        scratch = run(session, document)
    for name in document:
        with trivial.session(tmp_path) as session:
            broken = {
                **document,
                name: n("Show" if name in ("out", "last") else "Echo", value=("boom", 0)),
                "boom": n("Fail"),
            }
            failed = run(session, broken)
            assert failed.status == "error" if name != "a" else failed.status == "success"
            assert all(entry.pins == 0 for entry in session.cache._entries.values())
            assert run(session, document).values == scratch.values


def test_a_node_that_interrupts_itself_cancels_its_run(session: Session) -> None:
    @node("Stop", category="t")
    def stop(*, name: str) -> int:
        assert GATES[name].opened.wait(PATIENCE)
        raise Interrupted

    session.registry = REGISTRY.with_specs([getattr(stop, NODE_ATTRIBUTE)])
    shared = {"g": n("GatedIo", name="g"), "x": n("Show", value=("g", 0))}
    other = start(session, shared)
    GATES["g"].wait_for_entry()
    running = start(session, {
        **shared, "stop": n("Stop", name="stop"), "y": n("Show", value=("stop", 0)), "f": n("Forever", name="f"),
        "z": n("Show", value=("f", 0)), "w": n("IfPositive", a=("g", 0), b=1), "v": n("Show", value=("w", 0)),
        "later": n("Const", value=77), "u": n("Show", value=("later", 0)),
    })  # fmt: skip
    GATES["f"].wait_for_entry()
    GATES["stop"].opened.set()
    found = finish(running)
    assert found.status == "cancelled"
    assert "later" not in found.ran  # what had not begun does not begin
    GATES["g"].opened.set()
    assert finish(other).status == "success"


def test_an_async_node_cancelled_before_its_first_line_ends(session: Session) -> None:
    blocked = threading.Event()
    entered = threading.Event()

    async def hold() -> None:
        entered.set()
        assert blocked.wait(PATIENCE)

    hold_up = session.spawn(hold())
    assert entered.wait(PATIENCE)
    running = start(session, {"a": n("AsyncAdd", a=1), "out": n("Show", value=("a", 0))})
    running.cancel()
    blocked.set()
    hold_up.result(PATIENCE)
    assert (finish(running).status, running.ran) == ("cancelled", [])


def test_closing_a_session_ends_its_runs(tmp_path: Path) -> None:
    session = trivial.session(tmp_path)
    document = {
        "f": n("Forever", name="f"),
        "x": n("Show", value=("f", 0)),
        "p": n("Patient", name="p"),
        "y": n("Show", value=("p", 0)),
    }
    running = start(session, document)
    GATES["f"].wait_for_entry()
    GATES["p"].wait_for_entry()
    session.close()
    assert (finish(running).status, running.ran) == ("cancelled", [])
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("nodegraph-")]


def test_what_an_async_node_leaves_behind_ends_with_the_session(tmp_path: Path) -> None:
    ended = threading.Event()

    @node("Litter", category="t")
    async def litter() -> int:
        async def linger() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        kept.append(asyncio.ensure_future(linger()))
        await asyncio.sleep(0)
        return 1

    kept: list[Any] = []
    with trivial.session(tmp_path, REGISTRY.with_specs([getattr(litter, NODE_ATTRIBUTE)])) as session:
        assert run(session, {"a": n("Litter"), "out": n("Show", value=("a", 0))}).values == {"out": 1}
    assert ended.is_set()


# Memory and pins


def test_a_finished_run_holds_only_its_targets(session: Session) -> None:
    running = start(session, DIAMOND)
    assert running.wait().status == "success"
    key = running.plan.steps["out"].key
    assert [entry.key for entry in session.cache._entries.values() if entry.pins] == [key]
    assert running.value("out") == 3 * 8 + 5 * 31
    running.release()
    running.release()
    assert all(entry.pins == 0 for entry in session.cache._entries.values())


def test_a_run_in_a_cache_too_small_for_anything_gives_the_same(tmp_path: Path) -> None:
    with trivial.session(tmp_path, ram_limit=1) as session:
        first = run(session, DIAMOND)
        assert first.values == {"out": 3 * 8 + 5 * 31}
        assert first.ran == ["base", "left", "right", "join", "out"]
        assert run(session, DIAMOND).ran == first.ran
        assert session.ledger("cpu").used == 0


def test_a_released_value_is_told_as_gone(tmp_path: Path) -> None:
    with trivial.session(tmp_path, ram_limit=1) as session:
        running = start(session, DIAMOND)
        running.wait()
        running.release()
        with pytest.raises(NodeError, match="node out"):
            running.value("out")


# Events


def test_events_come_in_order_and_add_up(session: Session) -> None:
    found = run(session, DIAMOND)
    assert isinstance(found.events[0], RunStarted) and found.events[0].nodes == 5
    assert isinstance(found.events[-1], RunFinished)
    for name in DIAMOND:
        own = [type(event) for event in found.events if getattr(event, "node", None) == name]
        assert own == [NodeStarted, NodeFinished]
    assert (found.finished.ran, found.finished.cached, found.finished.unneeded) == (5, 0, 0)
    again = run(session, DIAMOND)
    assert [(event.node, event.tier) for event in again.of(NodeCached)] == [("out", "memory")]


def test_lower_priority_numbers_go_first(session: Session) -> None:
    holding = start(session, {"g": n("Gated", name="g"), "x": n("Show", value=("g", 0))})
    GATES["g"].wait_for_entry()
    order: list[str] = []

    @node("Note", category="t", cache=False)
    def note(*, name: str) -> str:
        order.append(name)
        return name

    session.registry = REGISTRY.with_specs([getattr(note, NODE_ATTRIBUTE)])
    runs: list[Running] = [
        start(session, {"a": n("Note", name=name), "out": n("Show", value=("a", 0))}, priority=priority)
        for name, priority in [("late", 5), ("first", -1), ("middle", 0)]
    ]
    GATES["g"].opened.set()
    for running in [holding, *runs]:
        finish(running)
    assert order == ["first", "middle", "late"]
