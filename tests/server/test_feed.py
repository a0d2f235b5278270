"""What runs tell: numbered, in order, to whoever follows, and kept for whoever comes back."""

from __future__ import annotations

import asyncio

from server import feed as module
from server.feed import Feed


class Kept:
    """A history with the events of one run."""

    async def events(self, run):
        return [(5, {"type": "A"}), (9, {"type": "RunOver"})] if run == "old" else []


def tell(feed, run, *types):
    for type in types:
        feed.tell(run, {"type": type}, b"x" if type == "NodePreview" else None)


async def all_of(subscription):
    return [(told.run, told.event["type"]) async for told in subscription]


def test_a_reader_gets_the_events_of_its_run_in_order_and_a_reader_of_all_every_one():
    async def main():
        feed = Feed(Kept())
        one, every = feed.follow("a"), feed.follow()
        for run in "ab":
            feed.begin(run, 1)
        tell(feed, "a", "A", "NodeProgress")
        tell(feed, "b", "B")
        tell(feed, "a", "NodePreview", "C")
        one.close()
        every.close()
        return await all_of(one), await all_of(every), feed.so_far("a")

    one, every, kept = asyncio.run(main())
    assert one == [("a", "A"), ("a", "NodeProgress"), ("a", "NodePreview"), ("a", "C")]
    assert every == [*one[:2], ("b", "B"), *one[2:]]
    assert [told.event["type"] for told in kept] == ["A", "C"]  # progress and pictures pass


def test_numbers_grow_over_the_attempts_of_a_run():
    async def main():
        feed = Feed(Kept())
        feed.begin("a", 0)
        tell(feed, "a", "RunQueued")
        for lease in (1, 2):
            feed.begin("a", lease)
            tell(feed, "a", "RunLeased", "NodeProgress", "B")
        return [told.number for told in await feed.since("a", 0)]

    numbers = asyncio.run(main())
    assert numbers == sorted(set(numbers)) and len(numbers) == 5


def test_who_was_away_gets_what_came_after_a_number():
    async def main():
        feed = Feed(Kept())
        feed.begin("a", 1)
        tell(feed, "a", "A", "B", "C")
        numbers = [told.number for told in await feed.since("a", 0)]
        return (
            [told.event["type"] for told in await feed.since("a", numbers[0])],
            await feed.since("a", numbers[-1]),
            [told.number for told in await feed.since("old", 5)],
            await feed.since("unknown", 0),
        )

    assert asyncio.run(main()) == (["B", "C"], [], [9], [])


def test_a_reader_waits_for_what_is_to_come():
    async def main():
        feed = Feed(Kept())
        subscription = feed.follow("a")
        reading = asyncio.ensure_future(all_of(subscription))
        await asyncio.sleep(0)
        assert not reading.done()
        tell(feed, "a", "A")
        await asyncio.sleep(0)
        tell(feed, "a", "B")
        feed.close()
        return await asyncio.wait_for(reading, 20)

    assert asyncio.run(main()) == [("a", "A"), ("a", "B")]


def test_a_reader_that_is_far_behind_misses_pictures_first_and_is_then_let_go(monkeypatch):
    monkeypatch.setattr(module, "WAITING", 20)

    async def main():
        feed = Feed(Kept())
        slow = feed.follow()
        tell(feed, "a", *["NodeProgress"] * 10)
        tell(feed, "a", *["A"] * 30)
        found = [type for _, type in await asyncio.wait_for(all_of(slow), 20)]
        return found, len(await feed.since("a", 0)), len(feed._subscriptions)

    found, kept, readers = asyncio.run(main())
    assert found.count("NodeProgress") == 2
    assert 18 <= found.count("A") <= 19
    assert (kept, readers) == (30, 0)  # it asks `since` for the rest


def test_the_oldest_of_the_runs_that_are_over_go_from_memory(monkeypatch):
    monkeypatch.setattr(module, "RECENT", 2)

    async def main():
        feed = Feed(Kept())
        feed.begin("waits", 0)
        tell(feed, "waits", "RunQueued")
        for run in "abcd":
            feed.begin(run, 1)
            tell(feed, run, "A")
            feed.end(run)
        return [bool(feed.so_far(run)) for run in ("waits", *"abcd")]

    assert asyncio.run(main()) == [True, False, False, True, True]


def test_ending_what_never_began_is_harmless():
    async def main():
        feed = Feed(Kept())
        feed.end("unknown")
        tell(feed, "a", "RunOver")
        feed.end("a")
        feed.end("a")
        return len(await feed.since("a", 0))

    assert asyncio.run(main()) == 1


def test_closing_twice_is_harmless():
    async def main():
        feed = Feed(Kept())
        subscription = feed.follow()
        subscription.close()
        subscription.close()
        feed.close()
        tell(feed, "a", "A")
        return await all_of(subscription)

    assert asyncio.run(main()) == []


def test_finished_runs_of_many_events_go_sooner(monkeypatch):
    monkeypatch.setattr(module, "KEPT", 5)
    feed = Feed(Kept())
    for run in "abc":
        feed.begin(run, 1)
        tell(feed, run, "A", "RunOver")
        feed.end(run)
    assert [len(feed.so_far(run)) for run in "abc"] == [0, 2, 2]


def test_a_run_with_the_id_of_one_that_was_forgotten_begins_anew(monkeypatch):
    monkeypatch.setattr(module, "RECENT", 1)
    feed = Feed(Kept())
    for lease in (0, 1):
        feed.begin("a", lease)
        tell(feed, "a", "A")
    feed.end("a")
    feed.begin("a", 0)
    tell(feed, "a", "RunQueued")
    feed.begin("b", 1)
    feed.end("b")
    assert [told.event["type"] for told in feed.so_far("a")] == ["RunQueued"]


def test_what_else_changes_only_watchers_are_told_and_one_alone_where_it_is_one_s_own():
    async def main():
        feed = Feed(Kept())
        plain, ann, bob = feed.follow(), feed.follow(watcher="ann"), feed.follow(watcher="bob")
        feed.notify("QueueChanged")
        feed.notify("DraftsChanged", "ann", id="a")
        for subscription in (plain, ann, bob):
            subscription.close()
        return [await all_of(subscription) for subscription in (plain, ann, bob)]

    plain, ann, bob = asyncio.run(main())
    assert plain == [] and ann == [("", "QueueChanged"), ("", "DraftsChanged")] and bob == ann[:1]
