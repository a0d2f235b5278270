"""Runs go to worker processes and end exactly once, whatever dies; nodes from a folder, processes as they are."""

from __future__ import annotations

import asyncio
import os
import signal

import psutil
import pytest

from nodegraph.errors import StorageError
from server import dispatcher as module
from server.attempt import Attempt
from server.records import Draft
from server.runs import Runs
from server.store import Store
from tests.server.working import at_work, n, no_torch


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    """Workers that start without torch, and none that outlives its test."""
    monkeypatch.setenv("PYTHONPATH", str(no_torch(tmp_path)))
    before = {child.pid for child in psutil.Process().children()}
    yield
    left = [child for child in psutil.Process().children() if child.pid not in before]
    assert [child for child in left if child.status() != psutil.STATUS_ZOMBIE] == []


def chain(node, value="x", **inputs):
    """A word, a node after it, and a file with what comes out."""
    return {"1": n("Word", text=value), "2": n(node, value=("1", 0), **inputs), "9": n("Note", value=("2", 0))}


def saved(folder):
    """The contents of the files that are there, and what is left besides."""
    output = folder / "home" / "output"
    assert not list(output.rglob("*.part"))
    unfinished = output / ".unfinished"
    assert not unfinished.exists() or list(unfinished.iterdir()) == []
    return sorted(path.read_text() for path in output.rglob("*.txt"))


def types(told):
    return [one.event["type"] for one in told]


def calls(path):
    return path.stat().st_size if path.exists() else 0


def test_a_run_goes_to_a_worker_and_ends(tmp_path):
    async def main():
        async with at_work(tmp_path) as place:
            run = await place.prompt(chain("Steps", steps=2))
            record = await place.over(run)
            told = await place.service.feed.since(run, 0)
            kept = await place.service.runs.events(run)
            return record, told, kept, place.service.dispatcher.workers()[0]

    record, told, kept, worker = asyncio.run(main())
    assert (record.status, record.leases, record.deaths, record.error) == ("success", 1, 0, None)
    assert [(node["node"], node["class_type"], node["state"]) for node in record.nodes] == [
        ("1", "Word", "ran"), ("2", "Steps", "ran"), ("9", "Note", "ran"),
    ]  # fmt: skip
    assert [(file.node, file.type, file.subfolder, file.filename, file.nbytes) for file in record.files] == [
        ("9", "output", "", "note_00001_.txt", 1)
    ]
    assert types(told)[:3] == ["RunQueued", "RunLeased", "RunStarted"] and types(told)[-1] == "RunOver"
    assert "NodeProgress" not in types(told)
    numbers = [one.number for one in told]
    assert numbers == sorted(set(numbers))
    assert [(one.number, dict(one.event)) for one in told[1:-1]] == [tuple(pair) for pair in kept if pair[0] > 100]
    assert saved(tmp_path) == ["x"]
    assert (worker.name, worker.deaths) == ("cpu", 0)


