"""The disk tier: values by key, recipes by node, digests by file. Survives restarts; safe for several processes.

Small values lie in the SQLite index, tensors in one safetensors file each. A file appears under its final name only
when it is whole. Whatever goes wrong here costs time, never a run: the tier says so once and goes on without.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nodegraph import codec

log = logging.getLogger(__name__)
SCHEMA = 1
_TABLES = """
create table if not exists entries(key blob primary key, nbytes integer not null, seconds real not null,
    used real not null, saved text not null, inline text) without rowid;
create table if not exists recipes(scope text, node text, recipe text not null, primary key(scope, node)) without rowid;
create table if not exists digests(path text primary key, size integer, mtime integer, inode integer, digest text)
    without rowid;
"""


class Stored(NamedTuple):
    """What the index knows of a value: files a sink saved with notes (texts) after them, restore time and size."""

    saved: Any
    seconds: float
    nbytes: int


class DiskTier:
    """Values, recipes and file digests in a folder.

    Args:
        folder: made when missing.
        budget: bytes of values; the least used go first.
        packages: packages whose dataclasses may be read back.
        device: where values of a device go back to.
    """

    def __init__(self, folder: Path, budget: int, packages: Collection[str], device: str = "cpu") -> None:
        self.folder, self.budget, self._packages, self._device = folder, budget, packages, device
        self._lock = threading.RLock()
        self._database: sqlite3.Connection | None = None
        self._keys: set[bytes] = set()
        self._used = 0
        self._said: set[str] = set()
        self._guard("opened", self._open)

    @property
    def is_open(self) -> bool:
        """False when the folder cannot be used."""
        return self._database is not None

    @property
    def used(self) -> int:
        """Bytes of values on disk."""
        return self._used

    def __contains__(self, key: bytes) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def describe(self, key: bytes) -> Stored | None:
        """What is known of a stored value, or None."""
        if key not in self._keys:
            return None

        def read() -> Stored:
            saved, seconds, size = self._row("select saved, seconds, nbytes from entries where key = ?", key)
            return Stored(json.loads(saved), seconds, size)

        found = self._guard("read", read)
        if found is None:
            self._keys.discard(key)
        return found

    def get(self, key: bytes) -> Any:
        """A stored value; raises KeyError when it is not there or damaged, and then forgets it."""
        row = self._guard("read", lambda: self._row("select inline from entries where key = ?", key))
        if row is None:
            self._keys.discard(key)
            raise KeyError(key.hex())
        try:
            structure, found = (json.loads(row[0]), {}) if row[0] is not None else codec.read_file(self._path(key))
            value = codec.decode(structure, found, self._packages, self._device)
        except Exception as error:  # a damaged value may fail in any way
            log.warning("cached value %s cannot be read and is made again: %s", key.hex(), error)
            self.delete([key])
            raise KeyError(key.hex()) from None
        self._guard("written", lambda: self._write("update entries set used = ? where key = ?", time.time(), key))
        return value

    def put(self, key: bytes, value: Any, saved: Any, seconds: float) -> bool:
        """Stores a value; False when it has no form on disk or the disk refuses."""
        if not self.is_open or key in self._keys:
            return self.is_open
        try:
            structure, found = codec.encode(value)
        except codec.NotStorable as error:
            log.debug("not stored on disk: %s", error)
            return False
        return bool(self._guard("written", lambda: self._put(key, structure, found, saved, seconds)))

    def delete(self, keys: Iterable[bytes]) -> None:
        """Forgets values."""
        for key in keys:
            self._keys.discard(key)
            self._guard("written", lambda key=key: self._write("delete from entries where key = ?", key))
            with contextlib.suppress(OSError):
                self._path(key).unlink(missing_ok=True)

    def recipe(self, scope: str, node: str) -> dict[str, Any] | None:
        """How a node was last run: type, version, key and inputs, or None."""

        def read() -> dict[str, Any] | None:
            row = self._row("select recipe from recipes where scope=? and node=?", scope, node)
            return None if row is None else json.loads(row[0])

        return self._guard("read", read)

    def put_recipes(self, scope: str, recipes: Mapping[str, Any]) -> None:
        """Notes how nodes were run, for explaining the next run."""

        def write() -> None:
            rows = [(scope, node, json.dumps(recipe)) for node, recipe in recipes.items()]
            self._many("insert or replace into recipes values(?, ?, ?)", rows)

        self._guard("written", write)

    def digest(self, path: str, status: os.stat_result, compute: Callable[[], str]) -> str:
        """The digest of a file's content, computed again only when its size, time or inode changed."""
        place = (status.st_size, status.st_mtime_ns, status.st_ino)
        row = self._guard(
            "read", lambda: self._row("select size, mtime, inode, digest from digests where path=?", path)
        )
        if row is not None and tuple(row[:3]) == place:
            return row[3]
        found = compute()
        # A file written in the last moments may change again within the clock's grain: do not trust its time yet.
        if time.time_ns() - status.st_mtime_ns > 2_000_000_000:
            rows = [(path, *place, found)]
            self._guard("written", lambda: self._many("insert or replace into digests values(?, ?, ?, ?, ?)", rows))
        return found

    def close(self) -> None:
        """Closes the index."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def _open(self) -> None:
        (self.folder / "values").mkdir(parents=True, exist_ok=True)
        path = self.folder / "index.sqlite"
        try:
            self._database, rows = self._connect(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            log.warning("the cache index was damaged and is begun again: %s", error)
            path.rename(path.with_suffix(f".damaged-{time.time_ns()}"))
            self._database, rows = self._connect(path)
        self._keys, self._used = {row[0] for row in rows}, sum(row[1] for row in rows)

    def _connect(self, path: Path) -> tuple[sqlite3.Connection, list[Any]]:
        database = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
        try:
            database.execute("pragma journal_mode=wal")
            database.execute("pragma synchronous=normal")
            version = database.execute("pragma user_version").fetchone()[0]
            if version not in (0, SCHEMA):
                raise sqlite3.DatabaseError(f"index version {version}, expected {SCHEMA}")
            database.executescript(_TABLES)
            database.execute(f"pragma user_version={SCHEMA}")
            rows = database.execute("select key, nbytes from entries").fetchall()
        except BaseException:
            database.close()
            raise
        return database, rows

    def _guard(self, verb: str, action: Callable[[], Any]) -> Any:
        """Runs an action on the disk; a failure is said once and turns into None."""
        if verb != "opened" and self._database is None:
            return None
        try:
            with self._lock:
                return action()
        except Exception as error:  # of SQLite, of the disk, or of what was found there
            level = logging.DEBUG if verb in self._said else logging.WARNING
            self._said.add(verb)
            log.log(level, "the cache in %s cannot be %s (%s); going on without it", self.folder, verb, error)
            return None

    def _row(self, query: str, *values: Any) -> Any:
        assert self._database is not None
        return self._database.execute(query, values).fetchone()

    def _write(self, query: str, *values: Any) -> None:
        assert self._database is not None
        self._database.execute(query, values)

    def _many(self, query: str, rows: list[Any]) -> None:
        assert self._database is not None
        with self._database:
            self._database.execute("begin")
            self._database.executemany(query, rows)

    def _put(self, key: bytes, structure: Any, found: Any, saved: Any, seconds: float) -> bool:
        inline, size = None, 0
        if found:
            path = self._path(key)
            path.parent.mkdir(exist_ok=True)
            draft = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
            try:
                size = codec.write_file(draft, structure, found)
                os.replace(draft, path)
            finally:
                draft.unlink(missing_ok=True)
        else:
            inline = json.dumps(structure)
            size = len(inline)
        row = (key, size, seconds, time.time(), json.dumps(saved), inline)
        self._write("insert or replace into entries values(?, ?, ?, ?, ?, ?)", *row)
        self._keys.add(key)
        self._used += size
        if self._used > self.budget:
            self._trim()
        return True

    def _trim(self) -> None:
        """Deletes the longest unused until nine tenths of the budget are left; also what other processes stored."""
        assert self._database is not None
        rows = self._database.execute("select key, nbytes from entries order by used").fetchall()
        self._used = sum(row[1] for row in rows)
        for key, size in rows:
            if self._used <= self.budget * 0.9:
                break
            self._used -= size
            self.delete([key])

    def _path(self, key: bytes) -> Path:
        name = key.hex()
        return self.folder / "values" / name[:2] / f"{name}.safetensors"
