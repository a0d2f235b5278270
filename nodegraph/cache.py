"""Results by key over tiers: device memory, host memory, disk. All calls are made under the session's lock.

An entry is found by key alone, so a hit needs nothing upstream. When a device is short of room its ledger evicts the
entry, which then moves to host memory, and from there leaves; the disk tier holds what was worth writing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nodegraph.disk import DiskTier
from nodegraph.events import SavedFile
from nodegraph.memory import Ledger, device_of, move, nbytes, tensors

HOST = "cpu"
OPEN_SECONDS, DISK_BYTES_PER_SECOND = 0.002, 400e6  # cost of reading an entry back, to judge whether writing pays


class Entry:
    """A result: one value per output, and the files a sink saved.

    Attributes:
        outputs: None when only the disk has them.
        saved: files of a sink.
        notes: what the node had to say.
        seconds: what making it took.
        tier: where it was when found: `memory` or `disk`.
        device: where the values are; short of room, those of a device go to host memory for a while.
        home: where they were made, and are used.
        is_spoilt: True when a node changed it in place.
    """

    __slots__ = (
        "_cache",
        "device",
        "home",
        "is_spoilt",
        "key",
        "nbytes",
        "notes",
        "outputs",
        "pins",
        "saved",
        "score",
        "seconds",
        "tier",
    )

    def __init__(self, cache: Cache, key: bytes, outputs: tuple[Any, ...] | None, saved: tuple[SavedFile, ...],
                 seconds: float, size: int, tier: str, notes: tuple[str, ...] = ()) -> None:  # fmt: skip
        self._cache, self.key, self.outputs, self.saved, self.notes = cache, key, outputs, saved, notes
        self.seconds, self.nbytes, self.tier = seconds, size, tier
        self.pins = 0
        self.score = 0.0
        self.is_spoilt = False
        self.device = self.home = HOST if outputs is None else device_of(outputs)

    def evict(self) -> None:
        """Moves down a tier; called by the ledger."""
        self._cache.demote(self)


@dataclass
class Stats:
    """Counts since the session began."""

    memory_hits: int = 0
    disk_hits: int = 0
    misses: int = 0
    demoted: int = 0
    dropped: int = 0


class Cache:
    """Entries by key.

    Args:
        ledger: the byte budget of a device, by its name.
        disk: the tier that survives, or None.
        keeps: False to let go of every result at its last use.
        write: runs a write to disk off the caller's path.
        mover: moves a value to a device.
    """

    def __init__(
        self, ledger: Callable[[str], Ledger], disk: DiskTier | None = None, *, keeps: bool = True,
        write: Callable[[Callable[[], None]], None] = lambda job: job(),
        mover: Callable[[Any, str], Any] = move,
    ) -> None:  # fmt: skip
        self._ledger, self._disk, self._keeps, self._write, self._mover = ledger, disk, keeps, write, mover
        self._entries: dict[bytes, Entry] = {}
        self.stats = Stats()
        self.lost: dict[bytes, str] = {}
        """Why keys were forgotten, where that is worth saying."""

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: bytes) -> bool:
        return key in self._entries or (self._keeps and self._disk is not None and key in self._disk)

    def find(self, key: bytes) -> Entry | None:
        """The entry of a key, pinned for the caller, or None. A sink's entry counts only while its files exist."""
        entry = self._entries.get(key)
        if entry is not None and entry.outputs is None and (self._disk is None or key not in self._disk):
            self._remove(entry)
            entry = None
        if entry is None and self._disk is not None and self._keeps:
            entry = self._from_disk(key, self._disk)
        if entry is None:
            self.stats.misses += 1
            return None
        gone = next((file for file in entry.saved if not _is_in_place(file)), None) if entry.saved else None
        if gone is not None:
            self.discard(key)
            self.lost[key] = f"its file {gone.filename} is gone or was changed"
            self.stats.misses += 1
            return None
        if entry.outputs is None:
            self.stats.disk_hits += 1
        else:
            entry.tier = "memory"
            self.stats.memory_hits += 1
            self._ledger(entry.device).touch(entry)
        entry.pins += 1
        return entry

    def outputs(self, entry: Entry) -> tuple[Any, ...] | None:
        """The values of a pinned entry, read from disk when they are only there; None when they cannot be read."""
        if entry.outputs is None:
            try:
                found = None if self._disk is None else self._disk.get(entry.key)
            except KeyError:
                found = None
            if found is None:
                self._remove(entry)
                return None
            entry.outputs = found
            entry.nbytes = nbytes(found)
            entry.device = entry.home = device_of(found)
            self._ledger(entry.device).add(entry)
        elif entry.device != entry.home:
            self._ledger(entry.device).remove(entry)
            entry.outputs = self._mover(entry.outputs, entry.home)
            entry.device = entry.home
            self._ledger(entry.device).add(entry)
        return entry.outputs

    def put(
        self, key: bytes, outputs: tuple[Any, ...], saved: tuple[SavedFile, ...], seconds: float, loading: float = 0.0,
        *, notes: tuple[str, ...] = (),
    ) -> Entry:  # fmt: skip
        """Enters a result, pinned for the caller.

        Args:
            key: of the node.
            outputs: a value per output.
            saved: files of a sink.
            seconds: what making it took.
            loading: what loading the models it needed took; after a restart that would come on top.
            notes: what the node had to say.
        """
        entry = Entry(self, key, outputs, saved, seconds, nbytes(outputs), "memory", notes)
        entry.pins = 1
        self._entries[key] = entry
        self._ledger(entry.device).add(entry)
        disk = self._disk
        again = seconds + loading
        if (
            disk is not None
            and self._keeps
            and (saved or again > 2 * (OPEN_SECONDS + entry.nbytes / DISK_BYTES_PER_SECOND))
        ):
            record = [*(file._asdict() for file in saved), *notes]

            def write() -> None:
                if not entry.is_spoilt:
                    disk.put(key, outputs, record, again)

            self._write(write)
        return entry

    def unpin(self, entry: Entry) -> None:
        """Ends a use; the last one may let the entry go."""
        entry.pins -= 1
        if entry.pins:
            return
        if not self._keeps or self._entries.get(entry.key) is not entry:
            self._remove(entry)
            entry.outputs = None  # tasks may hold on to the entry; the memory goes now
        elif entry.outputs is not None:
            ledger = self._ledger(entry.device)
            if ledger.used > ledger.budget:
                ledger.make_room(0)

    def discard(self, key: bytes) -> None:
        """Forgets a key in every tier."""
        entry = self._entries.get(key)
        if entry is not None:
            self._remove(entry)
        if self._disk is not None and self._keeps and key in self._disk:
            self._disk.delete([key])

    def spoil(self, tensor: Any) -> None:
        """Forgets every result that shares memory with a tensor which a node changed in place."""
        place = tensor.untyped_storage().data_ptr()
        for entry in list(self._entries.values()):
            if any(part.untyped_storage().data_ptr() == place for part in tensors(entry.outputs)):
                self.discard(entry.key)
                entry.outputs, entry.is_spoilt = None, True  # whoever has it pinned makes it again

    def demote(self, entry: Entry) -> None:
        """Device memory to host memory; host memory to disk only, or gone."""
        if entry.device != HOST:
            entry.outputs = self._mover(entry.outputs, HOST)
            entry.device = HOST
            self.stats.demoted += 1
            self._ledger(HOST).add(entry)
            return
        self.stats.dropped += 1
        self._remove(entry)
        entry.outputs = None

    def _remove(self, entry: Entry) -> None:
        """Takes an entry out of the table, unless a newer one has its place, and out of its ledger."""
        if self._entries.get(entry.key) is entry:
            del self._entries[entry.key]
        if entry.outputs is not None:
            self._ledger(entry.device).remove(entry)

    def _from_disk(self, key: bytes, disk: DiskTier) -> Entry | None:
        stored = disk.describe(key)
        if stored is None:
            return None
        notes = tuple(item for item in stored.saved if isinstance(item, str))
        saved = tuple(SavedFile(**item) for item in stored.saved if not isinstance(item, str))
        entry = Entry(self, key, None, saved, stored.seconds, stored.nbytes, "disk", notes)
        self._entries[key] = entry
        return entry


def _is_in_place(file: SavedFile) -> bool:
    try:
        return os.stat(file.path).st_size == file.nbytes
    except OSError:
        return False