@pytest.mark.parametrize("how", ["kill", "exit"])
def test_a_run_whose_worker_dies_is_tried_again_once(tmp_path, how):
    async def main():
        async with at_work(tmp_path) as place:
            run = await place.prompt(chain("Mortal", file=str(tmp_path / "calls"), how=how, times=1))
            record = await place.over(run)
            return record, await place.service.feed.since(run, 0), place.service.dispatcher.workers()[0].deaths

    record, told, deaths = asyncio.run(main())
    assert (record.status, record.deaths, record.leases, deaths) == ("success", 1, 2, 1)
    assert types(told).count("RunLeased") == 2
    assert types(told).index("RunRetried") < len(told) - 1 - types(told)[::-1].index("RunLeased")
    assert [one.number for one in told] == sorted({one.number for one in told})
    assert saved(tmp_path) == ["x"]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("kill", "its worker died 2 times: it was ended by signal SIGKILL, as the system does when memory runs out"),
        ("exit", "its worker died 2 times: it ended with exit code 7"),
    ],
)
def test_a_run_whose_worker_dies_again_fails_with_the_reason_and_the_next_one_runs(tmp_path, how, reason):
    async def main():
        async with at_work(tmp_path) as place:
            bad = await place.prompt(chain("Mortal", file=str(tmp_path / "calls"), how=how, times=9), client_id="c")
            good = await place.prompt(chain("Slow", value="good"))
            record = await place.over(bad)
            history = (await place.ask("GET", f"/history/{bad}"))[1][bad]
            return record, history, await place.over(good)

    record, history, good = asyncio.run(main())
    assert (record.status, record.deaths, record.leases) == ("error", 1, 2)
    assert record.error["message"] == reason
    assert calls(tmp_path / "calls") == 2
    assert history["status"]["status_str"] == "error" and not history["status"]["completed"]
    name, data = history["status"]["messages"][-1]
    assert (name, data["exception_message"]) == ("execution_error", reason)
    assert data["node_type"] in ("Word", "Mortal")  # the last that was told; the death may be faster than its report
    assert good.status == "success"
    assert saved(tmp_path) == ["good"]


def test_a_file_that_was_saved_before_its_worker_died_is_not_saved_again(tmp_path):
    async def main():
        async with at_work(tmp_path) as place:
            graph = {"1": n("Word", text="once"), "9": n("Tell", value=("1", 0), file=str(tmp_path / "calls"))}
            return await place.over(await place.prompt(graph))

    record = asyncio.run(main())
    assert (record.status, record.deaths, calls(tmp_path / "calls")) == ("success", 1, 2)
    assert saved(tmp_path) == ["once"]
    assert [file.filename for file in record.files] == ["tell_00001_.txt"]


def test_a_worker_that_shows_no_life_is_ended(tmp_path):
    async def main():
        async with at_work(tmp_path, beat_seconds=4.0, retries=0) as place:
            run = await place.prompt(chain("Mortal", file=str(tmp_path / "calls"), how="stop", times=9))
            return await place.over(run)

    record = asyncio.run(main())
    assert (record.status, record.error["message"]) == ("error", "its worker died: it showed no life for 4 s")


def test_a_worker_that_stops_while_it_has_nothing_to_do_is_noticed_and_costs_no_run_a_try(tmp_path):
    async def main():
        async with at_work(tmp_path, beat_seconds=4.0, retries=0) as place:
            worker = place.service.dispatcher.workers()[0]
            await place.until(lambda: worker.state == "idle")
            os.kill(worker.pid, signal.SIGSTOP)
            await asyncio.wait_for(place.until(lambda: worker.deaths == 1), 15)
            return await place.over(await place.prompt(chain("Slow")))

    assert asyncio.run(main()).status == "success"


def test_a_run_that_tells_nothing_is_ended(tmp_path):
    async def main():
        async with at_work(tmp_path, stall_seconds=1.0, retries=0) as place:
            run = await place.prompt(chain("Deaf", file=str(tmp_path / "calls")))
            return await place.over(run)

    record = asyncio.run(main())
    assert (record.status, record.error["message"]) == (
        "error", "its worker died: its run told nothing for 1 s",
    )  # fmt: skip


def test_a_run_is_cancelled_while_it_runs_and_its_worker_goes_on(tmp_path):
    async def main():
        async with at_work(tmp_path) as place:
            dispatcher, worker = place.service.dispatcher, place.service.dispatcher.workers()[0]
            run = await place.prompt(chain("Wait", file=str(tmp_path / "never")))
            await place.until(lambda: run in dispatcher.running())
            assert await dispatcher.cancel(run) == "running"
            record = await place.over(run)
            assert await dispatcher.cancel(run) == "cancelled"
            good = await place.over(await place.prompt(chain("Slow")))
            return record, good, worker.deaths

    record, good, deaths = asyncio.run(main())
    assert (record.status, record.error, good.status, deaths) == ("cancelled", None, "success", 0)
    assert record.messages[-1][0] == "execution_interrupted"


