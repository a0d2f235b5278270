"""Several runs at once in one session, some cancelled: each ends, and what succeeds is right."""

from __future__ import annotations

import random
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from nodegraph.session import Session
from tests.nodegraph import trivial
from tests.nodegraph.trivial import PATIENCE
from tests.property.graphs import FILES, Document, Maker, Model, plain, registry
from tests.property.incremental import store_all

Found = list[tuple[Document, trivial.Outcome]]


def work(session: Session, base: Document, seed: int, barrier: threading.Barrier, found: Found) -> None:
    """Runs a few edits of a document; cancels some runs after some events."""
    chance = random.Random(seed)
    maker, document = Maker(chance), base
    maker.number = 1000 * (seed % 97 + 1)
    barrier.wait(PATIENCE)
    for _ in range(4):
        running = trivial.start(session, document, scope=str(chance.randrange(2)), priority=chance.randrange(3))
        for _ in range(chance.choice([0, 0, 1, 3, 6])):
            if running.finished is None and running.next_event(PATIENCE) is None:
                raise AssertionError("the run hangs")
        if chance.random() < 0.3:
            running.cancel()
        found.append((document, trivial.finish(running)))
        document = maker.edited(document)


@budget(max_examples=60)
@given(st.integers(0, 2**32), st.booleans(), st.sampled_from([None, 1, 300]), st.booleans())
def test_runs_at_once_all_end_and_give_what_they_should(
    seed: int, keeps: bool, ram_limit: int | None, stores: bool
) -> None:
    files = {name: name[0] for name in FILES}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        store_all(patch)
        home = Path(folder)
        (home / "input").mkdir()
        for name, content in files.items():
            (home / "input" / name).write_text(content)
        base = Maker(random.Random(seed)).document(12)
        settings: dict[str, Any] = {
            "keeps": keeps,
            "ram_limit": ram_limit,
            "cache_dir": home / "cache" if stores else None,
        }
        found: Found = []
        with trivial.session(home, registry(0), **settings) as session:
            barrier = threading.Barrier(3)
            threads = [
                threading.Thread(target=work, args=(session, base, seed + number, barrier, found))
                for number in range(3)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
                assert not thread.is_alive(), "a run hangs"
            assert len(found) == 12
            check(session, found, files)


def check(session: Session, found: Found, files: dict[str, str]) -> None:
    for document, outcome in found:
        assert outcome.status in ("success", "cancelled"), outcome.errors
        if outcome.status == "success":
            model = Model(document, files, 0, {}, 0)
            expected = {name: plain(model.values[name][0]) for name in model.targets}
            assert {name: plain(value) for name, value in outcome.values.items()} == expected
    assert not session.flights and not session._runs
    assert all(entry.pins == 0 for entry in session.cache._entries.values())
    ledger = session.ledger("cpu")
    assert ledger.used <= ledger.budget
    assert ledger.used == sum(tenant.nbytes for tenant in ledger._tenants.values())
