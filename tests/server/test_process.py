"""The server as a process: its start, its signals, its end, and what it says when it cannot begin."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import closing

import psutil
import pytest

from nodegraph.lock import Lock, read_holder
from server.auth import all_tokens
from server.store import connect
from tests.server.working import Process, n


@pytest.fixture
def server(tmp_path):
    made = Process(tmp_path)
    yield made
    made.close()


def said(folder, *words):
    """Exit code and stderr of a server that cannot begin."""
    found = subprocess.run(
        [sys.executable, "-m", "nodegraph", "serve", "--no-browser", "--device", "cpu", "--home", str(folder), *words],
        capture_output=True, check=False, text=True, timeout=30,
    )  # fmt: skip
    assert "Traceback" not in found.stderr
    return found.returncode, found.stderr


def test_a_server_answers_imports_no_torch_and_ends_on_a_signal(server):
    server.start()
    assert server.ask("GET", "/healthz") == (200, {"status": "ok"})
    holder = read_holder(server.home / "server.lock")
    assert holder is not None and (holder.pid, holder.address) == (server.pid, server.address)
    maps = {os.path.basename(found.path) for found in psutil.Process(server.pid).memory_maps()}
    assert not [name for name in maps if "torch" in name]
    workers = server.workers()
    assert server.stop() == 0
    assert not [pid for pid in workers if psutil.pid_exists(pid)]
    assert read_holder(server.home / "server.lock") is None


def test_a_run_under_way_is_finished_before_the_end(server):
    server.start()
    go = server.folder / "go"
    graph = {"1": n("Wait", value="x", file=str(go)), "9": n("Note", value=("1", 0))}
    assert server.ask("POST", "/prompt", {"prompt": graph, "prompt_id": "r"})[0] == 200
    while not server.ask("GET", "/queue")[1]["queue_running"]:
        pass
    psutil.Process(server.pid).send_signal(signal.SIGTERM)
    go.touch()
    assert server.stop() == 0
    server.start()
    assert server.ask("GET", "/history/r")[1]["r"]["status"]["completed"] is True


def test_a_killed_server_leaves_no_worker_and_its_home_to_the_next(server):
    server.start()
    server.kill()
    server.start()
    assert server.ask("GET", "/healthz")[0] == 200


def test_a_home_has_one_server(tmp_path, server):
    server.start()
    code, words = said(server.home, "--port", "0")
    assert code != 0
    assert "is in use by another server" in words and server.address in words
    assert server.ask("GET", "/healthz")[0] == 200


def test_a_port_that_is_taken_is_told(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, words = said(tmp_path / "home", "--auth", "--port", str(taken.getsockname()[1]))
    assert code != 0
    assert "cannot be listened on" in words and "--port" in words
    with closing(connect(tmp_path / "home" / "server.sqlite")) as database:
        assert all_tokens(database) == []  # nobody was shown its secret
    lock = Lock(tmp_path / "home")
    lock.take()
    lock.release()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--host", "no.such.host.invalid"), "cannot be listened on"),
        (("--tls-cert", "none.pem"), "go together"),
        (("--tls-cert", "none.pem", "--tls-key", "none.pem"), "expected a PEM certificate and its key"),
        (("--port", "99999"), "is no port"),
        (("--node-path", "/no/such/folder"), "/no/such/folder"),
    ],
)
def test_what_cannot_be_served_is_told_in_words(tmp_path, options, words):
    code, found = said(tmp_path / "home", "--port", "0", *options)
    assert code != 0
    assert words in found


def test_a_database_that_is_none_is_told(tmp_path):
    (tmp_path / "server.sqlite").write_text("no database at all" * 100)
    code, words = said(tmp_path, "--port", "0")
    assert code != 0
    assert "server.sqlite cannot be opened" in words and "restore a backup" in words
