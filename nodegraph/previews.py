"""Previews: small pictures of a node's work, made beside it so that the work does not wait for them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

Make = Callable[[], tuple[str, bytes]]
_log = logging.getLogger(__name__)


class Previews:
    """Makes the previews of a run on a thread of its own, one at a time; of each node only the newest waits.

    Args:
        emit: told the node, the format and the encoded picture; never after `close(node)` has returned.
    """

    def __init__(self, emit: Callable[[str, str, bytes], None]) -> None:
        self._emit = emit
        self._lock = threading.Lock()
        self._waiting: dict[str, Make] = {}
        self._open: set[str] = set()
        self._is_working = False

    def offer(self, node: str, make: Make) -> None:
        """Has a preview made, in place of one that still waits."""
        with self._lock:
            self._open.add(node)
            self._waiting[node] = make
            if self._is_working:
                return
            self._is_working = True
        threading.Thread(target=self._work, name="previews", daemon=True).start()

    def close(self, node: str) -> None:
        """The node is done; what still waits is dropped."""
        with self._lock:
            self._open.discard(node)
            self._waiting.pop(node, None)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._is_working = False
                    return
                node, make = next(iter(self._waiting.items()))
                del self._waiting[node]
            try:
                format, image = make()
            except Exception:  # whatever a preview fails by, the work itself goes on
                _log.debug("a preview of node %s failed", node, exc_info=True)
                continue
            with self._lock:
                if node in self._open:
                    self._emit(node, format, image)
