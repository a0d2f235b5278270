"""A session for each test, gates that always open, and a dump of all threads when a test hangs.

Torch gets one thread, before it is imported: small tensors on shared cores only wait for each other.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from nodegraph.session import Session
from tests.nodegraph import trivial

os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("nodegraph", derandomize=True, deadline=None, max_examples=100, database=None)
settings.load_profile("nodegraph")


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    """Ends a hanging test with the stacks of its threads."""
    faulthandler.dump_traceback_later(100, exit=True, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def gates() -> Iterator[dict[str, trivial.Gate]]:
    trivial.GATES.clear()
    trivial.MEETINGS.clear()
    yield trivial.GATES
    for gate in trivial.GATES.values():
        gate.opened.set()


@pytest.fixture
def session(tmp_path: Path, gates: dict[str, trivial.Gate]) -> Iterator[Session]:
    made = trivial.session(tmp_path)
    yield made
    for gate in gates.values():
        gate.opened.set()
    made.close()
