"""The two streams of a command: results on stdout, everything for people on stderr."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Generator

LOGGERS = ("nodegraph", "nodes")


class Terminal:
    """Where a command writes.

    Attributes:
        verbosity: -1 quiet, 0, 1 for -v, 2 for -vv.
        is_left: True once the reader of stdout has gone; what is written then goes nowhere, quietly.
    """

    def __init__(self, verbosity: int = 0) -> None:
        self.verbosity = verbosity
        self.is_left = False

    @property
    def is_interactive(self) -> bool:
        """True when stderr is seen by a person."""
        return sys.stderr.isatty()

    def out(self, text: str) -> None:
        """Writes a line of the result."""
        if not self.is_left:
            with self._quiet_when_left():
                print(text, flush=True)

    def out_bytes(self, content: bytes) -> None:
        """Writes bytes of the result, such as a picture."""
        if not self.is_left:
            with self._quiet_when_left():
                sys.stdout.buffer.write(content)
                sys.stdout.flush()

    def say(self, text: str, *, level: int = 0) -> None:
        """Tells people something, unless they asked for less than `level`."""
        if self.verbosity >= level:
            with contextlib.suppress(BrokenPipeError):
                print(text, file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def logging(self) -> Generator[None]:
        """Shows the project's log on stderr, each message once: warnings, with -v more."""
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        seen: set[str] = set()

        def is_new(record: logging.LogRecord) -> bool:
            text = record.getMessage()
            if text in seen:
                return False
            seen.add(text)
            return True

        handler.addFilter(is_new)
        levels = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}
        loggers = [logging.getLogger(name) for name in LOGGERS]
        before = [logger.level for logger in loggers]
        for logger in loggers:
            logger.addHandler(handler)
            logger.setLevel(levels.get(self.verbosity, logging.DEBUG))
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.removeHandler(handler)
                logger.setLevel(level)

    @contextlib.contextmanager
    def _quiet_when_left(self) -> Generator[None]:
        try:
            yield
        except BrokenPipeError:
            self.is_left = True
            # The interpreter flushes stdout once more when it ends: give it somewhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
