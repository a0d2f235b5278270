"""Ctrl-C and SIGTERM during a run: the first asks it to stop, the second ends the process."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

from nodegraph.cli.codes import CANCELLED

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """In a `with` block, takes over the signals.

    Attributes:
        is_asked: True after the first signal.
        is_running: set while a run goes on, which looks at `is_asked`; else a signal raises KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}
        self.is_asked = self.is_running = False

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():  # no other may set signals
            self._before = {number: signal.signal(number, self._take) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.is_asked:
            exit_now(CANCELLED)
        self.is_asked = True
        if not self.is_running:
            raise KeyboardInterrupt


def exit_now(code: int) -> None:
    """Ends the process without waiting for what runs."""
    sys.stderr.flush()
    os._exit(code)
