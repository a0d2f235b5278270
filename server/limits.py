"""Token buckets: how often something may happen."""

from __future__ import annotations

import time
from collections.abc import Callable


class Buckets:
    """A bucket for each key: it fills at a rate, up to a burst, and what happens takes one out.

    Args:
        clock: seconds that only grow.
        limit: buckets kept; the longest unused is forgotten first, which fills it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, limit: int = 10_000) -> None:
        self._clock, self._limit = clock, limit
        self._levels: dict[str, tuple[float, float]] = {}  # level and when, the longest unused first

    def __len__(self) -> int:
        return len(self._levels)

    def take(self, key: str, *, rate: float, burst: float) -> float:
        """Takes one out of a bucket -> 0, or the seconds until there will be one.

        Args:
            key: which bucket.
            rate: how many come a second, above 0.
            burst: how many it holds, at least 1.
        """
        now = self._clock()
        level, before = self._levels.pop(key, (burst, now))
        level = min(burst, level + (now - before) * rate)
        wait = 0.0 if level >= 1 else (1 - level) / rate
        self._levels[key] = (level if wait else level - 1, now)
        if len(self._levels) > self._limit:
            del self._levels[next(iter(self._levels))]
        return wait
