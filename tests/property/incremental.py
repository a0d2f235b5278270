"""The property itself: a session through edits gives what the model gives, and runs what the model says."""

from __future__ import annotations

import random
import zlib
from pathlib import Path
from typing import Any

import pytest

import nodegraph.cache
from nodegraph.registry import Registry
from nodegraph.session import Session
from tests.nodegraph import trivial
from tests.nodegraph.trivial import Outcome
from tests.property.graphs import FILES, Maker, Model, plain, registry


class Life:
    """A session, or several one after the other, through which a document is edited."""

    def __init__(
        self, folder: Path, seed: int, *, restarts: bool = False, ram_limit: int | None = None, lanes: bool = False
    ) -> None:
        self.folder, self.chance = folder, random.Random(seed)
        self.maker = Maker(self.chance)
        self.restarts, self.ram_limit, self.lanes = restarts, ram_limit, lanes
        self.code = 0
        self.files = {name: name[0] for name in FILES}
        self.known: set[int] = set()
        self.interned: dict[Any, int] = {}
        self.runs = 0
        self.session = self.open()
        for name, content in self.files.items():
            self.write(name, content)
        self.document = self.maker.document(self.chance.randrange(4, 16))

    def open(self) -> Session:
        cache = self.folder / "cache" if self.restarts else None
        return trivial.session(self.folder, self.registry(), cache_dir=cache, ram_limit=self.ram_limit)

    def registry(self) -> Registry:
        found = registry(self.code)
        if self.lanes:
            for spec in found:
                object.__setattr__(spec, "lane", self.chance.choice(["device", "io"]))
        return found

    def write(self, name: str, content: str) -> None:
        self.files[name] = content
        (self.folder / "input").mkdir(exist_ok=True)
        (self.folder / "input" / name).write_text(content)

    def step(self) -> None:
        """One edit of the document, of a file or of code, or a restart; then a run, checked."""
        self.document = self.maker.edited(self.document)
        happens = self.chance.random()
        if happens < 0.1:
            self.write(self.chance.choice(FILES), self.chance.choice("oc12"))
        elif happens < 0.2:
            self.code = 1 - self.code
            self.session.registry = self.registry()
        elif happens < 0.35 and self.restarts:
            self.session.close()
            self.session = self.open()
        self.check()

    def model(self) -> Model:
        self.runs += 1
        return Model(self.document, self.files, self.code, self.interned, self.runs)

    def check(self) -> Outcome:
        model = self.model()
        found = trivial.run(self.session, self.document, scope="life")
        assert found.status == "success", found.errors
        expected = {name: plain(model.values[name][0]) for name in model.targets}
        assert {name: plain(value) for name, value in found.values.items()} == expected
        ran = [model.recipes[name] for name in found.ran if name in model.recipes]
        assert len(ran) + sum(1 for name in found.ran if name in model.aliases) == len(found.ran)
        if self.ram_limit is None:
            assert len(set(ran)) == len(ran), "equal work ran twice"
            assert set(ran) == model.wanted(self.known), "not what had to run"
        else:
            assert set(ran) <= model.wanted(set())
        self.known.update(ran)
        self.settle()
        return found

    def settle(self) -> None:
        """With no run about, nothing is pinned or in flight, and the budget holds."""
        session = self.session
        assert not session.flights
        assert all(entry.pins == 0 for entry in session.cache._entries.values())
        ledger = session.ledger("cpu")
        assert ledger.used <= ledger.budget
        assert ledger.used == sum(tenant.nbytes for tenant in ledger._tenants.values())


def live(folder: Path, seed: int, steps: int = 6, **how: Any) -> None:
    """A short life of edits."""
    life = Life(folder, seed, **how)
    try:
        life.check()
        for _ in range(steps):
            life.step()
    finally:
        life.session.close()


def store_all(patch: pytest.MonkeyPatch) -> None:
    """Writes every result to disk, however cheap."""
    patch.setattr(nodegraph.cache, "OPEN_SECONDS", -1.0)


def shuffled(seed: int) -> Any:
    """An order of ready tasks that has nothing to do with the plan's."""

    def is_before(one: Any, other: Any) -> bool:
        return zlib.crc32(f"{seed}{one.step.id}".encode()) < zlib.crc32(f"{seed}{other.step.id}".encode())

    return is_before
