"""Keeping the garbage collector from walking large graphs again and again; they are small objects without circles."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
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
