"""A worker: orders in, reports out, one run after the other; and as a process, through its pipes."""

from __future__ import annotations

import io
import queue
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph import worker as module
from nodegraph.files import claim_name
from nodegraph.lock import WORKERS, read_holder, wait_for_workers
from nodegraph.session import Session
from nodegraph.settings import Settings
from nodegraph.worker import HEAD, Frame, Outbox, Worker, encode, read, settings_json, settings_of
from tests.nodegraph import trivial
from tests.nodegraph.trivial import PATIENCE, n

SUM = {"a": n("Const", value=2), "s": n("Add", a=("a", 0), b=3), "9": n("SaveText", value=("s", 0))}
HEADS = st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text() | st.lists(st.text(), max_size=3))


@settings(max_examples=30)
@given(st.lists(st.tuples(HEADS, st.binary(max_size=50)), max_size=4))
def test_frames_are_read_as_they_were_written(frames: list[tuple[dict[str, Any], bytes]]) -> None:
    content = b"".join(encode(Frame(*frame)) for frame in frames)
    stream = io.BytesIO(content)
    assert [read(stream) for _ in frames] == [Frame(*frame) for frame in frames]
    assert read(stream) is None
    if frames:
        head, body = HEAD.unpack(content[:8])
        assert body == len(frames[0][1]) and content[8 : 8 + head][:1] == b"{"


@pytest.mark.parametrize("length", range(1, 16))
def test_a_frame_that_is_cut_short_is_the_end(length: int) -> None:
    whole = encode(Frame({"a": 1}, b"xy"))
    assert read(io.BytesIO(whole[: min(length, len(whole) - 1)])) is None


def test_settings_cross_the_pipe_whole(tmp_path: Path) -> None:
    for one in (
        Settings(),
        Settings(home=tmp_path, device="cuda:1", dtype="bf16", vram_limit=5, ram_limit=6, keeps=False, cache_dir=None,
                 disk_limit=7, node_paths=(tmp_path, "x"), model_roots=(tmp_path,), extra_model_paths=tmp_path / "y",
                 output_dir=tmp_path / "o", previews=True, reads_content=False),
    ):  # fmt: skip
        found = settings_of(settings_json(one))
        assert found == one or [str(path) for path in found.node_paths] == [str(tmp_path), "x"]
        assert settings_json(found) == settings_json(one)


class Ears:
    """A worker in this process, and what it reports."""

    def __init__(self, session: Session) -> None:
        self._frames: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self.worker = Worker(session, self._frames.put)
        self.events: list[dict[str, Any]] = []
        self.pictures: list[bytes] = []

    def order(self, run: str, document: dict[str, Any], **rest: Any) -> None:
        whole = {"nodegraph": 1, **document} if "nodes" in document else {"nodegraph": 1, "nodes": document}
        self.worker.take(
            {"do": "run", "run": run, "document": whole, "targets": None, "scope": "", "texts": {}, **rest}
        )

    def done(self, run: str) -> dict[str, Any]:
        """Listens until a run is done -> how it ended."""
        while True:
            frame = self._frames.get(timeout=PATIENCE)
            assert frame.head["run"] == run
            match frame.head["is"]:
                case "events":
                    assert {event["run"] for event in frame.head["events"]} == {run}
                    self.events += frame.head["events"]
                case "preview":
                    self.pictures.append(frame.body)
                case "done":
                    return frame.head
                case other:
                    raise AssertionError(other)


@pytest.fixture
def ears(session: Session) -> Iterator[Ears]:
    made = Ears(session)
    yield made
    for gate in trivial.GATES.values():
        gate.opened.set()
    made.worker.close()


def test_a_run_is_carried_out_and_reported(ears: Ears) -> None:
    ears.order("r", SUM)
    assert ears.done("r") == {"is": "done", "run": "r", "status": "success", "error": None, "result": {}}
    assert [event["type"] for event in ears.events] == [
        "RunStarted", *["NodeStarted", "NodeFinished"] * 2, "NodeStarted", "Saved", "NodeFinished",
    ]  # fmt: skip
    times = [event["at"] for event in ears.events]
    assert times == sorted(times) and times[0] >= 0


def test_runs_go_one_after_the_other(ears: Ears) -> None:
    for run in "abc":
        ears.order(run, SUM)
    assert [ears.done(run)["status"] for run in "abc"] == ["success"] * 3


