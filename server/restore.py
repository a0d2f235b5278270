"""Restoring a backup: unpacked and checked beside what is there, then put in its place."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import re
import secrets
import shutil
import tarfile
import time
import zlib
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from nodegraph.errors import FileProblem, StorageError
from nodegraph.lock import Lock
from server.backup import BESIDES, FOLDERS, FORMAT, MANIFEST, OUTPUTS, READY, Backed, Entry, Manifest, shown
from server.migrations import MIGRATIONS
from server.store import DATABASE

MANIFEST_LIMIT = 256 << 20
BLOCK = 1 << 20
DRAFT = re.compile(r"\.restore-[0-9a-f]{12}\.part")
NEW, REPLACED = "new", "replaced"  # in the folder of a restore: what comes, and the name of the folder for what goes
BROKEN = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError)


def restore(source: Path, home: Path, *, is_forced: bool = False) -> Backed:
    """Puts a backup in the place of what a home holds; what it replaces is kept in the home, in `replaced-DATE`.

    Everything is unpacked and checked first: a restore that is killed until then has changed nothing. One that is
    killed later goes on with `finish_restore`. Folders that are not in the backup, such as models, stay.

    Args:
        source: a file that `backup` wrote.
        home: the data folder; made when missing.
        is_forced: also when the home holds a database or files already.

    Raises:
        FileProblem: the file is no backup or is damaged, or the home is in use and `is_forced` is False.
        StorageError: a server runs in the home, or the disk is full or cannot be written.
    """
    if not source.is_file():
        raise FileProblem(f"{source} is not there; name a file that nodegraph backup wrote")
    with Lock(home) as lock:
        lock.tell("a restore")
        finish_restore(home)
        try:
            manifest, draft = _unpack(source, home, is_forced)
        except BROKEN as error:
            raise FileProblem(f"{source} is no backup, or is damaged: {error}; take another one") from error
        except OSError as error:
            raise StorageError(f"{source} cannot be restored: {error}; {home} is as it was") from error
        try:
            os.replace(draft, home / READY)
            replaced = finish_restore(home)
        except OSError as error:
            raise StorageError(
                f"{home} cannot be written: {error}; restore again, or start the server, to end it"
            ) from error
    return Backed(len(manifest.files), sum(entry.nbytes for entry in manifest.files), replaced)


def finish_restore(home: Path) -> Path | None:
    """Ends a restore that was killed, and forgets one that had replaced nothing -> the folder with what was replaced.

    A server calls it before it opens the database, holding the home's lock. None when there is nothing of the kind.
    """
    for path in list(home.iterdir()) if home.is_dir() else ():
        if DRAFT.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
    ready = home / READY
    if not ready.is_dir():
        return None
    replaced = home / (ready / REPLACED).read_text("utf-8")
    replaced.mkdir(mode=0o700, exist_ok=True)
    for name in sorted(os.listdir(ready / NEW)):
        for old in [name + end for end in BESIDES] if name == DATABASE else [name]:
            if os.path.lexists(home / old):  # an old WAL beside a new database would spoil it
                os.replace(home / old, _free(replaced / old))
        os.replace(ready / NEW / name, home / name)
    with contextlib.suppress(OSError):
        replaced.rmdir()  # nothing was there before
    done = home / _draft_name()
    os.replace(ready, done)
    shutil.rmtree(done)
    return replaced if replaced.is_dir() else None


def _unpack(source: Path, home: Path, is_forced: bool) -> tuple[Manifest, Path]:
    """Unpacks a backup into a folder of the home and checks it -> what it holds, and that folder."""
    with open(source, "rb") as file:
        mode = "r:gz" if file.read(2) == b"\x1f\x8b" else "r:"
    draft = home / _draft_name()
    with tarfile.open(source, mode) as tar:
        members = _members(tar, source)
        manifest = _manifest(tar, members, source)
        _check_home(home, manifest, is_forced)
        try:
            (draft / NEW).mkdir(parents=True, mode=0o700)
            for folder in manifest.folders:
                (draft / NEW / folder).mkdir()
            for entry in manifest.files:
                _extract(tar, members[entry.path], entry, draft / NEW)
            name = time.strftime("replaced-%Y%m%d-%H%M%S")
            (draft / REPLACED).write_text(_free(home / name).name, "utf-8")
            if hasattr(os, "sync"):
                os.sync()
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    return manifest, draft


def _members(tar: tarfile.TarFile, source: Path) -> dict[str, tarfile.TarInfo]:
    """The files in a backup by name. Anything that could be written elsewhere than in its folder is refused."""
    members: dict[str, tarfile.TarInfo] = {}
    for member in tar:
        name = shown(member.name)
        if not member.isreg():
            raise FileProblem(f"{source}: {name!r} is a link, a folder or a device; a backup holds files only")
        if not _is_ours(member.name):
            raise FileProblem(
                f"{source}: {name!r} belongs to no backup or leads out of its folder; nothing was restored"
            )
        if name in members:
            raise FileProblem(f"{source}: {name!r} is in it twice; nothing was restored")
        members[name] = member
    return members


def _is_ours(name: str) -> bool:
    if name in (MANIFEST, DATABASE):
        return True
    folder, *parts = name.split("/")
    is_plain = all(part not in ("", ".", "..") and "\0" not in part for part in parts)
    is_portable = os.name != "nt" or not re.search(r"[\\:]", name)
    return folder in (*FOLDERS, OUTPUTS) and bool(parts) and is_plain and is_portable


def _manifest(tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], source: Path) -> Manifest:
    """The manifest of a backup; every file agrees with it.

    Raises:
        FileProblem: there is none, it is of a newer version, or it does not tell of these files.
    """
    member = members.get(MANIFEST)
    file = tar.extractfile(member) if member is not None and member.size <= MANIFEST_LIMIT else None
    if file is None:
        raise FileProblem(f"{source} holds no {MANIFEST}: it is no backup, or is cut short; take another one")
    try:
        manifest = Manifest.model_validate_json(file.read())
    except ValidationError as error:
        raise FileProblem(f"{source}: its {MANIFEST} is not nodegraph's; take another backup") from error
    if manifest.nodegraph_backup != FORMAT or manifest.database > len(MIGRATIONS):
        raise FileProblem(f"{source} was written by nodegraph {manifest.version}; update nodegraph to restore it")
    if DATABASE not in members or not {*manifest.folders} <= {*FOLDERS, OUTPUTS}:
        raise FileProblem(f"{source} holds no {DATABASE}, or folders that are none of nodegraph's; take another one")
    told = {entry.path: entry.nbytes for entry in manifest.files}
    found = {name: member.size for name, member in members.items() if name != MANIFEST}
    if told != found or len(told) != len(manifest.files):
        wrong = sorted({name for name, _ in told.items() ^ found.items()})[:3]
        raise FileProblem(f"{source} is damaged: {', '.join(wrong)} not as its manifest says; take another one")
    if any(name.partition("/")[0] not in (DATABASE, *manifest.folders) for name in told):
        raise FileProblem(f"{source} is damaged: it holds files of folders its manifest does not tell of")
    return manifest


def _check_home(home: Path, manifest: Manifest, is_forced: bool) -> None:
    """Raises when the home has no room, or holds what would be replaced."""
    names = (DATABASE, *manifest.folders)
    used = [name for name in names if _holds_files(home / name)]
    if used and not is_forced:
        raise FileProblem(
            f"{home} is in use: it holds {', '.join(used)}; name another --home, or --force to replace them"
        )
    mounted = [name for name in names if os.path.ismount(home / name)]
    if mounted:
        raise StorageError(f"{home / mounted[0]} is a mount point and cannot be replaced; restore into another --home")
    needed, free = sum(entry.nbytes for entry in manifest.files), shutil.disk_usage(home).free
    if needed > free:
        raise StorageError(f"{home} has {free:,} bytes free and the backup needs {needed:,}; free some space")


def _holds_files(path: Path) -> bool:
    if not path.is_dir():
        return os.path.lexists(path)
    return any(files for _, _, files in os.walk(path))


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, entry: Entry, root: Path) -> None:
    """Writes one file and checks its digest."""
    path = root / member.name
    path.parent.mkdir(parents=True, exist_ok=True)
    content, state = tar.extractfile(member), hashlib.sha256()
    assert content is not None, "only files are among the members"
    with open(path, "xb") as file:
        while block := content.read(BLOCK):
            state.update(block)
            file.write(block)
    if state.hexdigest() != entry.sha256:
        raise FileProblem(f"{entry.path} in the backup is damaged: its digest differs; take another backup")
    os.utime(path, (member.mtime, member.mtime))


def _draft_name() -> str:
    return f".restore-{secrets.token_hex(6)}.part"


def _free(path: Path) -> Path:
    """The path, or with marks at its end when it is taken."""
    while os.path.lexists(path):
        path = path.with_name(path.name + "~")
    return path
