"""Locks on a data folder: for one server or restore at a time, and for each worker, to know whether it lives."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from nodegraph.errors import StorageError

NAME = "server.lock"
WORKERS = "workers"  # folder of the workers' locks
FAR = 1 << 30  # byte that Windows locks: beyond the text, which others may then still read


class Holder(NamedTuple):
    """Who holds a lock: process id, and what it said of itself, such as its address."""

    pid: int
    address: str


class Lock:
    """A lock of a home, by default `home/server.lock`. The system releases it however the process that holds it ends.

    The file stays when the lock is released: deleting it would let two processes lock two files of one name. Child
    processes made by fork hold the lock too; start them with spawn or exec.

    Args:
        home: made when missing.
        name: of the file, perhaps in a folder.
    """

    def __init__(self, home: Path, name: str = NAME) -> None:
        self.path = home / name
        self._file: int | None = None

    def take(self, address: str = "") -> None:
        """Takes the lock.

        Args:
            address: what `holder` tells others.

        Raises:
            StorageError: another process holds it, or the home cannot be written.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # a home holds everybody's prompts
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageError(f"{self.path} cannot be written: {error.strerror or error}") from error
        try:
            _lock(file)
        except OSError as error:
            os.close(file)
            found = read_holder(self.path)
            who = f" (process {found.pid}, {found.address})" if found else ""
            raise StorageError(
                f"{self.path.parent} is in use by another server{who}; stop that one, or use another --home"
            ) from error
        self._file = file
        try:
            self.tell(address)
        except OSError as error:
            self.release()
            raise StorageError(f"{self.path} cannot be written: {error.strerror or error}") from error

    def tell(self, address: str) -> None:
        """Writes who holds the lock; call it again when the address is known."""
        if self._file is not None:
            text = json.dumps({"pid": os.getpid(), "address": address}).encode()
            os.lseek(self._file, 0, os.SEEK_SET)
            os.ftruncate(self._file, 0)
            os.write(self._file, text)

    def release(self) -> None:
        """Gives the lock back."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Lock:
        if self._file is None:
            self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def read_holder(path: Path) -> Holder | None:
    """Who a lock file names; None when it names nobody. It may have ended: only taking the lock tells."""
    try:
        found: Any = json.loads(path.read_text("utf-8"))
        return Holder(int(found["pid"]), str(found["address"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def wait_for_workers(home: Path, seconds: float) -> list[Holder]:
    """Waits until every worker of an earlier server has ended -> those that have not.

    A worker notices that its server is gone and ends; until then it may still save a file of a run that is about to be
    tried again.
    """
    deadline = time.monotonic() + seconds
    left: list[Holder] = []
    for path in sorted((home / WORKERS).glob("*.lock")):
        lock = Lock(home, f"{WORKERS}/{path.name}")
        while True:
            try:
                lock.take()
            except StorageError:
                if time.monotonic() < deadline:
                    time.sleep(0.02)
                    continue
                left.append(read_holder(path) or Holder(0, path.name))
                break
            path.unlink(missing_ok=True)
            lock.release()
            break
    return left


if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        os.lseek(file, FAR, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
