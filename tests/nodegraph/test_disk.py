"""The disk tier: what survives, and that its troubles cost time and never a run."""

from __future__ import annotations

import logging
import os
import sqlite3
from pathlib import Path

import pytest
import torch

from nodegraph.codec import read_file
from nodegraph.disk import DiskTier

GIB = 1 << 30
KEYS = [bytes([i]) * 16 for i in range(20)]


def opened(folder: Path, budget: int = GIB) -> DiskTier:
    return DiskTier(folder, budget, {"tests"})


def file_of(disk: DiskTier, key: bytes) -> Path:
    return disk.folder / "values" / key.hex()[:2] / f"{key.hex()}.safetensors"


def test_values_recipes_and_files_survive_a_restart(tmp_path: Path) -> None:
    disk = opened(tmp_path)
    assert disk.put(KEYS[0], (torch.ones(3), 5), [{"filename": "a.png"}], 1.5)
    assert disk.put(KEYS[1], ("text",), [], 0.5)
    disk.put_recipes("scope", {"3": {"type": "Add"}})
    disk.close()
    disk = opened(tmp_path)
    value = disk.get(KEYS[0])
    assert torch.equal(value[0], torch.ones(3)) and value[1] == 5
    assert disk.get(KEYS[1]) == ("text",)
    stored = disk.describe(KEYS[0])
    assert stored is not None and (stored.saved, stored.seconds) == ([{"filename": "a.png"}], 1.5)
    assert stored.nbytes == file_of(disk, KEYS[0]).stat().st_size
    assert disk.recipe("scope", "3") == {"type": "Add"}
    assert disk.recipe("scope", "4") is None is disk.recipe("other", "3")
    assert (len(disk), KEYS[0] in disk, KEYS[2] in disk, disk.describe(KEYS[2])) == (2, True, False, None)
    disk.close()


def test_a_value_is_found_only_under_its_own_key(tmp_path: Path) -> None:
    disk = opened(tmp_path)
    with pytest.raises(KeyError):
        disk.get(KEYS[0])
    assert not disk.put(KEYS[0], (object(),), [], 1.0)
    assert KEYS[0] not in disk
    disk.close()


