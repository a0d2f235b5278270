"""Restoring: checked first, put in place at the end, and never outside of the home."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nodegraph.errors import FileProblem, NodegraphError, StorageError
from nodegraph.lock import Lock
from server import restore as module
from server.backup import READY, backup
from server.restore import finish_restore, restore
from server.store import DATABASE, Store

FILES = {"user/default/comfy.settings.json": "{}", "workflows/a.json": "old", "input/picture.png": "picture"}


def write(home: Path, files: dict[str, str], fact: str) -> Path:
    for name, content in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(content)
    Store(home / DATABASE).close()
    with closing(sqlite3.connect(home / DATABASE)) as database:
        database.execute("insert into facts values('which', ?)", (fact,))
        database.commit()
    return home


def which(home: Path) -> str:
    with closing(sqlite3.connect(home / DATABASE)) as database:
        return database.execute("select value from facts where name = 'which'").fetchone()[0]


def files(home: Path, *folders: str) -> dict[str, str]:
    paths = [path for folder in folders for path in (home / folder).rglob("*") if path.is_file()]
    return {path.relative_to(home).as_posix(): path.read_text() for path in paths}


def state(home: Path) -> tuple[str, dict[str, str], list[str]]:
    """All that a restore may change: the database's content, the files, and what lies in the home."""
    passing = ("server.lock", f"{DATABASE}-wal", f"{DATABASE}-shm")
    names = sorted(path.name for path in home.iterdir() if path.name not in passing)
    return which(home), files(home, "user", "workflows", "input"), names


@pytest.fixture
def source(tmp_path: Path) -> Path:
    home = write(tmp_path / "first", FILES, "backed up")
    backup(home, tmp_path / "b.tar")
    return tmp_path / "b.tar"


@pytest.fixture
def used(tmp_path: Path) -> Path:
    """A home with other things in it."""
    return write(tmp_path / "used", {"workflows/b.json": "mine", "models/x.safetensors": "w", "user/u": "u"}, "used")


