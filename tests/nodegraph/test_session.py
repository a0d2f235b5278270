"""The Python API: documents in, events and values out."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodegraph.errors import FileProblem, NodeError, NodegraphError, WorkflowError
from nodegraph.events import NodeFinished, RunFinished, RunStarted, Saved, as_json
from nodegraph.files import claim_name
from nodegraph.registry import Registry
from nodegraph.session import Session, Settings
from nodegraph.workflow import Workflow
from tests.nodegraph import trivial
from tests.nodegraph.trivial import GATES, PATIENCE, n, run

SUM = {
    "nodegraph": 1, "name": "sum",
    "nodes": {
        "a": n("Const", value=1), "d": n("DivMod", a=("a", 0), b=2), "s": n("Add", a=("d", 1), b=10),
        "save": {**n("SaveText", value=("s", 0)), "_meta": {"title": "Keep it"}},
    },
    "inputs": {"x": {"bind": ["a.value"]}, "by": {"bind": ["d.b"]}}, "outputs": {"sum": "s.INT",
    "left": "d.remainder", "half": "d.0"},
}  # fmt: skip


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows" / "sum.json").write_text(json.dumps(SUM))
    with trivial.session(tmp_path) as made:
        yield made


def test_a_workflow_is_a_function_of_its_inputs_and_sinks_do_not_run(session: Session) -> None:
    function = session.load("sum")
    found = function(x=9, by=4)
    assert (found.sum, found["left"], found.half) == (11, 1, 2)
    assert dict(found) == {"sum": 11, "left": 1, "half": 2}
    assert repr(found) == "Result(sum, left, half)" and len(found) == 3
    assert not (session.folders.output).exists()
    with pytest.raises(AttributeError, match="no output 'summ'; it has sum, left, half"):
        _ = found.summ
    with pytest.raises(WorkflowError, match="it has no input 'yb'; expected one of x, by"):
        function(yb=4)
    with pytest.raises(WorkflowError, match="node a \\(Const\\) value: 'many' is of the wrong type"):
        function(x="many")


def test_a_function_that_fails_raises_the_nodes_error_and_holds_nothing(session: Session) -> None:
    document = {
        "nodes": {"a": n("Const", value=1), "f": n("Fail")},
        "outputs": {"good": "a.0", "bad": "f.0"},
        "nodegraph": 1,
    }
    (session.folders.home / "workflows" / "bad.json").write_text(json.dumps(document))
    with pytest.raises(NodeError, match=r"node f \(Fail\): it broke"):
        session.load("bad")()
    assert all(entry.pins == 0 for entry in session.cache._entries.values())


def test_a_function_without_outputs_is_told(session: Session) -> None:
    (session.folders.home / "workflows" / "bare.json").write_text(json.dumps({"a": n("Const")}))
    with pytest.raises(WorkflowError, match="it declares no outputs"):
        session.load("bare")()
    with pytest.raises(FileProblem, match="there is no workflow 'smu'; did you mean 'sum'"):
        session.load("smu")


def test_a_run_yields_its_events_up_to_the_end(session: Session) -> None:
    running = session.run(Workflow.of(SUM), x=3)
    events = list(running)
    assert isinstance(events[0], RunStarted) and isinstance(events[-1], RunFinished)
    assert [event.node for event in events if isinstance(event, NodeFinished)] == ["a", "d", "s", "save"]
    assert [event.file.filename for event in events if isinstance(event, Saved)] == ["note_00001_.txt"]
    assert running.wait() is events[-1] and list(running) == []
    assert all(json.dumps(as_json(event)) for event in events)
    assert as_json(events[0]) == {"type": "RunStarted", "run": running.id, "nodes": 4}


def test_waiting_for_an_event_may_time_out(session: Session) -> None:
    running = trivial.start(session, {"g": n("Gated", name="g"), "out": n("Show", value=("g", 0))})
    GATES["g"].wait_for_entry()
    while running.next_event(0.05) is not None:
        pass
    assert running.finished is None
    GATES["g"].opened.set()
    assert trivial.finish(running).status == "success"


def test_targets_are_ids_outputs_or_titles(session: Session) -> None:
    for target, ran in [("d", ["a", "d"]), ("sum", ["s"]), ("Keep it", ["save"])]:
        assert run(session, SUM, [target]).ran == ran
    with pytest.raises(WorkflowError, match="target 'nothing' is not in it"):
        run(session, SUM, ["nothing"])
    doubled = {**SUM["nodes"], "again": SUM["nodes"]["save"]}  # type: ignore[dict-item]
    with pytest.raises(WorkflowError, match="is the title of nodes save, again"):
        run(session, doubled, ["Keep it"])


def test_no_targets_is_a_run_of_nothing(session: Session) -> None:
    found = run(session, SUM, [])
    assert (found.status, found.ran) == ("success", [])


@pytest.mark.parametrize(
    ("place", "message"),
    [("d.7", "no output 7"), ("d.remaindr", "did you mean 'remainder'"), ("save.0", "it has no outputs")],
)
def test_a_declared_output_that_is_not_there_is_told(session: Session, place: str, message: str) -> None:
    with pytest.raises(WorkflowError, match=message):
        session.prepare(Workflow.of({**SUM, "outputs": {"x": place}}), wants_outputs=True)


def test_values_are_read_by_slot_or_name(session: Session) -> None:
    running = trivial.start(session, SUM, ["d"])
    running.wait()
    assert (running.value("d"), running.value("d", 1), running.value("d", "remainder")) == (0, 1, 1)


def test_values_of_targets_are_read_even_when_only_the_disk_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodegraph.cache.OPEN_SECONDS", -1.0)
    for ran in (["a", "d"], []):
        with trivial.session(tmp_path, cache_dir=tmp_path / "cache") as session:
            found = run(session, SUM, ["d"])
            assert (found.values, found.ran) == ({"d": (0, 1)}, ran)


def test_an_empty_registry_stays_empty(tmp_path: Path) -> None:
    with Session(Settings(home=tmp_path, device="cpu", cache_dir=None), registry=Registry()) as session:
        assert len(session.registry) == 0


def test_user_nodes_come_from_folders_and_failures_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "nodes").mkdir()
    (tmp_path / "nodes" / "mine.py").write_text(
        "from nodegraph import node\n@node('Mine', category='t')\ndef mine(*, a: int = 1) -> int:\n    return a + 100\n"
    )
    (tmp_path / "nodes" / "bad.py").write_text("oops oops\n")
    with trivial.session(tmp_path, node_paths=(tmp_path / "nodes",)) as session:
        assert run(session, {"m": n("Mine", a=1), "out": n("Show", value=("m", 0))}).values == {"out": 101}
    assert "bad.py did not load" in caplog.text


def test_wrong_settings_are_told(tmp_path: Path) -> None:
    with pytest.raises(NodegraphError, match="device 'gpu' is unknown"):
        trivial.session(tmp_path, device="gpu")
    with pytest.raises(NodegraphError, match="does not exist"):
        trivial.session(tmp_path, node_paths=(tmp_path / "none",))


def test_weights_and_values_of_a_device_meet_in_one_budget(tmp_path: Path) -> None:
    with trivial.session(tmp_path, vram_limit=1000) as session:
        assert session.ledger("cuda") is session.ledger("cuda:0")
        assert session.ledger("cuda:1") is not session.ledger("cuda:0")
        assert session.ledger("cpu").name == "cpu"


def test_freeing_memory_says_what_is_held(session: Session) -> None:
    run(session, SUM, ["s"])
    assert session.ledger("cpu").used > 0
    assert session.free_memory() == "0.00 GiB on cpu"
    assert session.ledger("cpu").used == 0
    assert run(session, SUM, ["s"]).ran == ["a", "d", "s"]


def test_runs_from_many_threads_each_get_their_own_events(session: Session) -> None:
    found: dict[int, trivial.Outcome] = {}

    def work(number: int) -> None:
        found[number] = run(session, {"a": n("Const", value=number), "out": n("Show", value=("a", 0))})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert {number: outcome.values for number, outcome in found.items()} == {
        number: {"out": number} for number in range(8)
    }
    assert all({event.run for event in outcome.events} == {outcome.events[0].run} for outcome in found.values())


def test_the_memory_of_how_nodes_ran_is_bounded(session: Session) -> None:
    for number in range(70):
        run(session, {"a": n("Const", value=number), "out": n("Show", value=("a", 0))}, scope=str(number))
    assert len(session._recipes) <= 64 and len(session._plans) <= 64
    assert not session._runs


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    session = trivial.session(tmp_path)
    run(session, {"a": n("AsyncAdd", a=1), "out": n("Show", value=("a", 0))})
    session.close()
    session.close()


def test_ids_that_cannot_be_written_to_disk_hang_nothing(tmp_path: Path) -> None:
    one, other = "\ud800", "\udfff"
    document = {
        one: n("Const", value=3), "out": n("Show", value=(one, 0)), other: n("Always"),
        "x": n("Show", value=(other, 0)),
    }  # fmt: skip
    for _ in range(2):
        with trivial.session(tmp_path, cache_dir=tmp_path / "cache") as session:
            found = run(session, document, scope="s\ud800")
            assert (found.status, found.values) == ("success", {"out": 3, "x": 0})


def test_the_session_salt_holds_the_settings(tmp_path: Path) -> None:
    keys: list[Any] = []
    for settings in ({}, {"dtype": "bf16"}, {"output_dir": tmp_path / "other"}):
        with trivial.session(tmp_path, **settings) as session:
            steps = session.prepare(Workflow.of(SUM)).plan.steps
            keys.append((steps["s"].key, steps["save"].key))
    assert keys[0][0] == keys[2][0] != keys[1][0]
    assert len({key for _, key in keys}) == 3


def test_a_run_that_is_tried_again_under_its_claim_saves_its_files_once(session: Session) -> None:
    document = Workflow.of({"nodegraph": 1, "nodes": {"a": n("Always", a=1), "9": n("SaveText", value=("a", 0))}})
    names: list[str] = []
    for claim in ("run", "run", "other", ""):
        running = session.submit(session.prepare(document), claim=claim)
        names += [event.file.filename for event in running if isinstance(event, Saved)]
    assert names == ["note_00001_.txt", "note_00001_.txt", "note_00002_.txt", "note_00003_.txt"]
    assert session.folders.claims() == set(map(claim_name, ("run", "other")))


def test_nodes_of_one_run_have_claims_of_their_own_whatever_their_ids(session: Session) -> None:
    ids = ["1", "1-1", "a/b", "..", "../../x", ".", "ü 字", "a%2Fb"]
    nodes = {"v": n("Always", a=1), **{id: n("SaveText", value=("v", 0), prefix=f"{i}") for i, id in enumerate(ids)}}
    document = Workflow.of({"nodegraph": 1, "nodes": nodes})
    found: list[dict[str, str]] = []
    for _ in range(2):
        running = session.submit(session.prepare(document), claim="run")
        found.append({event.node: event.file.filename for event in running if isinstance(event, Saved)})
        assert running.finished is not None and running.finished.status == "success"
    assert found[0] == found[1]
    assert len(set(found[0].values())) == len(ids)
    session.folders.settle("run")
    assert len([path for path in session.folders.output.rglob("*") if path.is_file()]) == len(ids)
    assert not [path for path in session.folders.home.rglob("*.txt") if session.folders.output not in path.parents]


def test_what_is_held_is_told_by_device(session: Session) -> None:
    assert session.held() == {}
    run(session, SUM, ["s"])
    held = session.held()
    assert held == {"cpu": {"used": session.ledger("cpu").used, "budget": session.ledger("cpu").budget}}
    assert held["cpu"]["used"] > 0


def test_a_session_for_checks_tells_files_apart_without_reading_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nodegraph import files

    def refuse(path: Path) -> str:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(files, "content_digest", refuse)
    path = tmp_path / "input" / "a.png"
    path.parent.mkdir()
    path.write_bytes(b"12345")
    with trivial.session(tmp_path, reads_content=False) as session:
        first = session.folders.find("input", "a.png").digest
        path.write_bytes(b"123456")
        assert session.folders.find("input", "a.png").digest != first


def test_plans_of_large_workflows_do_not_pile_up(session, monkeypatch):
    monkeypatch.setattr("nodegraph.session.PLANNED", 5)
    for scope in ("a", "b", "c"):
        nodes = {name: {"class_type": "Const", "inputs": {"value": place}} for place, name in enumerate("123")}
        session.prepare(Workflow.of(nodes), ["1", "2", "3"], scope=scope)
    assert list(session._plans) == ["c"]
