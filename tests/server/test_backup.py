"""Backups of a home in use."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sqlite3
import tarfile
import threading
from contextlib import closing
from pathlib import Path

import pytest

from nodegraph.errors import FileProblem, StorageError
from server import backup as module
from server.backup import backup
from server.migrations import MIGRATIONS
from server.store import DATABASE, Store


def write_home(home: Path) -> None:
    """Some of everything that a home holds."""
    for name, content in {
        "user/default/comfy.settings.json": "{}", "workflows/portrait.json": "{}", "workflows/ältere/a b.json": "[]",
        "input/picture.png": "png" * 1000, "output/made.png": "made", "models/loras/big.safetensors": "weights",
        "cache/index.sqlite": "cache", "input/.draft.part": "half",
    }.items():  # fmt: skip
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(content)
    Store(home / DATABASE).close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_home(tmp_path / "home")
    return tmp_path / "home"


def contents(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def facts(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("pragma integrity_check").fetchone()[0] == "ok"
        return dict(database.execute("select name, value from facts").fetchall())


def test_a_backup_holds_the_database_and_peoples_files_with_their_digests(home, tmp_path):
    target = tmp_path / "new" / "folder" / "b.tar"
    done = backup(home, target)
    found = contents(target)
    assert next(iter(found)) == DATABASE
    assert set(found) == {
        DATABASE, "manifest.json", "input/picture.png", "user/default/comfy.settings.json", "workflows/portrait.json",
        "workflows/ältere/a b.json",
    }  # fmt: skip
    manifest = json.loads(found.pop("manifest.json"))
    assert manifest["database"] == len(MIGRATIONS)
    assert manifest["folders"] == ["user", "workflows", "input"]
    assert {entry["path"]: (entry["nbytes"], entry["sha256"]) for entry in manifest["files"]} == {
        name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in found.items()
    }
    assert (done.files, done.nbytes) == (5, sum(map(len, found.values())))


def test_outputs_come_when_asked_for_and_a_name_in_gz_is_compressed(home, tmp_path):
    backup(home, tmp_path / "b.tar.gz", with_outputs=True)
    assert contents(tmp_path / "b.tar.gz")["output/made.png"] == b"made"
    assert (tmp_path / "b.tar.gz").read_bytes()[:2] == b"\x1f\x8b"


def test_a_database_that_is_written_meanwhile_is_backed_up_as_it_was_at_one_moment(home, tmp_path):
    """Each write adds a pair: a backup that saw half of one, or missed one that was told as written, would show it."""
    store, stop, told, progress = Store(home / DATABASE), threading.Event(), list[int](), threading.Event()

    def add(number: int):
        def work(database: sqlite3.Connection) -> None:
            for side in "ab":
                database.execute("insert into facts values(?, ?)", (f"{side}{number}", "x" * 2000))

        return work

    async def write() -> None:
        while not stop.is_set():
            await store.write(add(len(told)))
            told.append(len(told))
            progress.set()

    thread = threading.Thread(target=lambda: asyncio.run(write()))
    thread.start()
    try:
        for number in range(5):
            progress.clear()
            assert progress.wait(20)
            before = len(told)
            backup(home, tmp_path / f"{number}.tar")
            (tmp_path / "copy.sqlite").write_bytes(contents(tmp_path / f"{number}.tar")[DATABASE])
            names = set(facts(tmp_path / "copy.sqlite"))
            assert {name[1:] for name in names if name[0] == "a"} == {name[1:] for name in names if name[0] == "b"}
            assert names >= {f"a{each}" for each in range(before)}
    finally:
        stop.set()
        thread.join()
        store.close()
    assert len(facts(home / DATABASE)) == 2 * len(told)


@pytest.mark.skipif(os.name == "nt", reason="no modes there")
def test_only_its_owner_can_read_a_backup(home, tmp_path):
    backup(home, tmp_path / "b.tar")
    assert (tmp_path / "b.tar").stat().st_mode & 0o777 == 0o600


def test_a_backup_that_fails_leaves_nothing(home, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_add", full)
    (tmp_path / "out").mkdir()
    with pytest.raises(StorageError, match=r"the backup failed: .*No space left on device.*b.tar was not made"):
        backup(home, tmp_path / "out" / "b.tar")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_damaged_database_is_told_and_not_backed_up(home, tmp_path):
    with open(home / DATABASE, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    with pytest.raises(StorageError, match=r"damaged|malformed"):
        backup(home, tmp_path / "b.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]


def test_a_file_that_exists_is_not_replaced(home, tmp_path):
    (tmp_path / "picture.png").write_text("mine")
    with pytest.raises(FileProblem, match="exists; name a new file"):
        backup(home, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_text() == "mine"


def test_a_folder_without_a_database_is_no_home(tmp_path):
    with pytest.raises(FileProblem, match="holds no server's database"):
        backup(tmp_path, tmp_path / "b.tar")


def test_links_are_followed_each_folder_once(home, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "linked.json").write_text("{}")
    try:
        (home / "workflows" / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        (home / "workflows" / "round").symlink_to(home / "workflows", target_is_directory=True)
        (home / "workflows" / "gone.json").symlink_to(tmp_path / "nowhere.json")
    except OSError:
        pytest.skip("no links here")
    backup(home, tmp_path / "b.tar")
    names = [name for name in contents(tmp_path / "b.tar") if name.startswith("workflows")]
    assert names == ["workflows/portrait.json", "workflows/more/linked.json", "workflows/ältere/a b.json"]


def test_a_backup_into_the_home_does_not_hold_itself(home):
    backup(home, home / "input" / "b.tar")
    assert [name for name in contents(home / "input" / "b.tar") if name.startswith("input")] == ["input/picture.png"]
