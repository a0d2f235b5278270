"""Worker processes as the server sees them: started, heard, ended, and why they ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import psutil
import pytest

from nodegraph.settings import Settings
from nodegraph.worker import encode
from server import workers as module
from server.workers import WorkerDied, WorkerProcess, WorkerState
from tests.server.working import no_torch, node_folder


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(no_torch(tmp_path)))


def stand_in(monkeypatch, script):
    """Has a small script started in place of a worker."""
    real = asyncio.create_subprocess_exec

    async def start(*words, **options):
        return await real(sys.executable, "-c", script, **options)

    monkeypatch.setattr(module.asyncio, "create_subprocess_exec", start)


def with_worker(test, folder):
    """Runs a test with a worker process."""

    async def main():
        process = WorkerProcess(WorkerState("cpu", "cpu"))
        await process.start(Settings(home=folder / "home", device="cpu", node_paths=(node_folder(folder),)))
        try:
            return await asyncio.wait_for(test(process), 60)
        finally:
            await process.stop(0.0)
            assert not psutil.pid_exists(process.state.pid)

    return asyncio.run(main())


async def death(process):
    """The words in which the end of a process is told."""
    with pytest.raises(WorkerDied) as found:
        while True:
            await process.next(20)
    return str(found.value)


def test_a_worker_says_that_it_is_ready_and_beats(tmp_path):
    async def test(process):
        frame = await process.next(30)
        while not process.state.beat:
            assert await process.next(0.1) is None
        return frame.head, process.state, process.heard

    head, state, heard = with_worker(test, tmp_path)
    assert head == {"is": "ready", "pid": state.pid, "device": "cpu"}
    assert (state.kind, heard > 0) == ("cpu", True)
    memory = state.memory()
    assert set(memory) == {"vram_total", "vram_free", "torch_vram_total", "torch_vram_free"}
    assert 0 < memory["vram_free"] <= memory["vram_total"]


def test_what_is_not_known_of_a_worker_counts_as_nothing():
    assert set(WorkerState("cuda:1", "cuda:1").memory().values()) == {0}
    assert WorkerState("cuda:1", "cuda:1").kind == "cuda"


def test_a_worker_stops_when_it_is_asked(tmp_path):
    async def test(process):
        await process.next(30)
        await process.stop(30)
        return process._process.returncode

    assert with_worker(test, tmp_path) == 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV])
def test_the_signal_that_ended_a_worker_is_told(tmp_path, how):
    async def test(process):
        await process.next(30)
        os.kill(process.state.pid, how)
        return await death(process)

    words = with_worker(test, tmp_path)
    assert words.startswith(f"it was ended by signal {how.name}")
    assert ("memory" in words) == (how is signal.SIGKILL)


def test_the_reason_for_which_a_worker_was_ended_is_told_in_place_of_the_signal(tmp_path):
    async def test(process):
        await process.next(30)
        await process.kill("its run did not stop")
        await process.kill("and again")
        return await death(process)

    assert with_worker(test, tmp_path) in ("its run did not stop", "and again")


def test_orders_to_a_dead_worker_are_lost_quietly(tmp_path):
    async def test(process):
        await process.next(30)
        await process.kill("x")
        for _ in range(3):
            await process.send({"do": "free", "padding": "x" * 100_000})
        return await death(process)

    assert with_worker(test, tmp_path) == "x"


def test_a_worker_that_is_stopped_by_a_signal_is_ended_all_the_same(tmp_path):
    async def test(process):
        await process.next(30)
        os.kill(process.state.pid, signal.SIGSTOP)
        await process.stop(0.1)
        return process._process.returncode

    assert with_worker(test, tmp_path) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("import sys; sys.exit(7)", "it ended with exit code 7"),
        ("print('hello, this is no frame at all', flush=True); input()", "it wrote what is no report"),
        ("import os; os.write(1, bytes([0, 0, 0, 4, 0, 0, 0, 0]) + b'nope'); input()", "it wrote what is no report"),
        ("import os; os.write(1, bytes([0, 0, 0, 2, 0, 0, 0, 0]) + b'[]'); input()", "it wrote what is no report"),
        ("import os; os.write(1, bytes([0, 0, 0, 2, 0, 0, 0, 0]) + b'{}'); input()", "it wrote what is no report"),
        ("import os, time; os.close(1); time.sleep(1000)", "it closed its pipe"),
    ],
)
def test_what_is_no_worker_is_ended_with_its_reason(tmp_path, monkeypatch, script, words):
    stand_in(monkeypatch, script)
    assert with_worker(death, tmp_path) == words


def test_a_process_that_a_worker_left_behind_does_not_hold_up_its_end(tmp_path, monkeypatch):
    script = "import os, subprocess; print(subprocess.Popen(['sleep', '1000'], stdout=2).pid, file=open({!r}, 'w'));"
    stand_in(monkeypatch, script.format(str(tmp_path / "pid")) + " os._exit(3)")

    async def test(process):
        words = await death(process)
        assert psutil.pid_exists(int((tmp_path / "pid").read_text()))  # it still holds stderr
        return words

    try:
        assert with_worker(test, tmp_path) == "it ended with exit code 3"
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_the_end_of_a_worker_comes_from_the_server_alone(tmp_path):
    """Terminals and systemd send their signals to all processes of a group, and the run under way may finish."""

    async def test(process):
        await process.next(30)
        for how in (signal.SIGINT, signal.SIGTERM):
            os.kill(process.state.pid, how)
        process.state.beat = {}
        while not process.state.beat:
            assert await process.next(0.1) is None
        await process.stop(30)
        return process._process.returncode

    assert with_worker(test, tmp_path) == 0


def test_a_long_frame_arrives_whole(tmp_path, monkeypatch):
    script = (
        "import sys; from nodegraph.worker import Frame, encode;"
        " sys.stdout.buffer.write(encode(Frame({'is': 'preview', 'run': 'x' * 3_000_000}, b'y' * 5_000_000)));"
        " sys.stdout.flush(); sys.stdin.read()"
    )
    stand_in(monkeypatch, script)

    async def test(process):
        frame = await process.next(30)
        return len(frame.head["run"]), len(frame.body)

    assert with_worker(test, tmp_path) == (3_000_000, 5_000_000)
    assert len(encode(module.Frame({}, b""))) == 10


def test_what_a_worker_writes_to_stderr_goes_to_the_log_by_its_weight(tmp_path, monkeypatch, caplog):
    script = "import sys; sys.stderr.write('WARNING a: careful\\n' + 'x' * 3_000_000 + '\\nplain \\xff\\n'); input()"
    stand_in(monkeypatch, script)
    caplog.set_level("INFO", "nodegraph.worker")

    async def test(process):
        while "plain" not in caplog.text:
            await asyncio.sleep(0.01)

    with_worker(test, tmp_path)
    found = {record.message[:20]: record.levelname for record in caplog.records if record.name == "nodegraph.worker"}
    assert found["cpu: WARNING a: care"] == "WARNING"
    assert any(name.startswith("cpu: plain") and level == "INFO" for name, level in found.items())
