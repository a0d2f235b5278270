"""The server and its workers are killed at any moment; every run still ends exactly once."""

from __future__ import annotations

import http.client
import os
import random
import signal
import sqlite3
import threading
import time
from collections import Counter

import psutil
import pytest

from tests.server.working import PATIENCE, Process, n

ROUNDS = 10
BACKLOG = 12  # runs that wait at most: there is always work, and it comes to an end
BROKEN = (OSError, http.client.HTTPException, ValueError)


def graph(name, rng):
    """A run that takes some 10 to 100 ms, and whose file names it."""
    return {
        "1": n("Word", text=name),
        "2": n("Slow", value=("1", 0), ms=rng.randint(5, 50)),
        "3": n("Slow", value=("2", 0), ms=rng.randint(5, 50)),
        "9": n("Note", value=("3", 0), prefix=f"kill/{rng.choice('ab')}"),
    }


class Submitter:
    """Submits runs all along, each until it is accepted."""

    def __init__(self, server, seed):
        self._server, self._rng, self._seed = server, random.Random(seed), seed
        self.accepted: list[str] = []
        self._is_over = threading.Event()
        self.problems: list[str] = []
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def close(self):
        self._is_over.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "a submission hangs"

    def _work(self):
        while not self._is_over.is_set():
            if self._waiting() >= BACKLOG:
                self._is_over.wait(0.02)
                continue
            name = f"run-{self._seed}-{len(self.accepted):04}"
            self._submit(name, {"prompt": graph(name, self._rng), "prompt_id": name, "client_id": "k"})
            self.accepted.append(name)

    def _waiting(self):
        try:
            return self._server.ask("GET", "/prompt")[1]["exec_info"]["queue_remaining"]
        except BROKEN:
            return BACKLOG

    def _submit(self, name, body):
        has_broken = False
        while True:
            try:
                status, answer = self._server.ask("POST", "/prompt", body)
            except BROKEN:  # the server died: nobody knows whether it heard
                has_broken = True
                time.sleep(0.02)
                continue
            if status == 200 and answer["prompt_id"] == name:
                return
            if not (has_broken and status == 400 and "there is a run" in answer["error"]["details"]):
                self.problems.append(f"{name}: {status} {answer}")
            return


def kill_once(server, rng, deaths):
    """One round: something dies by SIGKILL -> how many workers have died since the server was started."""
    if rng.random() < 0.7:  # else it is killed while it starts
        wait(lambda: server.ask("GET", "/readyz")[0] == 200)
    time.sleep(rng.uniform(0.0, 0.4))
    workers = server.workers()
    if workers and deaths < 2 and rng.random() < 0.5:  # a third would have to wait for its start
        os.kill(rng.choice(workers), signal.SIGKILL)
        return deaths + 1
    server.kill()
    server.start()
    return 0


def wait(test):
    deadline = time.monotonic() + PATIENCE
    while not test():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.02)


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_killed_every_run_ends_once_and_its_file_is_there_once(tmp_path, seed):
    server, rng = Process(tmp_path, "--retries", "1000"), random.Random(1000 + seed)
    server.start()
    submitter, seen, deaths = Submitter(server, seed), set[int](), 0
    try:
        for _ in range(ROUNDS):
            deaths = kill_once(server, rng, deaths)
            seen.update(server.workers())
        submitter.close()
        wait(lambda: server.ask("GET", "/prompt")[1]["exec_info"]["queue_remaining"] == 0)
        history = server.ask("GET", "/history")[1]
        seen.update(server.workers())
        assert server.stop() == 0, server.log()
    finally:
        submitter._is_over.set()
        server.close()
    assert not submitter.problems
    assert len(submitter.accepted) > ROUNDS

    with sqlite3.connect(server.home / "server.sqlite") as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
        rows = database.execute("select id, status, leases, error from runs order by id").fetchall()
        files = database.execute("select run, filename from files").fetchall()
    database.close()
    assert [row[:2] for row in rows] == [(name, "success") for name in sorted(submitter.accepted)]
    assert sorted(history) == sorted(submitter.accepted)
    assert all(entry["status"]["completed"] for entry in history.values())
    assert sum(row[2] for row in rows) > len(rows), "nothing was killed at work"
    assert Counter(run for run, _ in files) == Counter(submitter.accepted)

    found = [path for path in (server.home / "output" / "kill").iterdir() if path.is_file()]
    assert Counter(path.read_text() for path in found) == Counter(submitter.accepted)
    assert all(path.stat().st_nlink == 1 for path in found)
    assert list((server.home / "output" / ".unfinished").iterdir()) == []
    assert not [path for path in server.home.rglob("*.part")]
    assert not [pid for pid in seen if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]