def test_a_run_that_is_deaf_to_its_cancel_is_ended_with_its_worker(tmp_path):
    async def main():
        async with at_work(tmp_path, grace_seconds=1.0) as place:
            run = await place.prompt(chain("Deaf", file=str(tmp_path / "calls")))
            await place.until(lambda: calls(tmp_path / "calls"))
            await place.service.dispatcher.cancel(run)
            record = await place.over(run)
            return record, await place.over(await place.prompt(chain("Slow")))

    record, good = asyncio.run(main())
    assert (record.status, good.status) == ("cancelled", "success")
    assert calls(tmp_path / "calls") == 1


def test_cancelling_again_and_again_does_not_put_off_the_end_of_a_deaf_run(tmp_path):
    async def main():
        async with at_work(tmp_path, grace_seconds=2.0) as place:
            run = await place.prompt(chain("Deaf", file=str(tmp_path / "calls")))
            await place.until(lambda: calls(tmp_path / "calls"))

            async def insist():
                while True:
                    await place.service.dispatcher.cancel(run)
                    await asyncio.sleep(0.2)

            task = asyncio.ensure_future(insist())
            try:
                return await asyncio.wait_for(place.over(run), 15)
            finally:
                task.cancel()

    assert asyncio.run(main()).status == "cancelled"


def test_a_cancel_that_comes_as_a_run_begins_is_heard(tmp_path):
    async def main():
        async with at_work(tmp_path) as place:
            service, worker = place.service, place.service.dispatcher.workers()[0]
            await place.until(lambda: worker.state == "idle")
            do, begins, go = service.desk.do, asyncio.Event(), asyncio.Event()

            async def held(function, *args):
                if getattr(function, "__func__", None) is Attempt.order:
                    begins.set()
                    await go.wait()
                return await do(function, *args)

            service.desk.do = held
            run = await place.prompt(chain("Wait", file=str(tmp_path / "file")))
            await asyncio.wait_for(begins.wait(), 20)
            await service.dispatcher.cancel(run)
            go.set()
            try:
                await service.dispatcher.finished(run, 10)
            finally:
                (tmp_path / "file").touch()
            return await place.over(run)

    assert asyncio.run(main()).status == "cancelled"


def test_a_run_that_waits_is_cancelled_at_once_and_told(tmp_path):
    async def main():
        async with at_work(tmp_path) as place:
            await place.service.runs.pause(True)
            run = await place.prompt(chain("Slow"))
            subscription = place.service.feed.follow(run)
            assert not await place.service.dispatcher.finished(run, 0.01)
            assert await place.service.dispatcher.cancel(run) == "cancelled"
            told = [one.event async for one in _until_over(subscription)]
            assert await place.service.dispatcher.finished(run, 0)
            assert not await place.service.dispatcher.finished("unknown", 20)
            assert await place.service.dispatcher.cancel("unknown") is None
            return (await place.service.runs.get(run)).status, told

    status, told = asyncio.run(main())
    assert status == "cancelled"
    assert [(event["type"], event["status"]) for event in told] == [("RunOver", "cancelled")]


async def _until_over(subscription):
    async for told in subscription:
        yield told
        if told.event["type"] == "RunOver":
            subscription.close()


def test_a_paused_queue_waits_until_it_is_woken(tmp_path):
    async def main():
        async with at_work(tmp_path) as place:
            worker = place.service.dispatcher.workers()[0]
            await place.service.runs.pause(True)
            run = await place.prompt(chain("Slow"))
            await place.until(lambda: worker.state == "idle")
            assert not await place.service.dispatcher.finished(run, 0.5)
            await place.service.runs.pause(False)
            place.service.dispatcher.wake()
            return await place.over(run)

    assert asyncio.run(main()).status == "success"


# Other deaths than that of a process