def test_a_run_that_is_tried_again_takes_the_files_of_its_first_attempt(session: Session, ears: Ears) -> None:
    document = {"a": n("Always", a=1), "9": n("SaveText", value=("a", 0))}
    for run in ("r", "r", "other"):
        ears.order(run, document)
        ears.done(run)
    files = [event["file"]["filename"] for event in ears.events if event["type"] == "Saved"]
    assert files == ["note_00001_.txt", "note_00001_.txt", "note_00002_.txt"]
    assert session.folders.claims() == set(map(claim_name, ("r", "other")))


def test_a_run_is_cancelled_before_and_while_it_runs(ears: Ears) -> None:
    ears.order("a", {"1": n("Patient", name="g"), "9": n("Show", value=("1", 0))})
    ears.order("b", {**SUM, "9": n("Show", value=("s", 0))})
    trivial.GATES["g"].wait_for_entry()
    ears.worker.take({"do": "cancel", "run": "b"})
    ears.worker.take({"do": "cancel", "run": "unknown"})
    ears.worker.take({"do": "cancel", "run": "a"})
    assert ears.done("a")["status"] == "cancelled"
    assert ears.done("b")["status"] == "cancelled"
    ears.order("c", SUM)
    assert ears.done("c")["status"] == "success"


def test_a_node_that_fails_is_told_with_what_it_had(ears: Ears) -> None:
    ears.order("r", {"a": n("Const", value=2), "f": n("Fail", a=("a", 0)), "9": n("Show", value=("f", 0))})
    found = ears.done("r")
    assert found["status"] == "error"
    error = found["error"]
    assert set(error) == {"message", "node", "class_type", "traceback", "inputs", "is_out_of_memory"}
    assert (error["node"], error["class_type"], error["is_out_of_memory"]) == ("f", "Fail", False)
    assert "it broke" in error["message"] and "it broke" in error["traceback"]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"1": n("Unknown")}, "Unknown"),
        ({"1": n("Show")}, "value"),
        ({"nodes": 7}, "nodes"),
        ({"nodes": {"1": n("Show", value=("1", 0))}}, "1"),
    ],
)
def test_a_workflow_that_is_not_sound_is_told_and_the_worker_goes_on(
    ears: Ears, document: dict[str, Any], words: str
) -> None:
    ears.order("r", document)
    found = ears.done("r")
    assert found["status"] == "error"
    assert words in found["error"]["message"]
    assert found["error"]["problems"]
    ears.order("next", SUM)
    assert ears.done("next")["status"] == "success"


