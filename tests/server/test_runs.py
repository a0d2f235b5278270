"""The queue and its runs: fair order, leases, restarts, idempotency; against a simple model of all of it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nodegraph.errors import NodegraphError
from server import runs as module
from server.records import Draft, Ending, FileRecord
from server.runs import KeyReused, QueueFull, Runs
from server.store import Store

GRAPH = '{"1": {"class_type": "A", "inputs": {}}}'


def ending(status="success", files=(), **rest):
    whole = {"error": None, "outputs": {}, "result": {}, "nodes": [], "messages": [], "events": [], **rest}
    return Ending(status, files=files, **whole)


def file(name, node="9"):
    return FileRecord(node, "output", "a", name, "png", 7)


class Queue:
    """Runs over a database in a folder, asked from outside any event loop."""

    def __init__(self, folder, **limits):
        self.folder, self.limits = folder, {"queue_limit": 1000, "history_limit": 1000, **limits}
        self.loop = asyncio.new_event_loop()
        self.open()

    def open(self):
        self.store = Store(self.folder / "a.sqlite")
        self.runs = Runs(self.store, **self.limits)

    def restart(self):
        """What a server does that was killed and starts again."""
        self.store.close()
        self.open()
        return self.give_back_all()

    def close(self):
        self.store.close()
        self.loop.close()

    def __getattr__(self, name):
        method = getattr(self.runs, name)
        return lambda *args, **kwargs: self.loop.run_until_complete(method(*args, **kwargs))

    def put(self, client="", **rest):
        key = {name: rest.pop(name) for name in ("key", "body") if name in rest}
        return self.submit(Draft(**{"graph": GRAPH, "client": client, **rest}), **key).id

    def order(self):
        """Ids of the runs that wait, the next first."""
        found = {run.id: self.position(run.id) for run in self.page(statuses=["queued"], limit=1000).records}
        assert sorted(found.values()) == list(range(len(found)))
        return sorted(found, key=found.get)

    def run_all(self):
        """Leases and ends what waits -> ids in that order."""
        done = []
        while (record := self.lease("w")) is not None:
            assert self.finish(record.id, ending())
            done.append(record.id)
        return done


@pytest.fixture
def queue(tmp_path):
    made = Queue(tmp_path)
    yield made
    made.close()


# The order of the queue


def test_the_runs_of_one_client_go_in_the_order_of_their_submission(queue):
    ids = [queue.put("a") for _ in range(5)]
    assert [queue.get(run).number for run in ids] == [0, 1, 2, 3, 4]
    assert queue.run_all() == ids
    again = queue.put("a")
    assert queue.get(again).number == 5


def test_clients_take_turns_however_much_each_has_queued(queue):
    pile = [queue.put("a") for _ in range(6)]
    assert queue.lease("w").id == pile[0]
    late = [queue.put("b") for _ in range(2)]
    assert queue.order() == [pile[1], late[0], pile[2], late[1], *pile[3:]]


def test_a_client_that_was_away_gains_nothing_by_it(queue):
    for _ in range(5):
        queue.put("a")
    queue.run_all()
    ids = [queue.put(client) for client in ("b", "a", "b", "a")]
    assert queue.order() == ids


def test_the_owner_of_a_token_takes_turns_under_one_name_whatever_clients_it_invents(queue):
    pile = [queue.put(f"client {number}", owner="greedy") for number in range(4)]
    other = queue.put("x", owner="modest")
    assert queue.order() == [pile[0], other, *pile[1:]]


def test_the_front_goes_before_all_and_the_last_one_put_there_first(queue):
    one, two = queue.put("a"), queue.put("a")
    front, first = queue.put("b", is_front=True), queue.put("c", is_front=True)
    assert queue.order() == [first, front, one, two]
    assert queue.get(front).number == -1
    assert queue.get(first).number == -2


def test_a_number_that_was_given_is_kept_and_moves_nobody_else(queue):
    one = queue.put("a")
    given, late = queue.put("a", number=100.5), queue.put("a", number=-3.0)
    two = queue.put("a")
    assert queue.order() == [late, one, two, given]
    assert [queue.get(run).number for run in (one, two, given, late)] == [0, 1, 100.5, -3]
    queue.run_all()
    assert queue.get(queue.put("a")).number == 2


def test_the_highest_priority_goes_first_whatever_the_numbers(queue):
    low, usual, high = queue.put("a", priority=-1), queue.put("a"), queue.put("a", priority=5, number=99.0)
    front = queue.put("a", is_front=True)
    assert queue.order() == [high, front, usual, low]


def test_a_run_is_moved_to_any_place_and_keeps_it_over_a_restart(queue):
    ids = [queue.put("a") for _ in range(4)]
    assert queue.move(ids[3], position=1)
    assert queue.order() == [ids[0], ids[3], ids[1], ids[2]]
    assert queue.move(ids[0], position=99)
    assert queue.move(ids[1], position=0)
    queue.restart()
    assert queue.order() == [ids[1], ids[3], ids[2], ids[0]]
    assert queue.move(ids[2], priority=1, position=0)
    assert queue.order() == [ids[2], ids[1], ids[3], ids[0]]
    late = queue.put("a")
    assert queue.order()[-1] == late


@pytest.mark.parametrize("number", [0.0, 7.0, 1e9, 1e12, 1e14, -1e12])
def test_runs_with_equal_numbers_are_moved_however_large_these_are(queue, number):
    ids = [queue.put("a", number=number) for _ in range(4)]
    assert queue.order() == ids
    assert queue.move(ids[3], position=0)
    assert queue.order() == [ids[3], *ids[:3]]


def test_a_run_is_moved_in_a_long_queue(queue):
    def fill(database):
        database.executemany(
            "insert into runs(id, seq, number, status, graph, created) values(?, ?, ?, 'queued', '{}', 0)",
            [(str(number), number, number) for number in range(40_000)],
        )
        if hasattr(database, "setlimit"):
            database.setlimit(9, 32_766)  # of variables in a statement, as SQLite has it by default

    queue.loop.run_until_complete(queue.store.write(fill))
    assert queue.move("39999", position=0)
    assert queue.position("39999") == 0


def test_runs_that_do_not_wait_cannot_be_moved_or_taken_out(queue):
    run = queue.put("a")
    queue.lease("w")
    assert not queue.move(run, position=0)
    assert not queue.cancel_queued(run)
    assert queue.drop_queued([run]) == []
    assert queue.position(run) is None
    queue.finish(run, ending())
    assert not queue.move(run, priority=3)
    assert not queue.move("unknown", position=0)
    assert queue.get("unknown") is None


def test_a_paused_queue_gives_nothing_also_after_a_restart(queue):
    run = queue.put("a")
    queue.pause(True)
    assert queue.lease("w") is None
    queue.restart()
    assert queue.is_paused()
    assert queue.lease("w") is None
    queue.pause(False)
    assert not queue.is_paused()
    assert queue.lease("w").id == run


# Submission


def test_what_is_submitted_is_read_back_whole(queue):
    draft = Draft(
        GRAPH, '{"nodegraph": 1}', "name", "client", "owner", "scope", 3, 4.5, False, ("9", "out"), '{"a": 1}',
        '{"k": null}', "words", "my id", "earlier",
    )  # fmt: skip
    ticket = queue.submit(draft)
    assert ticket == ("my id", 4.5, True)
    found = queue.get("my id")
    for name in draft._fields:
        if name not in ("is_front", "words"):
            assert getattr(found, name) == getattr(draft, name), name
    assert (found.status, found.leases, found.deaths, found.started, found.finished) == ("queued", 0, 0, None, None)
    assert (found.outputs, found.result, found.nodes, found.messages, found.files) == ({}, {}, [], [], [])


def test_an_id_that_is_taken_is_refused_also_when_its_run_is_over(queue):
    queue.put(id="x")
    for _ in range(2):
        with pytest.raises(NodegraphError, match="there is a run 'x' already; give it another id"):
            queue.put(id="x")
        queue.run_all()
    assert queue.counts()["success"] == 1


def test_a_full_queue_refuses_and_takes_again_when_one_has_begun(tmp_path):
    queue = Queue(tmp_path, queue_limit=2)
    queue.put(key="k", body="b", id="first")
    queue.put()
    with pytest.raises(QueueFull, match="2 runs wait, which is the limit"):
        queue.put()
    assert queue.put(key="k", body="b") == "first"  # it is in the queue already
    queue.lease("w")
    queue.put()
    with pytest.raises(QueueFull):
        queue.put()
    queue.close()


def test_an_idempotency_key_gives_the_same_run_and_refuses_another_body(queue):
    draft = Draft(GRAPH, owner="me")
    first = queue.submit(draft, key="k", body="b")
    assert first.is_new
    assert queue.submit(draft, key="k", body="b") == (first.id, first.number, False)
    assert queue.known("me", "k", "b") == (first.id, first.number, False)
    queue.restart()
    queue.run_all()
    assert queue.submit(draft, key="k", body="b").id == first.id
    for ask in (queue.known, lambda owner, key, body: queue.submit(draft, key=key, body=body)):
        with pytest.raises(KeyReused, match="idempotency key 'k' was used for another request"):
            ask("me", "k", "other")
    other = queue.submit(draft._replace(owner="you"), key="k", body="other")
    assert other.is_new and other.id != first.id
    assert queue.known("me", "unknown", "b") is None
    assert queue.counts()["queued"] + queue.counts()["success"] == 2


def test_many_requests_with_one_key_at_once_make_one_run(queue):
    async def main():
        return await asyncio.gather(*(queue.runs.submit(Draft(GRAPH), key="k", body="b") for _ in range(30)))

    tickets = queue.loop.run_until_complete(main())
    assert len({ticket.id for ticket in tickets}) == 1
    assert [ticket.is_new for ticket in tickets].count(True) == 1
    assert queue.counts()["queued"] == 1


def test_an_idempotency_key_is_forgotten_after_a_day(queue, monkeypatch):
    first = queue.put(key="k", body="b")
    now = module.time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + module.KEY_SECONDS + 1)
    assert queue.known("", "k", "other") is None
    assert queue.put(key="k", body="other") != first


# Leases and ends


def test_a_run_on_lease_is_nobody_elses(queue):
    one, two = queue.put("a"), queue.put("a")
    record = queue.lease("w 1")
    assert (record.id, record.status, record.worker, record.leases) == (one, "running", "w 1", 1)
    assert record.started is not None and record.graph == GRAPH
    assert queue.lease("w 2").id == two
    assert queue.lease("w 3") is None


def test_a_run_given_back_takes_its_old_place_and_counts_its_deaths(queue):
    ids = [queue.put("a") for _ in range(3)]
    queue.lease("w")
    queue.give_back(ids[0], is_death=True)
    assert queue.order() == ids
    found = queue.get(ids[0])
    assert (found.status, found.deaths, found.worker, found.started) == ("queued", 1, None, None)
    assert queue.lease("w").leases == 2
    queue.give_back(ids[0], is_death=False)
    assert queue.get(ids[0]).deaths == 1


def test_what_was_under_way_when_the_server_died_waits_again(queue):
    ids = [queue.put("a") for _ in range(3)]
    queue.lease("w 1")
    queue.lease("w 2")
    assert queue.restart() == 2
    assert queue.order() == ids
    assert [queue.get(run).deaths for run in ids] == [0, 0, 0]


def test_a_cancel_is_not_forgotten_over_a_restart(queue):
    run, other = queue.put("a"), queue.put("a")
    queue.lease("w")
    assert queue.note_cancel(run)
    assert queue.get(run).status == "running"
    assert queue.restart() == 0
    found = queue.get(run)
    assert found.status == "cancelled" and found.finished is not None and found.worker is None
    assert queue.order() == [other]


@pytest.mark.parametrize("is_death", [True, False])
def test_a_cancelled_run_that_is_given_back_does_not_run_again(queue, is_death):
    run = queue.put("a")
    queue.lease("w")
    queue.note_cancel(run)
    queue.give_back(run, is_death=is_death)  # its worker died, or the server ends before it stopped
    assert queue.lease("w") is None
    found = queue.get(run)
    assert found.status == "cancelled" and found.finished is not None


def test_only_runs_on_lease_can_be_told_to_stop(queue):
    run = queue.put("a")
    assert not queue.note_cancel(run)
    queue.run_all()
    assert not queue.note_cancel(run)
    assert queue.get(run).status == "success"


def test_a_run_that_waits_is_cancelled_at_once(queue):
    run = queue.put("a")
    assert queue.cancel_queued(run)
    assert not queue.cancel_queued(run)
    found = queue.get(run)
    assert found.status == "cancelled" and found.finished is not None
    assert queue.lease("w") is None


def test_a_run_ends_once(queue):
    run = queue.put("a")
    assert not queue.finish(run, ending())  # it has not begun
    queue.lease("w")
    first = ending(
        "error", [file("b.png"), file("a.png", "3")], error={"message": "no"}, outputs={"9": {"images": []}},
        result={"x": 1}, nodes=[{"node": "9"}], messages=[["execution_start", {}]], events=[[1000001, {"type": "A"}]],
    )  # fmt: skip
    assert queue.finish(run, first)
    assert not queue.finish(run, ending("success", [file("c.png")]))
    found = queue.get(run)
    assert (found.status, found.error, found.outputs, found.result) == (
        "error",
        {"message": "no"},
        first.outputs,
        {"x": 1},
    )
    assert (found.nodes, found.messages) == (first.nodes, first.messages)
    assert found.files == first.files
    assert queue.events(run) == [[1000001, {"type": "A"}]]
    queue.give_back(run, is_death=True)
    assert queue.restart() == 0
    assert queue.get(run).status == "error"


def test_a_finished_run_is_tried_again_as_a_new_one(queue):
    run = queue.put("a", name="n", priority=2, targets=("9",), extra='{"x": 1}', pictures='{"p": null}', scope="s")
    assert queue.retry(run, "me") is None
    queue.lease("w")
    assert queue.retry(run, "me") is None
    queue.finish(run, ending("error"))
    ticket = queue.retry(run, "me")
    assert ticket.is_new and ticket.id != run
    found, old = queue.get(ticket.id), queue.get(run)
    for name in ("name", "client", "scope", "graph", "document", "extra", "targets", "pictures", "priority"):
        assert getattr(found, name) == getattr(old, name), name
    assert (found.owner, found.retry_of, found.status, found.deaths) == ("me", run, "queued", 0)
    assert queue.retry("unknown", "me") is None


def test_a_run_that_is_tried_again_is_found_by_its_own_id_alone(queue):
    run = queue.put(name="Sea", words="waves")
    for _ in range(3):
        queue.lease("w")
        queue.finish(run, ending("error"))
        old, run = run, queue.retry(run, "me").id
        assert [found.id for found in queue.page(search=f"sea waves {run}").records] == [run]
        assert [found.id for found in queue.page(search=old).records] == [old]


def test_runs_are_dropped_from_the_queue_without_a_trace(queue):
    mine, yours = queue.put(owner="me"), queue.put(owner="you")
    running = queue.lease("w").id
    assert running == mine
    rest = [queue.put(owner="me"), queue.put(owner="you")]
    assert queue.drop_queued([*rest, mine, "unknown"], owner="me") == [rest[0]]
    assert queue.get(rest[0]) is None
    assert set(queue.drop_queued(None)) == {yours, rest[1]}
    assert queue.counts() == {"queued": 0, "running": 1, "success": 0, "error": 0, "cancelled": 0}


# The length of the history


def test_the_oldest_of_a_full_history_go_with_their_files(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TRIM_EVERY", 1)
    queue = Queue(tmp_path, history_limit=3)
    ids = [queue.put("a") for _ in range(6)]
    waiting = queue.put("a", priority=-1)
    for run in ids:
        queue.lease("w")
        queue.finish(run, ending(files=[file(f"{run}.png")]))
    assert [queue.get(run) is not None for run in ids] == [False] * 3 + [True] * 3
    assert queue.get(waiting) is not None
    assert not queue.is_used(file(f"{ids[0]}.png"))
    assert queue.is_used(file(f"{ids[5]}.png"))
    queue.close()


def test_a_history_stays_near_its_limit_without_a_look_at_each_end(tmp_path):
    queue = Queue(tmp_path, history_limit=5)
    for _ in range(module.TRIM_EVERY + 1):
        queue.put("a")
    last = queue.run_all()[-5:]
    assert queue.counts()["success"] == 5
    assert sorted(run.id for run in queue.page().records) == sorted(last)
    queue.close()


def test_runs_that_are_cancelled_as_they_wait_do_not_fill_the_history(tmp_path):
    queue = Queue(tmp_path, history_limit=5)
    for _ in range(2 * module.TRIM_EVERY):
        assert queue.cancel_queued(queue.put("a"))
    assert queue.counts()["cancelled"] <= module.TRIM_EVERY + 5
    queue.close()


# All of it against a model


@dataclass
class Row:
    """A run as the model has it."""

    id: str
    seq: int
    who: str
    number: float
    is_given: bool
    priority: int
    status: str = "queued"
    is_cancelled: bool = False
    deaths: int = 0
    leases: int = 0


class QueueMachine(RuleBasedStateMachine):
    """The queue in the database does what a list in Python does."""

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        self.queue = Queue(self.folder, queue_limit=12)
        self.rows: dict[str, Row] = {}
        self.keys: dict[str, tuple[str, str]] = {}
        self.turn, self.is_paused, self.seq = -1.0, False, 0

    def teardown(self):
        if hasattr(self, "queue"):
            self.queue.close()
            shutil.rmtree(self.folder)

    def waiting(self):
        rows = [row for row in self.rows.values() if row.status == "queued"]
        return sorted(rows, key=lambda row: (-row.priority, row.number, row.seq))

    def of(self, *statuses):
        return [row for row in self.rows.values() if row.status in statuses]

    @rule(
        who=st.sampled_from("abc"), is_owner=st.booleans(), priority=st.sampled_from([0, 0, 0, 1, -1]),
        place=st.sampled_from([None, None, None, "front", -2.0, 0.0, 1.0, 5.0]),
        key=st.sampled_from(["", "", "k", "l"]),
        body=st.sampled_from("xy"),
    )  # fmt: skip
    def submit(self, who, is_owner, priority, place, key, body):
        draft = Draft(GRAPH, client="shared" if is_owner else who, owner=who if is_owner else "", priority=priority,
                      number=place if isinstance(place, float) else None, is_front=place == "front")  # fmt: skip
        name = f"{draft.owner} {key}"
        if key and name in self.keys and self.keys[name][0] in self.rows:
            run, known = self.keys[name]
            if known != body:
                with pytest.raises(KeyReused):
                    self.queue.submit(draft, key=key, body=body)
            else:
                ticket = self.queue.submit(draft, key=key, body=body)
                assert (ticket.id, ticket.is_new) == (run, False)
            return
        waiting = self.waiting()
        if len(waiting) == 12:
            with pytest.raises(QueueFull):
                self.queue.submit(draft, key=key, body=body)
            return
        ticket = self.queue.submit(draft, key=key, body=body)
        me = f"{'owner' if is_owner else 'client'} {who}"
        if draft.number is not None:
            number = draft.number
        elif draft.is_front:
            number = min([0.0, *(row.number for row in waiting)]) - 1
        else:
            own = [row.number for row in waiting if row.who == me and not row.is_given]
            number = max([self.turn, *own]) + 1
        assert (ticket.number, ticket.is_new) == (number, True)
        self.seq += 1
        self.rows[ticket.id] = Row(ticket.id, self.seq, me, number, place is not None, priority)
        if key:
            self.keys[name] = (ticket.id, body)

    @rule()
    def lease(self):
        waiting = self.waiting()
        found = self.queue.lease("w")
        if self.is_paused or not waiting:
            assert found is None
            return
        row = waiting[0]
        row.status = "running"
        row.leases += 1
        if not row.is_given:
            self.turn = max(self.turn, row.number)
        assert (found.id, found.leases, found.deaths) == (row.id, row.leases, row.deaths)

    @precondition(lambda self: self.rows)
    @rule(choice=st.data(), status=st.sampled_from(["success", "error", "cancelled"]))
    def finish(self, choice, status):
        row = choice.draw(st.sampled_from(list(self.rows.values())))
        assert self.queue.finish(row.id, ending(status)) == (row.status == "running")
        if row.status == "running":
            row.status = status

    @precondition(lambda self: self.rows)
    @rule(choice=st.data(), is_death=st.booleans())
    def give_back(self, choice, is_death):
        row = choice.draw(st.sampled_from(list(self.rows.values())))
        self.queue.give_back(row.id, is_death=is_death)
        if row.status == "running":
            row.status = "cancelled" if row.is_cancelled else "queued"
            row.deaths += is_death

    @precondition(lambda self: self.rows)
    @rule(choice=st.data())
    def cancel(self, choice):
        row = choice.draw(st.sampled_from(list(self.rows.values())))
        assert self.queue.note_cancel(row.id) == (row.status == "running")
        row.is_cancelled |= row.status == "running"
        assert self.queue.cancel_queued(row.id) == (row.status == "queued")
        if row.status == "queued":
            row.status = "cancelled"

    @precondition(lambda self: self.rows)
    @rule(choice=st.data(), priority=st.sampled_from([None, 0, 1]), position=st.sampled_from([None, 0, 1, 2, 50]))
    def move(self, choice, priority, position):
        row = choice.draw(st.sampled_from(list(self.rows.values())))
        is_waiting = row.status == "queued"
        assert self.queue.move(row.id, priority=priority, position=position) == is_waiting
        if not is_waiting:
            return
        if priority is not None:
            row.priority = priority
        if position is None:
            return
        waiting = self.waiting()
        order = [other for other in waiting if other.priority == row.priority and other is not row]
        order.insert(position, row)
        assert [each for each in self.queue.order() if self.rows[each].priority == row.priority] == [
            each.id for each in order
        ]
        for each in order:
            number = self.queue.get(each.id).number
            assert abs(number - each.number) < 60
            each.number = number

    @rule(is_paused=st.booleans())
    def pause(self, is_paused):
        self.queue.pause(is_paused)
        self.is_paused = is_paused

    @rule()
    def restart(self):
        running = self.of("running")
        for row in running:
            row.status = "cancelled" if row.is_cancelled else "queued"
        assert self.queue.restart() == len([row for row in running if row.status == "queued"])

    @precondition(lambda self: self.of("success", "error", "cancelled"))
    @rule(choice=st.data())
    def delete(self, choice):
        rows = choice.draw(st.lists(st.sampled_from(list(self.rows.values())), max_size=3))
        self.queue.delete([row.id for row in rows])
        for row in rows:
            if row.status in ("success", "error", "cancelled"):
                self.rows.pop(row.id, None)

    @invariant()
    def is_as_the_model_says(self):
        if not hasattr(self, "queue"):
            return
        assert self.queue.order() == [row.id for row in self.waiting()]
        found = {
            run.id: (run.status, run.deaths, run.leases, run.priority) for run in self.queue.page(limit=500).records
        }
        assert found == {row.id: (row.status, row.deaths, row.leases, row.priority) for row in self.rows.values()}
        counts = Counter(row.status for row in self.rows.values())
        assert self.queue.counts() == {
            name: counts[name] for name in ("queued", "running", "success", "error", "cancelled")
        }
        assert self.queue.is_paused() == self.is_paused


# what is found is told unreduced, before the watchdog ends the test
QueueMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, phases=(Phase.explicit, Phase.generate)
)
TestQueueMachine = QueueMachine.TestCase
