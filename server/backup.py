"""Backups: the database and people's files in one tar file, with their digests."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import secrets
import sqlite3
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from pydantic import BaseModel, Field

from nodegraph import __version__
from nodegraph.errors import FileProblem, StorageError
from server.store import DATABASE

BESIDES = ("", "-wal", "-shm", "-journal")  # the database and what SQLite keeps beside it
FOLDERS = ("user", "workflows", "input")
OUTPUTS = "output"
MANIFEST = "manifest.json"
READY = ".restored"  # folder of a home: a restore that was under way, see `server.restore`
FORMAT = 1


class Entry(BaseModel):
    """A file in a backup."""

    path: str
    nbytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """What a backup holds; the last file in it.

    Attributes:
        nodegraph_backup: version of this format.
        version, database: versions of nodegraph and of the database's schema.
        created: seconds since 1970.
        folders: those that were backed up, also when empty.
    """

    nodegraph_backup: int
    version: str
    database: int
    created: float
    folders: list[str]
    files: list[Entry]


class Backed(NamedTuple):
    """What a backup or a restore took: files and their bytes, and the folder with what a restore replaced."""

    files: int
    nbytes: int
    replaced: Path | None = None


def backup(home: Path, target: Path, *, with_outputs: bool = False) -> Backed:
    """Writes a backup, also while a server runs: whole or not at all, and readable by its owner only.

    The database comes first, so that the files it knows of are there when the folders are read.

    Args:
        home: the data folder.
        target: a new tar file; a name that ends in `.gz` or `.tgz` compresses it.
        with_outputs: pictures too.

    Raises:
        FileProblem: there is nothing to back up, or the target exists.
        StorageError: something cannot be read or written, or the database is damaged.
    """
    if not (home / DATABASE).is_file():
        raise FileProblem(f"{home} holds no server's database ({DATABASE}); name the data folder with --home")
    if (home / READY).exists():
        raise FileProblem(f"a restore of {home} was cut short; start the server, or restore again, to end it")
    if target.exists():
        raise FileProblem(f"{target} exists; name a new file")
    draft = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    copy = draft.with_suffix(".sqlite.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _make_private(copy)
        _copy_database(home / DATABASE, copy)
        _make_private(draft)
        with open(draft, "wb") as file:
            is_compressed = target.suffix.lower() in (".gz", ".tgz")
            files = _write(file, home, copy, [*FOLDERS, *([OUTPUTS] if with_outputs else [])], is_compressed)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)
    except (OSError, sqlite3.Error, tarfile.TarError) as error:
        raise StorageError(f"the backup failed: {error}; {target} was not made") from error
    finally:
        for path in (draft, *(copy.with_name(copy.name + end) for end in BESIDES)):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
    return Backed(len(files), sum(entry.nbytes for entry in files))


def shown(name: str) -> str:
    """A file's name as text: bytes that are no UTF-8 become escapes, which JSON can hold."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _make_private(path: Path) -> None:
    """Makes a file that others cannot read: a backup holds everybody's."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _copy_database(path: Path, copy: Path) -> None:
    """Copies a database in use, as it is at one moment, into one file.

    It is one step: in several, SQLite would begin anew at each write of the server. With a WAL no writer waits for it.
    """
    source, target = sqlite3.connect(path, timeout=10), sqlite3.connect(copy)
    try:
        source.backup(target)
        target.execute("pragma journal_mode=delete")
        found = target.execute("pragma quick_check(1)").fetchone()[0]
        if found != "ok":
            raise StorageError(f"the database {path} is damaged: {found}; restore an earlier backup")
    finally:
        source.close()
        target.close()


def _write(file: IO[bytes], home: Path, copy: Path, folders: list[str], is_compressed: bool) -> list[Entry]:
    with tarfile.open(fileobj=file, mode="w:gz" if is_compressed else "w", format=tarfile.PAX_FORMAT) as tar:
        files = [_add(tar, copy, DATABASE)]
        for folder in folders:
            for path in _files(home / folder):
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    files.append(_add(tar, path, f"{folder}/{path.relative_to(home / folder).as_posix()}"))
        manifest = Manifest(
            nodegraph_backup=FORMAT, version=__version__, database=_schema(copy), created=time.time(), folders=folders,
            files=files,
        )  # fmt: skip
        content = manifest.model_dump_json(indent=1).encode()
        tar.addfile(_member(MANIFEST, len(content), time.time()), io.BytesIO(content))
    return files


def _files(root: Path) -> Iterator[Path]:
    """Every file under a folder but drafts; links are followed, each folder once."""
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        paths = [Path(folder, name) for name in sorted(files) if not (name.startswith(".") and name.endswith(".part"))]
        yield from (path for path in paths if path.is_file())


def _add(tar: tarfile.TarFile, path: Path, name: str) -> Entry:
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        stream = _Digesting(file)
        tar.addfile(_member(name, status.st_size, status.st_mtime), stream)
    return Entry(path=shown(name), nbytes=status.st_size, sha256=stream.state.hexdigest())


def _member(name: str, nbytes: int, modified: float) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = nbytes, int(modified), 0o600
    return member


def _schema(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return database.execute("pragma user_version").fetchone()[0]


class _Digesting(io.RawIOBase):
    """A file whose digest is taken as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.state = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self.state.update(block)
        return block