def test_a_fault_of_the_engine_ends_the_run_alone(
    session: Session, ears: Ears, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(session, "prepare", break_down)
        ears.order("r", SUM)
        found = ears.done("r")
    assert (found["status"], "a bug" in found["error"]["message"]) == ("error", True)
    ears.order("next", SUM)
    assert ears.done("next")["status"] == "success"


def test_declared_outputs_are_given_as_values(ears: Ears) -> None:
    document = {
        "nodes": {**SUM, "t": n("Text", text="ü"), "r": n("Real", value=1.5), "e": n("Echo", value=1)},
        "outputs": {"sum": "s.0", "text": "t.0", "real": "r.0", "any": "e.0"},
    }
    ears.order("r", document, targets=["9", "sum", "text", "real", "any"])
    assert ears.done("r")["result"] == {"sum": 5, "text": "ü", "real": 1.5}
    ears.order("part", document, targets=["9"])
    assert "text" not in ears.done("part")["result"]
    # also what only the cache has
    ears.order("again", document, targets=["9", "sum", "text", "real", "any"])
    assert ears.done("again")["result"] == {"sum": 5, "text": "ü", "real": 1.5}


def test_scalars_of_numpy_cross_the_pipe_as_numbers_and_what_is_no_value_as_text() -> None:
    import numpy

    values = [numpy.int64(3), numpy.float32(0.5), numpy.bool_(True), {1}, numpy.zeros(2)]
    frame = read(io.BytesIO(encode(Frame({"result": values}))))
    assert frame is not None and frame.head == {"result": [3, 0.5, True, "{1}", "array([0., 0.])"]}


def test_a_beat_tells_what_is_held(session: Session, ears: Ears) -> None:
    ears.order("r", SUM)
    ears.done("r")
    found = ears.worker.beat()
    assert (found["is"], found["run"], found["name"]) == ("beat", "", "cpu")
    assert 0 < found["device"]["free"] <= found["device"]["total"]
    assert found["ledgers"]["cpu"] == session.held()["cpu"]
    assert found["ledgers"]["cpu"]["used"] > 0
    ears.worker.take({"do": "free"})
    ears.order("r 2", {"1": n("Show", value=1)})
    ears.done("r 2")
    assert ears.worker.beat()["ledgers"]["cpu"]["used"] < found["ledgers"]["cpu"]["used"]


def test_an_order_that_is_unknown_is_let_pass(ears: Ears, caplog: pytest.LogCaptureFixture) -> None:
    ears.worker.take({"do": "dance"})
    ears.order("r", SUM)
    assert ears.done("r")["status"] == "success"
    assert "order 'dance' is unknown" in caplog.text


def test_neighbouring_events_of_a_run_go_in_one_frame() -> None:
    written = io.BytesIO()
    outbox = Outbox(written)
    for number in range(1200):
        outbox.put(Frame({"is": "events", "run": "a", "events": [number]}))
    outbox.put(Frame({"is": "preview", "run": "a", "event": {}}, b"picture"))
    outbox.put(Frame({"is": "events", "run": "a", "events": ["x"]}))
    outbox.put(Frame({"is": "events", "run": "b", "events": ["y"]}))
    outbox.put(Frame({"is": "done", "run": "b"}))
    outbox.close()
    written.seek(0)
    frames = list(iter(lambda: read(written), None))
    numbers = [event for frame in frames[:-4] for event in frame.head["events"]]
    assert numbers == list(range(1200))
    assert [frame.head["is"] for frame in frames[-4:]] == ["preview", "events", "events", "done"]
    assert [frame.head.get("events") for frame in frames[-3:-1]] == [["x"], ["y"]]
    assert frames[-4].body == b"picture"
    assert all(len(frame.head["events"]) <= module.BATCH + 1 for frame in frames[:-4])


NODES = """
import os, time
from nodegraph.context import Context
from nodegraph.spec import node

@node("Loud", category="t", kind="sink")
def loud(*, ctx: Context, file: str = "") -> None:
    print("said", flush=True)
    os.write(1, b"written")
    ctx.save("loud", "txt", lambda opened: opened.write(b"x") and None)

@node("Long", category="t", kind="sink")
def long(*, file: str) -> None:
    open(file, "w").close()
    time.sleep(1000)
"""


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts worker processes that are ready."""
    (tmp_path / "nodes").mkdir()
    (tmp_path / "nodes" / "loud.py").write_text(NODES)
    processes: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "nodegraph.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        processes.append(process)
        engine = Settings(home=tmp_path, device="cpu", node_paths=(tmp_path / "nodes",))
        send(process, {"settings": settings_json(engine), "is_warm": False})
        assert hear(process, "ready") == {"is": "ready", "pid": process.pid, "device": "cpu"}
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def send(process: subprocess.Popen[bytes], head: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(encode(Frame(head)))
    process.stdin.flush()


def hear(process: subprocess.Popen[bytes], kind: str) -> dict[str, Any]:
    assert process.stdout is not None
    while True:
        frame = read(process.stdout)  # type: ignore[arg-type]
        assert frame is not None, "the worker ended"
        if frame.head["is"] == kind:
            return frame.head


def run_order(run: str, **node: Any) -> dict[str, Any]:
    document = {"nodegraph": 1, "nodes": {"1": n(**node)}}
    return {"do": "run", "run": run, "document": document, "targets": None, "scope": "", "texts": {}}


def test_a_worker_process_runs_stops_and_keeps_its_pipe_clean(
    tmp_path: Path, started: Callable[[], subprocess.Popen[bytes]]
) -> None:
    process = started()
    lock = tmp_path / WORKERS / f"{process.pid}.lock"
    holder = read_holder(lock)
    assert holder is not None and holder.pid == process.pid
    assert [one.pid for one in wait_for_workers(tmp_path, 0)] == [process.pid]
    send(process, run_order("r", class_type="Loud"))
    assert hear(process, "done")["status"] == "success"
    send(process, {"do": "stop"})
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert b"said" in errors and b"written" in errors
    assert wait_for_workers(tmp_path, 0) == []
    assert not lock.exists()


def test_a_worker_does_not_outlive_who_started_it_even_at_work(
    tmp_path: Path, started: Callable[[], subprocess.Popen[bytes]]
) -> None:
    process = started()
    entered = tmp_path / "entered"
    send(process, run_order("r", class_type="Long", file=str(entered)))
    hear(process, "events")
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(PATIENCE) == 1
    assert wait_for_workers(tmp_path, 0) == []


def test_a_worker_that_is_given_nothing_ends() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "nodegraph.worker"], check=False, stdin=subprocess.DEVNULL, capture_output=True
    )
    assert (found.returncode, found.stdout) == (0, b"")
