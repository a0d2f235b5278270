"""Previews are made beside the work: the newest counts, and none comes after its node is done."""

from __future__ import annotations

import threading
from queue import SimpleQueue

from nodegraph.previews import Make, Previews
from tests.nodegraph.trivial import PATIENCE

Told = tuple[str, str, bytes]


class Slow:
    """Makes a picture when it may."""

    def __init__(self, picture: bytes) -> None:
        self.picture, self.started, self.may_end = picture, threading.Event(), threading.Event()

    def __call__(self) -> tuple[str, bytes]:
        self.started.set()
        assert self.may_end.wait(PATIENCE)
        return "png", self.picture


def at_once(picture: bytes) -> Make:
    return lambda: ("png", picture)


def test_what_waits_is_replaced_by_what_is_newer() -> None:
    told: SimpleQueue[Told] = SimpleQueue()
    previews = Previews(lambda *given: told.put(given))
    slow = Slow(b"1")
    previews.offer("a", slow)
    assert slow.started.wait(PATIENCE)
    previews.offer("a", at_once(b"2"))
    previews.offer("b", at_once(b"other"))
    previews.offer("a", at_once(b"3"))
    slow.may_end.set()
    assert [told.get(timeout=PATIENCE)[2] for _ in range(3)] == [b"1", b"3", b"other"]
    assert told.empty()


def test_nothing_is_told_of_a_node_that_is_done() -> None:
    told: SimpleQueue[Told] = SimpleQueue()
    previews = Previews(lambda *given: told.put(given))
    slow = Slow(b"late")
    previews.offer("a", slow)
    assert slow.started.wait(PATIENCE)
    previews.offer("a", at_once(b"later"))
    previews.close("a")
    slow.may_end.set()
    previews.offer("b", at_once(b"2"))
    assert told.get(timeout=PATIENCE) == ("b", "png", b"2")
    assert told.empty()


def test_a_preview_that_fails_does_no_harm() -> None:
    told: SimpleQueue[Told] = SimpleQueue()
    previews = Previews(lambda *given: told.put(given))

    def broken() -> tuple[str, bytes]:
        raise ValueError("no picture")

    previews.offer("a", broken)
    previews.offer("b", at_once(b"2"))
    assert told.get(timeout=PATIENCE) == ("b", "png", b"2")