def test_a_node_that_asks_python_to_exit_fails_its_run_alone(tmp_path):
    async def main():
        async with at_work(tmp_path, retries=0) as place:
            run = await place.prompt(chain("Mortal", file=str(tmp_path / "calls"), how="system_exit", times=9))
            bad = await asyncio.wait_for(place.over(run), 20)
            return bad, await place.over(await place.prompt(chain("Slow")))

    bad, good = asyncio.run(main())
    assert (bad.status, good.status) == ("error", "success")


def test_what_nodes_write_does_not_come_between_reports(tmp_path):
    async def main():
        async with at_work(tmp_path, retries=0) as place:
            return await place.over(await place.prompt(chain("Noisy", value="loud")))

    assert asyncio.run(main()).status == "success"
    assert saved(tmp_path) == ["loud"]


def test_a_node_that_fails_fails_its_run_with_where_and_why(tmp_path):
    async def main():
        async with at_work(tmp_path) as place:
            return await place.over(await place.prompt(chain("Broken")))

    record = asyncio.run(main())
    assert (record.status, record.deaths) == ("error", 0)
    assert (record.error["node"], record.error["class_type"]) == ("2", "Broken")
    assert "it broke" in record.error["message"] and "small.py" in record.error["traceback"]
    assert [node["state"] for node in record.nodes] == ["ran", "failed", "blocked"]


@pytest.mark.parametrize("what", ["finish", "lease", "give_back"])
def test_a_database_that_cannot_be_written_for_a_moment_takes_no_worker_away(tmp_path, what):
    async def main():
        async with at_work(tmp_path, retries=3) as place:
            runs, worker = place.service.runs, place.service.dispatcher.workers()[0]
            await place.until(lambda: worker.state == "idle")
            real, failures = getattr(runs, what), []

            async def full(*args, **kwargs):
                if not failures:
                    failures.append(what)
                    raise StorageError("the database cannot be written: database or disk is full")
                return await real(*args, **kwargs)

            setattr(runs, what, full)
            node = "Mortal" if what == "give_back" else "Slow"
            inputs = {"file": str(tmp_path / "calls")} if what == "give_back" else {}
            first = await place.prompt(chain(node, value="first", **inputs))
            second = await place.prompt(chain("Slow", value="second"))
            for run in (second, first):
                await place.service.dispatcher.finished(run, 12)
            found = [(await runs.get(run)).status for run in (first, second)]
            return found, failures

    found, failures = asyncio.run(main())
    assert failures == [what]
    assert found == ["success", "success"]
    assert saved(tmp_path) == ["first", "second"]


# Several workers


def test_a_worker_for_each_device_and_the_death_of_one_is_nothing_to_the_other(tmp_path):
    async def main():
        async with at_work(tmp_path, devices=("cpu", "cpu")) as place:
            workers = place.service.dispatcher.workers()
            await place.until(lambda: [worker.state for worker in workers] == ["idle", "idle"])
            waits = [await place.prompt(chain("Wait", value=str(i), file=str(tmp_path / "go"))) for i in range(2)]
            await place.until(lambda: [worker.state for worker in workers] == ["busy", "busy"])
            assert {worker.run for worker in workers} == set(waits)
            victim, other = workers
            run, deaths = victim.run, victim.deaths
            os.kill(victim.pid, signal.SIGKILL)
            await place.until(lambda: victim.deaths > deaths)
            assert (other.state, other.deaths) == ("busy", 0)
            (tmp_path / "go").touch()
            records = {one: await place.over(one) for one in waits}
            return [worker.name for worker in workers], run, records

    names, run, records = asyncio.run(main())
    assert names == ["cpu", "cpu #1"]
    assert {record.status for record in records.values()} == {"success"}
    assert {record.id: record.deaths for record in records.values()} == {one: int(one == run) for one in records}
    assert saved(tmp_path) == ["0", "1"]


