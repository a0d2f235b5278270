"""Tiers: device memory, host memory, disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import nodegraph.cache
from nodegraph.cache import Cache
from nodegraph.disk import DiskTier
from nodegraph.events import SavedFile
from nodegraph.memory import Ledger
from tests.nodegraph import trivial
from tests.nodegraph.trivial import n, run

KEY, OTHER = b"k" * 16, b"o" * 16
GPU = "meta"  # torch's device without memory stands for one that has


class Tiers:
    """A cache over a fake device of 1000 bytes, a host of 1000 bytes, and a disk."""

    def __init__(
        self, disk: DiskTier | None = None, *, keeps: bool = True, device: int = 1000, host: int = 1000
    ) -> None:
        self.ledgers = {"cpu": Ledger("cpu", host), GPU: Ledger(GPU, device)}
        self.moved: list[str] = []
        self.jobs: list[Callable[[], None]] = []
        self.cache = Cache(self.ledgers.__getitem__, disk, keeps=keeps, write=self.jobs.append, mover=self.move)

    def move(self, value: Any, device: str) -> Any:
        self.moved.append(device)
        return tuple(torch.zeros_like(item, device=device) for item in value)

    def put(self, key: bytes, device: str = GPU, seconds: float = 1.0, size: int = 100) -> Any:
        return self.cache.put(key, (torch.zeros(size, device=device),), (), seconds)

    def write(self) -> None:
        while self.jobs:
            self.jobs.pop(0)()


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(nodegraph.cache, "OPEN_SECONDS", -1.0)
    made = DiskTier(tmp_path / "cache", 1 << 30, {"tests"})
    yield made
    made.close()


def test_a_result_is_found_by_key_and_pinned() -> None:
    tiers = Tiers()
    entry = tiers.put(KEY)
    assert tiers.cache.find(KEY) is entry and entry.pins == 2
    assert tiers.cache.find(OTHER) is None
    assert (len(tiers.cache), KEY in tiers.cache, OTHER in tiers.cache) == (1, True, False)
    stats = tiers.cache.stats
    assert (stats.memory_hits, stats.disk_hits, stats.misses) == (1, 0, 1)


def test_a_full_device_demotes_to_the_host_and_a_full_host_drops() -> None:
    tiers = Tiers(host=500)
    first, second = tiers.put(KEY, seconds=1.0), tiers.put(OTHER, seconds=2.0)
    tiers.cache.unpin(first)
    tiers.cache.unpin(second)
    third = tiers.put(b"3" * 16, seconds=3.0)
    assert (first.device, second.device, third.device) == ("cpu", GPU, GPU)
    assert tiers.moved == ["cpu"] and tiers.cache.stats.demoted == 1
    found = tiers.cache.find(KEY)
    assert found is first and tiers.cache.outputs(found) is not None
    tiers.cache.unpin(found)
    tiers.cache.unpin(third)
    tiers.put(b"4" * 16, seconds=9.0)
    assert second.device == "cpu" and tiers.cache.stats.dropped == 1  # the host held but one of them
    assert (KEY in tiers.cache, OTHER in tiers.cache) == (False, True)
    assert all(ledger.used <= ledger.budget for ledger in tiers.ledgers.values())


def test_pinned_results_are_never_demoted() -> None:
    tiers = Tiers(device=100)
    first, second = tiers.put(KEY), tiers.put(OTHER)
    assert {first.device, second.device} == {GPU} and not tiers.moved
    tiers.cache.unpin(first)
    assert first.device == "cpu" and second.device == GPU


def test_without_keeping_a_result_goes_at_its_last_use_and_so_does_its_memory(disk: DiskTier) -> None:
    tiers = Tiers(disk, keeps=False)
    entry = tiers.put(KEY)
    found = tiers.cache.find(KEY)
    assert found is entry
    tiers.cache.unpin(entry)
    assert entry.outputs is not None
    tiers.cache.unpin(entry)
    assert entry.outputs is None and len(tiers.cache) == 0 and tiers.ledgers[GPU].used == 0
    tiers.write()
    assert len(disk) == 0


def test_a_stored_result_is_found_after_memory_is_gone(disk: DiskTier) -> None:
    tiers = Tiers(disk)
    entry = tiers.cache.put(KEY, (torch.ones(3), 5), (), 2.5)
    tiers.write()
    tiers.cache.unpin(entry)
    tiers.ledgers["cpu"].clear()
    assert entry.outputs is None and KEY in tiers.cache
    fresh = Tiers(disk).cache
    for cache in (tiers.cache, fresh):
        found = cache.find(KEY)
        assert found is not None and (found.tier, found.outputs, found.seconds) == ("disk", None, 2.5)
        outputs = cache.outputs(found)
        assert outputs is not None and torch.equal(outputs[0], torch.ones(3)) and outputs[1] == 5
        assert cache.find(KEY) is found and found.tier == "memory"


def test_what_is_cheaper_to_make_than_to_read_is_not_written(tmp_path: Path) -> None:
    disk = DiskTier(tmp_path, 1 << 30, {"tests"})
    tiers = Tiers(disk)
    tiers.put(KEY, "cpu", seconds=0.001)
    tiers.put(OTHER, "cpu", seconds=1.0)
    tiers.write()
    assert (KEY in disk, OTHER in disk) == (False, True)
    disk.close()


def test_a_damaged_value_is_no_longer_a_hit(disk: DiskTier) -> None:
    tiers = Tiers(disk)
    tiers.cache.unpin(tiers.cache.put(KEY, (torch.ones(3),), (), 1.0))
    tiers.write()
    for path in disk.folder.glob("values/*/*"):
        path.write_bytes(b"x")
    cache = Tiers(disk).cache
    found = cache.find(KEY)
    assert found is not None and cache.outputs(found) is None
    cache.unpin(found)
    assert cache.find(KEY) is None and len(cache) == 0


def test_a_value_trimmed_from_disk_behind_the_cache_is_no_longer_a_hit(disk: DiskTier) -> None:
    tiers = Tiers(disk)
    tiers.cache.unpin(tiers.cache.put(KEY, (1,), (), 1.0))
    tiers.write()
    cache = Tiers(disk).cache
    found = cache.find(KEY)
    assert found is not None
    cache.unpin(found)
    disk.delete([KEY])
    assert cache.find(KEY) is None


def test_losing_an_old_entry_leaves_a_newer_one_of_its_key(disk: DiskTier) -> None:
    tiers = Tiers(disk)
    tiers.cache.unpin(tiers.cache.put(KEY, (1,), (), 1.0))
    tiers.write()
    cache = Tiers(disk).cache
    old = cache.find(KEY)
    assert old is not None
    disk.delete([KEY])
    new = cache.put(KEY, (2,), (), 1.0)
    assert cache.outputs(old) is None or cache.outputs(old) == (2,)
    cache.unpin(old)
    assert cache.find(KEY) is new and new.outputs == (2,)


def test_a_sink_is_a_hit_only_while_its_files_are_whole(tmp_path: Path, disk: DiskTier) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"picture")
    saved = SavedFile("a.png", "", "output", str(path), 7, "png")
    tiers = Tiers(disk)
    tiers.cache.unpin(tiers.cache.put(KEY, (), (saved,), 0.0))
    tiers.write()
    again = Tiers(disk).cache
    found = again.find(KEY)
    assert found is not None and found.saved == (saved,)
    again.unpin(found)
    path.write_bytes(b"cut")
    assert again.find(KEY) is None and KEY not in disk
    assert again.lost[KEY] == "its file a.png is gone or was changed"


def test_what_shares_memory_with_a_spoilt_tensor_is_forgotten_everywhere(disk: DiskTier) -> None:
    tiers = Tiers(disk)
    tensor = torch.ones(4)
    spoilt = tiers.cache.put(KEY, (tensor,), (), 1.0)
    view = tiers.cache.put(OTHER, ({"inside": tensor[2:]},), (), 1.0)
    tiers.jobs[0]()  # one is on disk already, the other on its way
    kept = tiers.cache.put(b"3" * 16, (torch.ones(4),), (), 1.0)
    tiers.cache.spoil(tensor)
    tiers.write()
    assert [key in tiers.cache for key in (KEY, OTHER, b"3" * 16)] == [False, False, True]
    assert tiers.cache.outputs(spoilt) is None is tiers.cache.outputs(view)
    assert kept.outputs is not None and len(disk) == 1
    assert tiers.ledgers["cpu"].used == kept.nbytes


# In a session


CHAIN = {
    "a": n("Const", value=1),
    "b": n("Add", a=("a", 0)),
    "c": n("Add", a=("b", 0), b=5),
    "out": n("Show", value=("c", 0)),
}


def disk_session(folder: Path, **settings: Any) -> Any:
    return trivial.session(folder, cache_dir=folder / "cache", **settings)


def test_after_a_restart_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodegraph.cache, "OPEN_SECONDS", -1.0)
    with disk_session(tmp_path) as session:
        assert run(session, CHAIN).ran == ["a", "b", "c", "out"]
    with disk_session(tmp_path) as session:
        again = run(session, CHAIN)
        assert (again.values, again.ran, again.cached) == ({"out": 7}, [], ["out"])
        assert [event.tier for event in again.events if type(event).__name__ == "NodeCached"] == ["disk"]
        edited = run(session, {**CHAIN, "c": n("Add", a=("b", 0), b=6)})
        assert (edited.values, edited.ran, edited.cached) == ({"out": 8}, ["c", "out"], ["b"])


def test_damaged_values_on_disk_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodegraph.cache, "OPEN_SECONDS", -1.0)
    with disk_session(tmp_path) as session:
        run(session, CHAIN)
        session.lane("disk").close()
        session.disk._database.execute("update entries set inline = 'damaged'")
    with disk_session(tmp_path) as session:
        edited = run(
            session,
            {
                **CHAIN,
                "c": n("Add", a=("b", 0), b=6),
                "d": n("Mul", a=("b", 0), b=("a", 0)),
                "e": n("Show", value=("d", 0)),
            },
        )
        assert edited.values == {"out": 8, "e": 3 * 2 + 5}
        assert sorted(edited.ran) == ["a", "b", "c", "d", "e", "out"]
        assert edited.cached == []
        assert all(entry.pins == 0 for entry in session.cache._entries.values())


def test_damaged_targets_on_disk_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodegraph.cache, "OPEN_SECONDS", -1.0)
    with disk_session(tmp_path) as session:
        run(session, CHAIN)
        session.lane("disk").close()
        session.disk._database.execute("update entries set inline = 'damaged'")
    with disk_session(tmp_path) as session:
        assert run(session, CHAIN).values == {"out": 7}


def test_a_handle_whose_value_is_damaged_on_disk_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodegraph.cache, "OPEN_SECONDS", -1.0)
    document = {"a": n("Const", value=3), "p": n("IfPositive", a=("a", 0), b=1), "out": n("Show", value=("p", 0))}
    with disk_session(tmp_path) as session:
        run(session, document)
        session.lane("disk").close()
        session.disk._database.execute("update entries set inline = 'damaged'")
    with disk_session(tmp_path) as session:
        found = run(session, document)
        assert (found.values, sorted(found.ran)) == ({"out": 3}, ["a", "out", "p"])


def test_a_saved_file_that_is_gone_is_saved_again_and_one_in_place_is_not(tmp_path: Path) -> None:
    document = {"a": n("Const", value=3), "save": n("SaveText", value=("a", 0))}
    with disk_session(tmp_path) as session:
        first = run(session, document)
        assert first.ran == ["a", "save"]
    with disk_session(tmp_path) as session:
        again = run(session, document)
        assert (again.ran, again.cached) == ([], ["save"])
        replayed = [event for event in again.events if type(event).__name__ == "Saved"]
        assert [(event.file.filename, event.is_cached) for event in replayed] == [("note_00001_.txt", True)]
        (tmp_path / "output" / "note_00001_.txt").unlink()
        third = run(session, document)
        assert "save" in third.ran
        assert third.why["save"] == "its file note_00001_.txt is gone or was changed"
        assert (tmp_path / "output" / "note_00001_.txt").read_text() == "3"
