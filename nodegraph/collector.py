"""Keeping the garbage collector from walking large graphs again and again; they are small objects without circles."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Generator


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """No garbage collection inside the block; what was made there counts as old after it, without being walked."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        is_frozen = gc.get_freeze_count() > 0
        gc.freeze()
        if not is_frozen:
            gc.unfreeze()
        if was_enabled:
            gc.enable()


class Calm:
    """A rarely collecting collector while large runs go on; what was there before them is not walked at all."""

    def __init__(self) -> None:
        self._runs: set[str] = set()
        self._thresholds = gc.get_threshold()

    def begin(self, run: str) -> None:
        """A large run begins."""
        if not self._runs:
            self._thresholds = gc.get_threshold()
            gc.set_threshold(20_000, 20, 20)
        self._runs.add(run)
        gc.freeze()

    def end(self, run: str) -> None:
        """A run is over, large or not."""
        if run in self._runs:
            self._runs.discard(run)
            if not self._runs:
                gc.unfreeze()
                gc.set_threshold(*self._thresholds)
