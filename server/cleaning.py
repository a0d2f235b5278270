"""Keeps folders from filling up: pictures that were only shown, and drafts of processes that died, go after a while."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

from nodegraph.files import CLAIMS, Folders
from server.desk import Desk

log = logging.getLogger(__name__)
EVERY_SECONDS = 3600.0
TEMP_SECONDS = 7 * 24 * 3600.0  # how long what was only shown can still be seen
DRAFT_SECONDS = 24 * 3600.0  # a draft so old is nobody's: a running write touches it


async def keep_clean(desk: Desk) -> None:
    """Cleans now and every hour, until it is cancelled."""
    while True:
        count = await desk.do(clean, desk.folders, time.time())
        if count:
            log.info("%d old temporary files were deleted", count)
        await asyncio.sleep(EVERY_SECONDS)


def clean(folders: Folders, now: float) -> int:
    """Deletes what is old in `temp`, and old drafts everywhere -> how many files.

    Args:
        folders: the data folders.
        now: seconds since 1970.
    """
    temp = folders.home / "temp"
    found = [path for path in _files(temp) if _age(path, now) > TEMP_SECONDS]
    for root in (folders.output, *(folders.home / name for name in ("input", "user", "workflows")), temp):
        found += [path for path in _files(root) if _is_draft(path) and _age(path, now) > DRAFT_SECONDS]
    count = 0
    for path in dict.fromkeys(found):
        try:
            path.unlink()
            count += 1
        except OSError as error:  # somebody else was faster, or it is not ours
            log.debug("a temporary file stays: %s", error.strerror)
    for folder, _, _ in os.walk(temp, topdown=False):
        if Path(folder) != temp and _age(Path(folder), now) > TEMP_SECONDS:
            try:
                os.rmdir(folder)
            except OSError:  # something is in it
                continue
    return count


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name != CLAIMS]
        yield from (Path(folder, name) for name in files)


def _is_draft(path: Path) -> bool:
    return path.name.startswith(".") and path.suffix == ".part"


def _age(path: Path, now: float) -> float:
    """Seconds since a file was written; 0 when it is gone."""
    try:
        return now - path.stat().st_mtime
    except OSError:
        return 0.0
