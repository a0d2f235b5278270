"""The database: SQLite, in one thread for writing and one for reading. What is told as written is on disk.

Writes that arrive together share one transaction and one sync of the disk, each in a savepoint of its own. Reading goes
on meanwhile (WAL).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from nodegraph.errors import StorageError
from server.migrations import MIGRATIONS

T = TypeVar("T")
log = logging.getLogger(__name__)
Work = Callable[[sqlite3.Connection], Any]
DATABASE = "server.sqlite"  # in the home
BATCH = 256  # writes that share a transaction at most
WAL_LIMIT = "journal_size_limit=67108864"  # bytes of the WAL that stay on disk after a large write


class _Job(NamedTuple):
    work: Work
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Any]

    def settle(self, value: Any, error: BaseException | None) -> None:
        def give() -> None:
            if not self.answer.done():
                if error is None:
                    self.answer.set_result(value)
                else:
                    self.answer.set_exception(error)

        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(give)


class Store:
    """A database file and its two threads.

    Args:
        path: made when missing, with its folder; brought to the newest schema when older.

    Raises:
        StorageError: it cannot be opened, is no such database, or was written by a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writes: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._reads: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._is_closed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = connect(path)
            try:
                migrate(self._writer)
                self._reader = connect(path)
            except BaseException:
                self._writer.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise StorageError(
                f"the database {path} cannot be opened: {error}; restore a backup, or move it away to begin a new one"
            ) from error
        self._threads = [
            threading.Thread(target=self._write_all, name="store-write", daemon=True),
            threading.Thread(target=self._read_all, name="store-read", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Does `work` in a transaction -> what it returned, once that is on disk.

        Args:
            work: called in the writing thread; an error undoes what it wrote, and is raised here.
        """
        return await self._ask(self._writes, work)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Does `work` in the reading thread -> what it returned. It sees everything whose `write` has returned."""
        return await self._ask(self._reads, work)

    async def _ask(self, jobs: queue.SimpleQueue[_Job | None], work: Work) -> Any:
        if self._is_closed:
            raise StorageError("the server is ending; try again when it is back")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        jobs.put(_Job(work, loop, answer))
        return await answer

    def close(self) -> None:
        """Does what is still to be done and closes the file."""
        self._is_closed = True
        self._writes.put(None)
        self._reads.put(None)
        for thread in self._threads:
            thread.join()
        self._reader.close()
        self._writer.close()

    def _read_all(self) -> None:
        while (job := self._reads.get()) is not None:
            try:
                job.settle(job.work(self._reader), None)
            except Exception as error:  # whatever it is, it is the caller's
                job.settle(None, self._told(error, "read"))

    def _write_all(self) -> None:
        is_over = False
        while not is_over:
            jobs: list[_Job] = []
            job = self._writes.get()
            while job is not None:
                jobs.append(job)
                if len(jobs) == BATCH:
                    break
                try:
                    job = self._writes.get_nowait()
                except queue.Empty:
                    break
            is_over = job is None
            if jobs:
                self._commit(jobs)

    def _commit(self, jobs: list[_Job]) -> None:
        """One transaction for all these jobs; a job that fails takes only its own part back."""
        done: list[tuple[_Job, Any, BaseException | None]] = []
        try:
            self._writer.execute("begin immediate")
            for job in jobs:
                self._writer.execute("savepoint job")
                try:
                    done.append((job, job.work(self._writer), None))
                except Exception as error:  # the caller's
                    self._writer.execute("rollback to job")
                    done.append((job, None, self._told(error, "written")))
                self._writer.execute("release job")
            self._writer.execute("commit")
        except sqlite3.Error as error:  # the disk is full, or worse: nothing of this batch was written
            with contextlib.suppress(sqlite3.Error):
                self._writer.execute("rollback")
            first = error.__context__  # SQLite may have undone all of it by itself, the savepoint too
            refused = self._refused(first if isinstance(first, sqlite3.Error) else error, "written")
            done = [(job, None, refused) for job in jobs]
        for job, value, error in done:
            job.settle(value, error)

    def _told(self, error: Exception, what: str) -> Exception:
        """What SQLite or the disk refuses, in a sentence; other errors as they are."""
        return self._refused(error, what) if isinstance(error, sqlite3.OperationalError) else error

    def _refused(self, error: sqlite3.Error, what: str) -> StorageError:
        log.error("the database %s cannot be %s: %s", self.path, what, error)
        return StorageError(f"the database cannot be {what}: {error}; free some space and try again")


def connect(path: Path) -> sqlite3.Connection:
    """A connection without implicit transactions, whose rows have names."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite gives the files beside it the same rights
    database = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
    database.row_factory = sqlite3.Row
    for pragma in ("journal_mode=wal", "synchronous=full", "foreign_keys=on", "cache_size=-8000", WAL_LIMIT):
        database.execute(f"pragma {pragma}")
    return database


def migrate(database: sqlite3.Connection) -> None:
    """Brings a database to the newest schema, whole or not at all, and once even when two processes begin together."""
    if database.execute("pragma user_version").fetchone()[0] == len(MIGRATIONS):
        return
    database.execute("begin immediate")
    try:
        version = database.execute("pragma user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise sqlite3.DatabaseError(
                f"it has schema {version}, this version of nodegraph knows {len(MIGRATIONS)}; update nodegraph"
            )
        for step in MIGRATIONS[version:]:
            for statement in _statements(step):
                database.execute(statement)
        database.execute(f"pragma user_version = {len(MIGRATIONS)}")
        database.execute("commit")
    except BaseException:
        database.execute("rollback")
        raise


def _statements(script: str) -> Iterator[str]:
    """The statements of a script; `executescript` would commit before it."""
    statement = ""
    for part in f"{script};".split(";"):
        statement += f"{part};"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
