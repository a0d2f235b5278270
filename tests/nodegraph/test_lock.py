"""The lock on a data folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from nodegraph.errors import StorageError
from nodegraph.lock import Holder, Lock, read_holder

HOLD = """
import sys, time
from pathlib import Path
from nodegraph.lock import Lock
lock = Lock(Path(sys.argv[1]))
lock.take("http://127.0.0.1:8188")
print("held", flush=True)
sys.stdin.read()
"""


def test_one_at_a_time_and_the_second_is_told_who_has_it(tmp_path):
    with Lock(tmp_path / "home") as lock:
        lock.tell("http://127.0.0.1:8188")
        with pytest.raises(StorageError, match=rf"process {os.getpid()}, http://127.0.0.1:8188\); stop that one"):
            Lock(tmp_path / "home").take()
    with Lock(tmp_path / "home"):
        pass


def test_the_file_names_the_holder_and_nobody_afterwards(tmp_path):
    lock = Lock(tmp_path)
    lock.take("first")
    lock.tell("a longer second")
    lock.tell("third")
    assert read_holder(lock.path) == Holder(os.getpid(), "third")
    lock.release()
    lock.release()
    assert lock.path.exists()
    assert read_holder(lock.path) is None


@pytest.mark.parametrize("text", ["", "x", "[]", '{"pid": "x", "address": ""}', '{"pid": 1}'])
def test_a_strange_file_names_nobody_and_can_be_locked(tmp_path, text):
    (tmp_path / "server.lock").write_text(text)
    assert read_holder(tmp_path / "server.lock") is None
    with Lock(tmp_path) as lock:
        assert read_holder(lock.path) == Holder(os.getpid(), "")


def test_a_home_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"server\.lock cannot be written"):
        Lock(tmp_path / "file").take()


def test_a_holder_that_is_killed_leaves_the_lock_to_others(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(StorageError, match=rf"in use by another server \(process {process.pid}, http"):
            Lock(tmp_path).take()
        process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        process.wait()
    with Lock(tmp_path) as lock:
        assert read_holder(lock.path) == Holder(os.getpid(), "")