def test_a_worker_that_dies_with_nothing_to_do_is_started_again(tmp_path):
    async def main():
        async with at_work(tmp_path, retries=0) as place:
            worker = place.service.dispatcher.workers()[0]
            await place.until(lambda: worker.state == "idle")
            first = worker.pid
            os.kill(first, signal.SIGKILL)
            await place.until(lambda: worker.pid not in (None, first) and worker.state == "idle")
            return await place.over(await place.prompt(chain("Slow"))), worker.deaths

    record, deaths = asyncio.run(main())
    assert (record.status, deaths) == ("success", 1)


def test_many_runs_of_many_clients_all_end_once(tmp_path):
    async def main():
        async with at_work(tmp_path, devices=("cpu", "cpu")) as place:
            ids = await asyncio.gather(
                *(place.prompt(chain("Slow", value=f"{i:03}", ms=1), client_id=f"c{i % 7}") for i in range(60))
            )
            for run in ids:
                await place.over(run)
            return len(set(ids)), await place.service.runs.counts()

    count, counts = asyncio.run(main())
    assert (count, counts["success"]) == (60, 60)
    assert saved(tmp_path) == [f"{i:03}" for i in range(60)]


def test_freeing_memory_leaves_what_is_on_disk(tmp_path):
    async def main():
        async with at_work(tmp_path) as place:
            tiers = []
            for number, is_freed in enumerate((False, False, True)):
                if is_freed:
                    assert (await place.ask("POST", "/free", json={"free_memory": True}))[0] == 200
                graph = {**chain("Slow"), "9": n("Note", value=("2", 0), prefix=f"p{number}")}
                record = await place.over(await place.prompt(graph))
                tiers.append({node["node"]: node["tier"] for node in record.nodes}["2"])
            return tiers

    assert asyncio.run(main()) == [None, "memory", "disk"]


def test_a_worker_that_ends_while_others_are_told_to_free_memory_is_no_fault(tmp_path):
    class Ending:
        def __init__(self, workers):
            self.workers = workers

        async def send(self, order):
            self.workers.pop("b", None)

    async def main():
        async with at_work(tmp_path) as place:
            workers = place.service.dispatcher._processes
            workers.update({"a": Ending(workers), "b": Ending(workers)})
            await place.service.dispatcher.free()
            workers.pop("a")

    asyncio.run(main())


def test_a_run_whose_end_cannot_be_written_down_is_over_with_an_error(tmp_path, monkeypatch):
    async def main():
        async with at_work(tmp_path) as place:
            finish, endings = place.service.runs.finish, []

            async def picky(run, ending):
                endings.append(ending.status)
                if ending.nodes:
                    raise UnicodeEncodeError("utf-8", "\udc80", 0, 1, "surrogates not allowed")
                return await finish(run, ending)

            monkeypatch.setattr(place.service.runs, "finish", picky)
            record = await place.over(await place.prompt(chain("Slow")))
            return record, endings, place.service.dispatcher.workers()[0].deaths

    record, endings, deaths = asyncio.run(main())
    assert (record.status, endings, deaths) == ("error", ["success", "error"], 0)
    assert "what it made cannot be written down" in record.error["message"]


# The end and the beginning of the server


def test_a_worker_that_waits_to_be_started_again_does_not_hold_up_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FIRST_PAUSE", 10_000.0)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 10_000.0)

    async def main():
        async with at_work(tmp_path, devices=("nonsense",), grace_seconds=10_000.0) as place:
            await place.until(lambda: place.service.dispatcher.workers()[0].deaths >= 2)

    asyncio.run(asyncio.wait_for(main(), 60))


def leased(folder, graph, *, is_cancelled=False):
    """A database as a killed server leaves it: one run on lease, one that waits."""

    async def main():
        import json

        store = Store(folder / "home" / "server.sqlite")
        runs = Runs(store, queue_limit=10, history_limit=10)
        for name in ("under way", "waiting"):
            await runs.submit(Draft(json.dumps(graph), id=name, targets=("9",)))
        await runs.lease("cpu")
        if is_cancelled:
            await runs.note_cancel("under way")
        store.close()

    asyncio.run(main())


