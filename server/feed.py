"""What runs tell, numbered, for whoever follows them; kept so that a reader who was away can go on where it was."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

from server.history import History

PASSING = ("NodeProgress", "NodePreview")  # of interest only at the moment
RECENT, KEPT = 64, 100_000  # finished runs whose events are still in memory, and these events in all
PER_LEASE = 1_000_000  # numbers of an attempt begin anew above those of the one before
WAITING = 5_000  # events a slow reader may be behind


class Told(NamedTuple):
    """An event of a run; numbers grow within it, with gaps."""

    number: int
    run: str
    event: Mapping[str, Any]
    image: bytes | None = None


class Subscription:
    """The events of one run or of all, as they come; `async for told in subscription`.

    It ends when it is closed, and when its reader is too far behind: then the reader asks `since` again.

    Attributes:
        watcher: the caller that is also told what else changes; None for a reader that is not.
        is_behind: True when it ended because its reader was too far behind.
    """

    def __init__(self, feed: Feed, run: str | None, watcher: str | None = None) -> None:
        self._feed, self._run, self.watcher, self.is_behind = feed, run, watcher, False
        self._events: deque[Told] = deque()
        self._arrived = asyncio.Event()
        self._is_over = False

    def take(self, told: Told) -> None:
        """Adds an event, unless it is none of the reader's."""
        if self._is_over or self._run not in (None, told.run):
            return
        if len(self._events) >= WAITING // 10 and told.event["type"] in PASSING:
            return
        self._events.append(told)
        if len(self._events) > WAITING:
            self.is_behind = True
            self.close()
        self._arrived.set()

    def close(self) -> None:
        """Ends it, after what has come."""
        self._is_over = True
        self._feed.drop(self)
        self._arrived.set()

    async def __aiter__(self) -> AsyncIterator[Told]:
        while self._events or not self._is_over:
            while self._events:
                yield self._events.popleft()
            self._arrived.clear()
            if not self._is_over:
                await self._arrived.wait()


class Feed:
    """The events of runs under way and of those that ended of late; older ones are in the history."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._subscriptions: set[Subscription] = set()
        self._told: dict[str, list[Told]] = {}
        self._over: deque[str] = deque()
        self._numbers: dict[str, int] = {}

    def begin(self, run: str, lease: int) -> None:
        """An attempt at a run begins; `lease` counts them."""
        if run in self._over:  # another one that had this id, and was forgotten
            self._over.remove(run)
            self._told.pop(run, None)
        self._numbers[run] = lease * PER_LEASE
        self._told.setdefault(run, [])

    def tell(self, run: str, event: Mapping[str, Any], image: bytes | None = None) -> None:
        """Numbers an event and hands it to who follows the run."""
        number = self._numbers[run] = self._numbers.get(run, 0) + 1
        told = Told(number, run, event, image)
        if event["type"] not in PASSING:
            self._told.setdefault(run, []).append(told)
        for subscription in tuple(self._subscriptions):
            subscription.take(told)

    def notify(self, type: str, watcher: str | None = None, **values: Any) -> None:
        """Tells those who follow all that something else changed, such as the order of the queue; it has no number.

        Args:
            type: of the event.
            watcher: only the readers of this caller are told.
            values: what else the event says.
        """
        told = Told(0, "", {"type": type, **values})
        for subscription in tuple(self._subscriptions):
            if subscription.watcher is not None and watcher in (None, subscription.watcher):
                subscription.take(told)

    def end(self, run: str) -> None:
        """A run is over: its events go when enough others are over after it."""
        self._numbers.pop(run, None)
        self._over.append(run)
        while len(self._over) > RECENT or sum(len(self._told.get(each, ())) for each in self._over) > KEPT:
            self._told.pop(self._over.popleft(), None)

    def so_far(self, run: str) -> list[Told]:
        """What is kept of a run that is in memory."""
        return list(self._told.get(run, ()))

    async def since(self, run: str, number: int) -> list[Told]:
        """What a run told after a number, as far as it is kept: all but progress and previews."""
        found = self._told.get(run)
        if found is None:
            found = [Told(place, run, event) for place, event in await self._history.events(run)]
        return [told for told in found if told.number > number]

    def follow(self, run: str | None = None, *, watcher: str | None = None) -> Subscription:
        """The events from now on, of one run or of all, and for a watcher what `notify` tells; close it when done."""
        subscription = Subscription(self, run, watcher)
        self._subscriptions.add(subscription)
        return subscription

    def drop(self, subscription: Subscription) -> None:
        """Forgets a reader."""
        self._subscriptions.discard(subscription)

    def close(self) -> None:
        """Ends every subscription."""
        for subscription in tuple(self._subscriptions):
            subscription.close()
