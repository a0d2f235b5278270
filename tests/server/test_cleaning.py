"""What is deleted after a while, and what stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

from nodegraph.files import CLAIMS, Folders
from server.cleaning import DRAFT_SECONDS, TEMP_SECONDS, clean

NOW = time.time()


def put(path: Path, age: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    os.utime(path, (NOW - age, NOW - age))
    return path


def test_what_is_old_and_temporary_goes_and_all_else_stays(tmp_path):
    folders = Folders.of(tmp_path)
    old, day = TEMP_SECONDS + 60, DRAFT_SECONDS + 60
    gone = [
        put(tmp_path / "temp" / "results" / "run" / "image_00001_.png", old), put(tmp_path / "temp" / "a.png", old),
        put(tmp_path / "output" / "deep" / ".0123456789ab.part", day), put(tmp_path / "input" / ".00.part", day),
        put(tmp_path / "user" / "default" / ".00.part", day), put(tmp_path / "workflows" / ".00.part", day),
    ]  # fmt: skip
    stays = [
        put(tmp_path / "temp" / "new.png", TEMP_SECONDS - 60), put(tmp_path / "output" / "old.png", 10 * old),
        put(tmp_path / "output" / ".01.part", 60), put(tmp_path / "input" / "old.png", 10 * old),
        put(tmp_path / "output" / "named.part", 10 * old),
        put(tmp_path / "temp" / CLAIMS / "run" / "9-1.png", old),
    ]  # fmt: skip
    for folder in (tmp_path / "temp" / "results" / "run", tmp_path / "temp" / "results"):
        os.utime(folder, (NOW - old, NOW - old))
    assert clean(folders, NOW) == len(gone)
    assert [path.name for path in gone if path.exists()] == []
    assert [path.name for path in stays if not path.exists()] == []
    os.utime(tmp_path / "temp" / "results" / "run", (NOW - old, NOW - old))
    assert clean(folders, NOW) == 0 and not (tmp_path / "temp" / "results" / "run").exists()


def test_folders_that_are_not_there_are_no_trouble(tmp_path):
    assert clean(Folders.of(tmp_path / "none"), NOW) == 0
