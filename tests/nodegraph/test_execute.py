"""A run's public face: values, expansion ids, and what contexts may do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import nodegraph.cache
from nodegraph.context import Context
from nodegraph.errors import NodeError
from nodegraph.events import NodeCached, NodePreview, NodeProgress, Noted, Saved, Shown
from nodegraph.execute import LONGEST_ID, _expansion_id
from nodegraph.session import Session
from nodegraph.spec import NODE_ATTRIBUTE, node
from tests.nodegraph import trivial
from tests.nodegraph.trivial import GATES, REGISTRY, finish, n, run, start


@node("Busy", category="t", kind="sink")
def busy(*, ctx: Context, steps: int = 3) -> str:
    for i in range(1, steps + 1):
        ctx.step(i, steps)
    ctx.save("busy/step", "txt", lambda file: file.write(b"done") and None, kind="temp")
    ctx.save("busy", "txt", lambda file: file.write(b"done") and None)
    return ctx.node


@node("Shows", category="t", kind="sink")
def shows(*, ctx: Context) -> str:
    """Has two previews made, and ends when the second is under way: the first has been told then."""
    first, second = threading.Event(), threading.Event()
    ctx.step(1, 2, lambda: (first.set(), ("png", b"picture"))[1])
    assert first.wait(trivial.PATIENCE)
    ctx.step(2, 2, lambda: (second.set(), ("png", b"another"))[1])
    assert second.wait(trivial.PATIENCE)
    return ctx.node


@node("Notes", category="t")
def notes(*, ctx: Context, number: int) -> str:
    ctx.note("one tensor matches nothing")
    ctx.note(f"the number is {number}")
    return "done"


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    specs = [getattr(node, NODE_ATTRIBUTE) for node in (busy, shows, notes)]
    with trivial.session(tmp_path, REGISTRY.with_specs(specs), previews=True) as made:
        yield made
        for gate in GATES.values():
            gate.opened.set()


def test_progress_and_saved_files_are_events(session: Session) -> None:
    found = run(session, {"b": n("Busy")})
    assert (found.values, found.ran) == ({"b": "b"}, ["b"])
    told = found.of(NodeProgress)
    assert [(event.step, event.total) for event in told] == [(1, 3), (2, 3), (3, 3)]
    assert told[0].per_second is None and told[0].seconds_left is None
    assert told[1].per_second is not None and told[1].per_second > 0
    assert told[1].seconds_left == pytest.approx(1 / told[1].per_second)
    assert told[2].seconds_left == 0
    saved = [(event.file.subfolder, event.file.filename, event.file.type, event.is_cached) for event in found.of(Saved)]
    assert saved == [("busy", "step_00001_.txt", "temp", False), ("", "busy_00001_.txt", "output", False)]
    again = run(session, {"b": n("Busy")})
    assert (again.ran, again.cached) == ([], ["b"])
    assert [(event.file.filename, event.is_cached) for event in again.of(Saved)] == [
        ("step_00001_.txt", True),
        ("busy_00001_.txt", True),
    ]


def test_previews_are_events(session: Session) -> None:
    found = run(session, {"a": n("Shows")})
    first = found.of(NodePreview)[0]
    assert (first.node, first.format, first.image) == ("a", "png", b"picture")


def test_the_text_of_a_sink_is_shown_also_from_the_cache(session: Session) -> None:
    for is_cached in (False, True):
        found = run(session, {"a": n("Shows")})
        assert [(event.node, event.text, event.is_cached) for event in found.of(Shown)] == [("a", "a", is_cached)]


def test_a_note_is_told_once_and_again_from_memory_and_from_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodegraph.cache, "OPEN_SECONDS", -1.0)  # so that small values are written, too
    registry = REGISTRY.with_specs([getattr(notes, NODE_ATTRIBUTE)])
    document = {"r": n("Range", n=2), "a": n("Notes", number=("r", 0))}
    expected = [
        ("a", "one tensor matches nothing"), ("a", "the number is 0"), ("a", "the number is 1"),
    ]  # fmt: skip
    tiers: list[list[str]] = []
    for _ in range(2):
        with trivial.session(tmp_path, registry, cache_dir=tmp_path / "cache") as session:
            for sink in ("s", "t"):
                found = run(session, {**document, sink: n("SaveText", value=("a", 0), prefix=f"{len(tiers)}")})
                assert [(event.node, event.text) for event in found.of(Noted)] == expected
                tiers.append([event.tier for event in found.of(NodeCached) if event.node == "a"])
    assert tiers == [[], ["memory"], ["disk"], ["memory"]]


def test_equal_sinks_of_a_run_save_once_and_both_tell(session: Session) -> None:
    found = run(session, {"a": n("Busy"), "b": n("Busy")})
    assert (found.ran, found.cached) == (["a"], ["b"])
    assert [(event.node, event.is_cached) for event in found.of(Saved)] == [
        ("a", False),
        ("a", False),
        ("b", True),
        ("b", True),
    ]


def test_values_that_are_not_there_are_told(session: Session) -> None:
    running = start(session, {"g": n("Patient", name="g"), "out": n("Show", value=("g", 0))})
    GATES["g"].wait_for_entry()
    running.cancel()
    assert finish(running).status == "cancelled"
    with pytest.raises(NodeError, match=r"node out \(Show\): did not run: the run was cancelled"):
        running.value("out")


def test_ids_of_expansions_are_short_and_never_meet() -> None:
    assert _expansion_id("l", "next") == "l.next"
    found: set[str] = set()
    name = "loop"
    for _ in range(200):
        for own in ("next", "add"):
            made = _expansion_id(name, own)
            assert made not in found and len(made) <= LONGEST_ID
            found.add(made)
        name = _expansion_id(name, "next")