def test_a_new_home_is_as_the_old_one_was(source, tmp_path):
    done = restore(source, tmp_path / "new")
    assert which(tmp_path / "new") == "backed up"
    assert files(tmp_path / "new", "user", "workflows", "input") == FILES
    assert (done.files, done.replaced) == (4, None)
    assert sorted(os.listdir(tmp_path / "new")) == ["input", "server.lock", DATABASE, "user", "workflows"]
    times = [(tmp_path / home / "input/picture.png").stat().st_mtime for home in ("first", "new")]
    assert int(times[0]) == times[1]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_a_home_that_is_made_for_a_restore_is_closed_to_others(source, tmp_path):
    restore(source, tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0


def test_a_compressed_backup_with_outputs(tmp_path):
    home = write(tmp_path / "first", {"output/x.png": "x", "output/deep/y.png": "y"}, "backed up")
    backup(home, tmp_path / "b.tgz", with_outputs=True)
    restore(tmp_path / "b.tgz", tmp_path / "new")
    assert files(tmp_path / "new", "output") == {"output/x.png": "x", "output/deep/y.png": "y"}


def test_a_home_in_use_is_left_unless_forced(source, used):
    before = state(used)
    with pytest.raises(FileProblem, match=rf"is in use: it holds {DATABASE}, user, workflows; .*--force"):
        restore(source, used)
    assert state(used) == before


def test_folders_that_a_backup_does_not_touch_do_not_count(source, tmp_path):
    (tmp_path / "new" / "models").mkdir(parents=True)
    (tmp_path / "new" / "models" / "x.safetensors").write_text("w")
    (tmp_path / "new" / "input").mkdir()
    restore(source, tmp_path / "new")
    assert files(tmp_path / "new", "models") == {"models/x.safetensors": "w"}


def test_what_force_replaces_is_kept_beside(source, used):
    (used / f"{DATABASE}-wal").write_bytes(b"an old log")
    done = restore(source, used, is_forced=True)
    assert which(used) == "backed up"
    assert files(used, "user", "workflows", "input", "models") == {**FILES, "models/x.safetensors": "w"}
    assert done.replaced is not None and done.replaced.parent == used
    assert files(done.replaced, "user", "workflows") == {"workflows/b.json": "mine", "user/u": "u"}
    assert (done.replaced / f"{DATABASE}-wal").read_bytes() == b"an old log"
    (done.replaced / f"{DATABASE}-wal").unlink()
    assert which(done.replaced) == "used"


def test_a_backup_of_an_empty_folder_empties_it(tmp_path, used):
    backup(write(tmp_path / "first", {}, "backed up"), tmp_path / "b.tar")
    restore(tmp_path / "b.tar", used, is_forced=True)
    assert files(used, "user", "workflows", "input") == {}


def test_a_home_whose_server_runs_is_left(source, used):
    before = state(used)
    with Lock(used) as lock:
        lock.tell("http://127.0.0.1:8188")
        with pytest.raises(StorageError, match=r"in use by another server \(process \d+, http://127.0.0.1:8188\)"):
            restore(source, used, is_forced=True)
    assert state(used) == before


class Killed(BaseException):
    """Stands for the end of the process: no `except Exception` sees it."""


@pytest.mark.parametrize("at", range(11))
def test_a_restore_killed_at_any_move_is_the_old_state_or_ends_at_the_next_start(source, used, monkeypatch, at):
    (used / f"{DATABASE}-wal").write_bytes(b"")
    before, moves = state(used), iter(range(at))
    move = os.replace

    def replace(*paths: Any) -> None:
        if next(moves, None) is None:
            raise Killed
        move(*paths)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(module.os, "replace", replace)
        patch.setattr(module.shutil, "rmtree", _die)
        restore(source, used, is_forced=True)
    with Lock(used):
        finish_restore(used)
        finish_restore(used)
    if at == 0:
        assert state(used) == before
    else:
        assert which(used) == "backed up"
        assert files(used, "user", "workflows", "input") == FILES
        assert [name for name in os.listdir(used) if name.startswith(".")] == []
        (kept,) = (path for path in used.iterdir() if path.name.startswith("replaced-"))
        assert files(kept, "user", "workflows") == {"workflows/b.json": "mine", "user/u": "u"}


def _die(*_: Any, **__: Any) -> None:
    raise Killed


def test_a_restore_killed_while_it_unpacks_leaves_the_old_state(source, used, monkeypatch):
    before, extract, left = state(used), module._extract, iter(range(2))

    def stop(*args: Any) -> None:
        if next(left, None) is None:
            raise Killed
        extract(*args)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(module, "_extract", stop)
        patch.setattr(module.shutil, "rmtree", lambda *_, **__: None)  # a process that is killed cleans nothing up
        restore(source, used, is_forced=True)
    assert state(used)[:2] == before[:2]
    finish_restore(used)
    assert state(used) == before


def test_an_unfinished_restore_is_ended_by_the_next_and_stops_backups(source, used, monkeypatch, tmp_path):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(module, "_free", lambda path: path if "replaced" in path.name else _die())
        restore(source, used, is_forced=True)
    assert (used / READY).is_dir()
    with pytest.raises(FileProblem, match="cut short; start the server, or restore again"):
        backup(used, tmp_path / "c.tar")
    restore(source, used, is_forced=True)
    assert which(used) == "backed up"
    assert not (used / READY).exists()


def rewritten(source: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]) -> Path:
    """The backup, changed."""
    with tarfile.open(source) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    change(members)
    path = source.with_name("changed.tar")
    with tarfile.open(path, "w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def member(name: str, **facts: Any) -> tuple[tarfile.TarInfo, bytes]:
    found = tarfile.TarInfo(name)
    for key, value in facts.items():
        setattr(found, key, value)
    return found, b""


ODD = [
    member("../evil.txt"), member("/etc/evil"), member("user/../../evil"), member("user//x"), member("user/./x"),
    member("user"), member("models/x.safetensors"), member("server.lock"), member(f"{DATABASE}-wal"),
    member("input/link", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    member("input/hard", type=tarfile.LNKTYPE, linkname="input/picture.png"),
    member("input/pipe", type=tarfile.FIFOTYPE), member("input/dir", type=tarfile.DIRTYPE),
    member("workflows/a.json"), member("input/not in the manifest"),
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd[0].name)
@pytest.mark.parametrize("is_first", [True, False])
def test_what_no_backup_holds_is_refused_and_nothing_is_written(source, used, odd, is_first, tmp_path):
    before = state(used)
    path = rewritten(source, lambda members: members.insert(0 if is_first else len(members), odd))
    with pytest.raises(FileProblem):
        restore(path, used, is_forced=True)
    assert state(used) == before
    assert sorted(item.name for item in tmp_path.iterdir()) == ["b.tar", "changed.tar", "first", "used"]


def test_names_in_the_manifest_cannot_lead_outside_either(source, used, tmp_path):
    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        entry, content = members[-1]
        told = json.loads(content)
        told["files"][1]["path"] = "../evil"
        told["folders"].append("../evil")
        members[-1] = entry, json.dumps(told).encode()

    with pytest.raises(FileProblem, match="folders that are none of nodegraph's"):
        restore(rewritten(source, change), used, is_forced=True)
    assert not (tmp_path / "evil").exists()


def test_a_changed_byte_is_found_before_anything_is_replaced(source, used):
    before = state(used)

    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        index = next(index for index, (found, _) in enumerate(members) if found.name == "input/picture.png")
        members[index] = members[index][0], b"pictura"

    with pytest.raises(FileProblem, match=r"input/picture.png in the backup is damaged: its digest differs"):
        restore(rewritten(source, change), used, is_forced=True)
    assert state(used) == before


@pytest.mark.parametrize("dropped", ["input/picture.png", DATABASE, "manifest.json"])
def test_a_missing_file_is_found(source, used, dropped):
    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        members[:] = [(found, content) for found, content in members if found.name != dropped]

    with pytest.raises(FileProblem, match=dropped):
        restore(rewritten(source, change), used, is_forced=True)


@pytest.mark.parametrize(("key", "value"), [("database", 999), ("nodegraph_backup", 2)])
def test_a_newer_backup_asks_for_an_update(source, used, key, value):
    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        entry, content = members[-1]
        members[-1] = entry, json.dumps({**json.loads(content), key: value, "version": "9.9"}).encode()

    with pytest.raises(FileProblem, match=r"written by nodegraph 9\.9; update nodegraph"):
        restore(rewritten(source, change), used, is_forced=True)


@pytest.mark.parametrize("content", [b"", b"PNG" * 300, b"\x1f\x8b\x08garbage", b"\x00" * 2048])
def test_another_file_is_no_backup(tmp_path, used, content):
    before = state(used)
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(FileProblem, match="no backup"):
        restore(tmp_path / "x", used, is_forced=True)
    assert state(used) == before


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_a_backup_cut_short_anywhere_is_refused(tmp_path, used, suffix):
    before = state(used)
    backup(write(tmp_path / "first", FILES, "backed up"), tmp_path / f"b.{suffix}")
    whole = (tmp_path / f"b.{suffix}").read_bytes()
    manifest_end = len(whole.rstrip(b"\0")) if suffix == "tar" else len(whole)
    for part in range(1, 12):
        (tmp_path / "cut").write_bytes(whole[: manifest_end * part // 12])
        with pytest.raises(FileProblem):
            restore(tmp_path / "cut", used, is_forced=True)
    assert state(used) == before


def test_a_disk_without_room_is_told_before_anything_is_written(source, used, monkeypatch):
    before = state(used)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    with pytest.raises(StorageError, match=r"1 bytes free and the backup needs"):
        restore(source, used, is_forced=True)
    assert state(used) == before


def test_a_missing_file_is_a_sentence(tmp_path):
    with pytest.raises(NodegraphError, match="is not there; name a file"):
        restore(tmp_path / "none.tar", tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_there_is_nothing_to_finish_in_a_home_that_is_whole_or_missing(used, tmp_path):
    before = state(used)
    assert finish_restore(used) is None
    assert finish_restore(tmp_path / "none") is None
    assert state(used) == before