def test_a_server_takes_up_what_was_under_way_when_the_last_one_died(tmp_path):
    leased(tmp_path, chain("Count", file=str(tmp_path / "calls")))

    async def main():
        async with at_work(tmp_path) as place:
            return [await place.over(run) for run in ("under way", "waiting")]

    records = asyncio.run(main())
    assert [(record.status, record.leases, record.deaths) for record in records] == [
        ("success", 2, 0), ("success", 1, 0),
    ]  # fmt: skip
    assert records[0].started < records[1].started
    assert calls(tmp_path / "calls") == 2


def test_a_server_does_not_take_up_what_was_told_to_stop(tmp_path):
    leased(tmp_path, chain("Count", file=str(tmp_path / "calls")), is_cancelled=True)

    async def main():
        async with at_work(tmp_path) as place:
            return [(await place.over(run)).status for run in ("under way", "waiting")]

    assert asyncio.run(main()) == ["cancelled", "success"]
    assert calls(tmp_path / "calls") == 1


def test_claims_of_runs_that_are_over_go_when_a_server_starts(tmp_path):
    leased(tmp_path, chain("Slow"))
    for name in ("under way", "over"):
        place = tmp_path / "home" / "output" / ".unfinished" / name
        place.mkdir(parents=True)
        (place / "9-1.txt").write_text("x")

    async def main():
        async with at_work(tmp_path) as place:
            await place.service.runs.pause(True)
            return place.service.desk.folders.claims()

    assert "over" not in asyncio.run(main())


def test_at_the_end_of_the_server_a_run_may_finish_in_time(tmp_path):
    async def main():
        async with at_work(tmp_path, grace_seconds=30.0) as place:
            run = await place.prompt(chain("Wait", file=str(tmp_path / "go")))
            await place.until(lambda: run in place.service.dispatcher.running())
            late = await place.prompt(chain("Slow", value="late"))
            close = place.service.dispatcher.close

            async def closing():
                asyncio.get_running_loop().call_later(0.2, (tmp_path / "go").touch)
                await close()

            place.service.dispatcher.close = closing
        return run, late

    run, late = asyncio.run(main())
    assert _statuses(tmp_path) == {run: ("success", 0), late: ("queued", 0)}
    assert saved(tmp_path) == ["x"]


def test_at_the_end_of_the_server_a_run_that_takes_too_long_is_given_back_and_taken_up_again(tmp_path):
    async def first():
        async with at_work(tmp_path, grace_seconds=0.2) as place:
            run = await place.prompt(chain("Wait", file=str(tmp_path / "go")))
            await place.until(lambda: run in place.service.dispatcher.running())
        return run

    async def second(run):
        async with at_work(tmp_path) as place:
            return await place.over(run)

    run = asyncio.run(first())
    assert _statuses(tmp_path) == {run: ("queued", 0)}
    (tmp_path / "go").touch()
    assert asyncio.run(second(run)).status == "success"
    assert saved(tmp_path) == ["x"]


def test_a_cancelled_run_that_the_end_of_the_server_cuts_short_is_not_taken_up_again(tmp_path):
    async def first():
        async with at_work(tmp_path, grace_seconds=0.5) as place:
            run = await place.prompt(chain("Deaf", file=str(tmp_path / "calls")))
            await place.until(lambda: calls(tmp_path / "calls"))
            await place.service.dispatcher.cancel(run)
        return run

    run = asyncio.run(first())
    assert _statuses(tmp_path)[run][0] == "cancelled"


def _statuses(folder):
    async def main():
        store = Store(folder / "home" / "server.sqlite")
        page = await Runs(store, queue_limit=10, history_limit=10).page()
        store.close()
        return {record.id: (record.status, record.deaths) for record in page.records}

    return asyncio.run(main())