@pytest.mark.parametrize("damage", [b"", b"garbage" * 30])
def test_a_damaged_value_is_forgotten(tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    disk = opened(tmp_path)
    disk.put(KEYS[0], (torch.ones(3),), [], 1.0)
    file_of(disk, KEYS[0]).write_bytes(damage)
    with pytest.raises(KeyError):
        disk.get(KEYS[0])
    assert "is made again" in caplog.text
    assert KEYS[0] not in disk and not file_of(disk, KEYS[0]).exists()
    assert disk.put(KEYS[0], (torch.ones(3),), [], 1.0)
    assert torch.equal(disk.get(KEYS[0])[0], torch.ones(3))
    disk.close()


@pytest.mark.parametrize(
    "inline",
    [
        "not json",
        '{"is": "tuple", "of": 5}',
        '{"is": "tuple"}',
        '{"is": "os:system", "of": {}}',
        '{"is": "dict", "of": [1]}',
    ],
)
def test_a_damaged_row_is_forgotten(tmp_path: Path, inline: str) -> None:
    disk = opened(tmp_path)
    disk.put(KEYS[0], (1,), [], 1.0)
    disk.put_recipes("s", {"n": {}})
    disk.close()
    database = sqlite3.connect(tmp_path / "index.sqlite")
    database.execute("update entries set inline = ?", [inline])
    database.execute("update recipes set recipe = 'not json'")
    database.commit()
    database.close()
    disk = opened(tmp_path)
    with pytest.raises(KeyError):
        disk.get(KEYS[0])
    assert KEYS[0] not in disk
    assert disk.recipe("s", "n") is None
    disk.close()


def test_a_damaged_index_is_begun_again(tmp_path: Path) -> None:
    disk = opened(tmp_path)
    disk.put(KEYS[0], (1,), [], 1.0)
    disk.close()
    for damage in (b"this is no database" * 100, (tmp_path / "index.sqlite").read_bytes()[:300] + b"\xff" * 9000):
        for side in ("-wal", "-shm"):
            (tmp_path / f"index.sqlite{side}").unlink(missing_ok=True)
        (tmp_path / "index.sqlite").write_bytes(damage)
        disk = opened(tmp_path)
        assert disk.is_open and len(disk) == 0
        assert disk.put(KEYS[1], (2,), [], 1.0) and disk.get(KEYS[1]) == (2,)
        disk.close()
    assert len(list(tmp_path.glob("index.damaged-*"))) == 2


def test_an_index_of_another_version_is_begun_again(tmp_path: Path) -> None:
    opened(tmp_path).close()
    database = sqlite3.connect(tmp_path / "index.sqlite")
    database.execute("pragma user_version=99")
    database.close()
    disk = opened(tmp_path)
    assert disk.is_open
    disk.close()


def test_a_folder_that_cannot_be_used_is_said_once_and_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    disk = opened(tmp_path / "file")
    assert not disk.is_open
    for key in KEYS:
        assert not disk.put(key, (1,), [], 1.0)
        with pytest.raises(KeyError):
            disk.get(key)
        disk.delete([key])
    assert disk.describe(KEYS[0]) is None is disk.recipe("s", "n")
    disk.put_recipes("s", {"n": {}})
    assert disk.digest("x", os.stat(tmp_path), lambda: "found") == "found"
    assert len(caplog.records) == 1
    disk.close()


def test_a_disk_that_refuses_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = opened(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nodegraph.codec.write_file", full)
    with caplog.at_level(logging.WARNING):
        assert [disk.put(key, (torch.ones(1),), [], 1.0) for key in KEYS[:3]] == [False] * 3
    assert [record.message.count("No space left") for record in caplog.records] == [1]
    assert not list(tmp_path.glob("values/*/*.part"))
    assert disk.put(KEYS[5], (1,), [], 1.0)
    disk.close()


def test_values_that_break_the_writer_are_left_out(tmp_path: Path) -> None:
    disk = opened(tmp_path)
    assert not disk.put(KEYS[0], (10**5000,), [], 1.0)
    assert not disk.put_recipes("s", {"\ud800": {}})
    assert disk.recipe("s", "\ud800") is None
    assert disk.put(KEYS[1], (1,), [], 1.0)
    disk.close()


def test_the_longest_unused_go_when_the_budget_is_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr("nodegraph.disk.time.time", lambda: float(next(clock)))
    disk = opened(tmp_path, budget=12_000)
    for key in KEYS[:4]:
        disk.put(key, (torch.zeros(700),), [], 1.0)
    disk.get(KEYS[0])
    disk.put(KEYS[4], (torch.zeros(700),), [], 1.0)
    assert [key in disk for key in KEYS[:5]] == [True, False, False, True, True]
    assert disk.used <= 12_000 * 0.9
    assert len(list(tmp_path.glob("values/*/*.safetensors"))) == 3
    disk.close()


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    disk = opened(tmp_path)
    disk.put(KEYS[0], (torch.ones(3),), [], 1.0)
    assert [path.name for path in tmp_path.glob("values/*/*")] == [f"{KEYS[0].hex()}.safetensors"]
    structure, found = read_file(file_of(disk, KEYS[0]))
    assert structure["is"] == "tuple" and torch.equal(found["0"], torch.ones(3))
    disk.close()


def test_two_processes_may_share_a_folder(tmp_path: Path) -> None:
    one = opened(tmp_path)
    one.put(KEYS[0], (1,), [], 1.0)
    other = opened(tmp_path)
    other.put(KEYS[1], (2,), [], 1.0)
    other.delete([KEYS[0]])
    with pytest.raises(KeyError):
        one.get(KEYS[0])
    assert one.describe(KEYS[0]) is None and KEYS[0] not in one
    assert other.get(KEYS[1]) == (2,)
    one.close()
    other.close()


def test_a_digest_is_computed_again_only_when_the_file_changed(tmp_path: Path) -> None:
    disk = opened(tmp_path)
    path = tmp_path / "model.bin"
    calls: list[str] = []

    def compute() -> str:
        calls.append(path.read_text())
        return path.read_text()

    def digest() -> str:
        return disk.digest(str(path), path.stat(), compute)

    path.write_text("new")
    assert (digest(), digest(), len(calls)) == ("new", "new", 2)  # too young to trust its time
    os.utime(path, ns=(10**18, 10**18))
    assert (digest(), digest(), len(calls)) == ("new", "new", 3)
    path.write_text("old")
    os.utime(path, ns=(10**18 + 1, 10**18 + 1))
    assert (digest(), digest(), len(calls)) == ("old", "old", 4)
    disk.close()
    again = opened(tmp_path)
    assert (again.digest(str(path), path.stat(), compute), len(calls)) == ("old", 4)
    again.close()
