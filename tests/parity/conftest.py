"""A session with the committed weights, for the module's folder of cases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nodegraph.session import Session
from tests.parity.graphs import make_home, open_session

WEIGHTS = Path(__file__).parent / "weights"


@pytest.fixture(scope="module")
def session(request, tmp_path_factory) -> Iterator[Session]:
    """On the CPU in fp32, with what the cases of `FOLDER` need."""
    home = tmp_path_factory.mktemp("home") / "data"
    make_home(home, request.module.FOLDER, *sorted(WEIGHTS.glob("*.safetensors")))
    with open_session(home, request.module.FOLDER) as session:
        yield session
