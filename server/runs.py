"""Runs in the database: the queue and the history.

A run waits as `queued`, is `running` while a worker has it on lease, and ends as `success`, `error` or `cancelled`.

The queue goes by priority, the highest first, then by `number`, the lowest first. A run that names no number gets the
one after the last of its own client, or after the run that began last, whichever is greater. So the numbers of one
client count up as ComfyUI's do, and clients take turns: nobody waits for the whole of another's pile (start-time fair
queuing, Goyal et al. 1996).
"""

from __future__ import annotations

import itertools
import json
import math
import sqlite3
import time
import uuid
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

from nodegraph.errors import NodegraphError
from server.history import History, get
from server.records import Draft, Ending, Record, Ticket
from server.store import Store

KEY_SECONDS = 24 * 3600.0  # how long an idempotency key is remembered
TRIM_EVERY = 64  # ends of runs between two looks at the length of the history
COPIED = ("name", "client", "owner", "scope", "priority", "graph", "document", "extra", "pictures", "words", "retry_of")


class QueueFull(NodegraphError):
    """No more runs may wait."""


class KeyReused(NodegraphError):
    """An idempotency key came again with another body."""


class Runs(History):
    """The queue and the history.

    Args:
        store: the database.
        queue_limit: runs that may wait.
        history_limit: finished runs that are kept.
    """

    def __init__(self, store: Store, *, queue_limit: int, history_limit: int) -> None:
        super().__init__(store)
        self._queue_limit, self._history_limit = queue_limit, history_limit
        self._ends = itertools.count()

    async def submit(self, draft: Draft, *, key: str = "", body: str = "") -> Ticket:
        """Stores a run at the end of the queue -> its ticket, once it is on disk.

        Args:
            draft: what to store.
            key: idempotency key; the same again from the same owner gives the same ticket.
            body: digest of the request, to tell a repeated one from another.

        Raises:
            QueueFull: as many runs wait as may.
            KeyReused: the key came before with another body.
            NodegraphError: the wanted id is taken.
        """
        return await self._store.write(lambda database: self._submit(database, draft, key, body))

    def _submit(self, database: sqlite3.Connection, draft: Draft, key: str, body: str) -> Ticket:
        now = time.time()
        if key:
            database.execute("delete from keys where created < ?", (now - KEY_SECONDS,))
            known = _known(database, draft.owner, key, body)
            if known is not None:
                return known
        waiting = database.execute("select count(*) from runs where status = 'queued'").fetchone()[0]
        if waiting >= self._queue_limit:
            raise QueueFull(f"{waiting} runs wait, which is the limit; try again later, or cancel some")
        run = draft.id or str(uuid.uuid4())
        if database.execute("select 1 from runs where id = ?", (run,)).fetchone():
            raise NodegraphError(f"there is a run {run!r} already; give it another id, or none")
        number = _number(database, draft)
        row = {
            "id": run, "number": number, "is_given": draft.number is not None or draft.is_front, "created": now,
            "targets": None if draft.targets is None else json.dumps(draft.targets), "status": "queued",
            **{name: getattr(draft, name) for name in COPIED},
            "words": draft.words.casefold() + _tail(draft.name, run),
        }  # fmt: skip
        database.execute(
            f"insert into runs(seq, {', '.join(row)})"
            f" values((select coalesce(max(seq), 0) + 1 from runs), {', '.join('?' * len(row))})",
            tuple(row.values()),
        )
        if key:
            database.execute("insert or replace into keys values(?, ?, ?, ?, ?)", (draft.owner, key, body, run, now))
        return Ticket(run, number)

    async def known(self, owner: str, key: str, body: str) -> Ticket | None:
        """The ticket of an idempotency key that came before, or None.

        Raises:
            KeyReused: the key came before with another body.
        """
        return await self._store.read(lambda database: _known(database, owner, key, body))

    async def lease(self, worker: str) -> Record | None:
        """Gives the next run in line to a worker, or None when nothing waits or the queue is paused."""

        def take(database: sqlite3.Connection) -> Record | None:
            if _is_paused(database):
                return None
            row = database.execute(
                "select id, number, is_given from runs where status = 'queued'"
                " order by priority desc, number, seq limit 1"
            ).fetchone()
            if row is None:
                return None
            if not row["is_given"] and row["number"] > _turn(database):
                database.execute("insert or replace into facts values('turn', ?)", (str(row["number"]),))
            database.execute(
                "update runs set status = 'running', worker = ?, started = ?, leases = leases + 1 where id = ?",
                (worker, time.time(), row[0]),
            )
            return get(database, row[0])

        return await self._store.write(take)

    async def give_back(self, run: str, *, is_death: bool) -> None:
        """Puts a run on lease back in its place in the queue; `is_death` when its worker died under it.

        One that was to stop is cancelled instead.
        """
        await self._store.write(lambda database: _give_back(database, "and id = ?", run, is_death=is_death))

    async def give_back_all(self) -> int:
        """Puts every run on lease back, at the start of a server: who held them is gone -> how many."""
        return await self._store.write(lambda database: _give_back(database, "", is_death=False))

    async def finish(self, run: str, ending: Ending) -> bool:
        """Writes down the end of a run on lease -> False when it had ended. The oldest of a full history go."""

        def write(database: sqlite3.Connection) -> bool:
            done = database.execute(
                "update runs set status = ?, error = ?, outputs = ?, result = ?, nodes = ?, messages = ?, events = ?,"
                " finished = ?, worker = null where id = ? and status = 'running'",
                (ending.status, ending.error and json.dumps(ending.error), json.dumps(ending.outputs),
                 json.dumps(ending.result), _list(ending.nodes), _list(ending.messages),
                 zlib.compress(_list(ending.events).encode(), 1), time.time(), run),
            ).rowcount  # fmt: skip
            if done:
                rows = [(run, *file, place) for place, file in enumerate(ending.files)]
                database.executemany("insert into files values(?, ?, ?, ?, ?, ?, ?, ?)", rows)
                self._trim(database)
            return bool(done)

        return await self._store.write(write)

    def _trim(self, database: sqlite3.Connection) -> None:
        """Counts an end, and now and then forgets the oldest of a full history."""
        if next(self._ends) % TRIM_EVERY:
            return
        database.execute(
            "delete from runs where id in (select id from runs where finished is not null order by finished desc"
            " limit -1 offset ?)",
            (self._history_limit,),
        )

    async def cancel_queued(self, run: str) -> bool:
        """Ends a run that waits -> False when it does not wait."""
        statement = "update runs set status = 'cancelled', finished = ? where id = ? and status = 'queued'"

        def cancel(database: sqlite3.Connection) -> bool:
            done = database.execute(statement, (time.time(), run)).rowcount > 0
            if done:
                self._trim(database)
            return done

        return await self._store.write(cancel)

    async def note_cancel(self, run: str) -> bool:
        """Writes down that a run on lease is to stop, so that a restart does not bring it back."""
        statement = "update runs set is_cancelled = 1 where id = ? and status = 'running'"
        return await self._store.write(lambda database: database.execute(statement, (run,)).rowcount > 0)

    async def drop_queued(self, runs: Sequence[str] | None, *, owner: str | None = None) -> list[str]:
        """Takes runs that wait out of the queue without a trace, as ComfyUI does; None is all -> their ids."""
        wanted = None if runs is None else set(runs)

        def drop(database: sqlite3.Connection) -> list[str]:
            found = [
                row["id"]
                for row in database.execute("select id, owner from runs where status = 'queued'")
                if (wanted is None or row["id"] in wanted) and owner in (None, row["owner"])
            ]
            database.executemany("delete from runs where id = ?", [(run,) for run in found])
            return found

        return await self._store.write(drop)

    async def move(self, run: str, *, priority: int | None = None, position: int | None = None) -> bool:
        """Gives a run that waits another priority, or another place among those of its priority (0 is next).

        Returns:
            False when it does not wait.
        """

        def place(database: sqlite3.Connection) -> bool:
            if not database.execute("select 1 from runs where id = ? and status = 'queued'", (run,)).fetchone():
                return False
            if priority is not None:
                database.execute("update runs set priority = ? where id = ?", (priority, run))
            if position is not None:
                others = database.execute(
                    "select id, number, seq from runs where status = 'queued' and id <> ?"
                    " and priority = (select priority from runs where id = ?) order by number, seq",
                    (run, run),
                ).fetchall()
                _place(database, run, others, position)
            return True

        return await self._store.write(place)

    async def position(self, run: str) -> int | None:
        """How many runs go before one that waits; None when it does not."""

        def count(database: sqlite3.Connection) -> int | None:
            row = database.execute(
                "select priority, number, seq from runs where id = ? and status = 'queued'", (run,)
            ).fetchone()
            if row is None:
                return None
            before = database.execute(
                "select count(*) from runs where status = 'queued' and (priority > ? or (priority = ? and"
                " (number < ? or (number = ? and seq < ?))))",
                (row["priority"], row["priority"], row["number"], row["number"], row["seq"]),
            )
            return before.fetchone()[0]

        return await self._store.read(count)

    async def retry(self, run: str, owner: str) -> Ticket | None:
        """Queues a finished run again, as a new one -> its ticket; None when there is no such run that is over."""

        def queue(database: sqlite3.Connection) -> Ticket | None:
            row = database.execute("select * from runs where id = ? and finished is not null", (run,)).fetchone()
            if row is None:
                return None
            targets = None if row["targets"] is None else tuple(json.loads(row["targets"]))
            same: dict[str, Any] = {name: row[name] for name in COPIED}
            words = row["words"].removesuffix(_tail(row["name"], run))
            again: dict[str, Any] = {**same, "owner": owner, "targets": targets, "retry_of": run, "words": words}
            draft = Draft(**again)
            return self._submit(database, draft, "", "")

        return await self._store.write(queue)

    async def pause(self, is_paused: bool) -> None:
        """Has no more runs leased, or lets them be again. Holds over a restart."""
        statement = "insert or replace into facts values('is_paused', ?)"
        await self._store.write(lambda database: database.execute(statement, (str(int(is_paused)),)))

    async def is_paused(self) -> bool:
        """True when no run is leased."""
        return await self._store.read(_is_paused)


def _tail(name: str, run: str) -> str:
    """What searches look at besides the words of a run's workflow: their end."""
    return f" {name} {run}".casefold()


def _known(database: sqlite3.Connection, owner: str, key: str, body: str) -> Ticket | None:
    """The ticket of a key; none where its run was taken out of the queue or forgotten."""
    row = database.execute(
        "select keys.run, keys.body, runs.number from keys join runs on runs.id = keys.run"
        " where keys.owner = ? and keys.key = ? and keys.created >= ?",
        (owner, key, time.time() - KEY_SECONDS),
    ).fetchone()
    if row is None:
        return None
    if row["body"] != body:
        raise KeyReused(f"idempotency key {key!r} was used for another request; take a new one")
    return Ticket(row["run"], row["number"], is_new=False)


def _number(database: sqlite3.Connection, draft: Draft) -> float:
    if draft.number is not None:
        return draft.number
    if draft.is_front:
        first = database.execute("select coalesce(min(number), 0) from runs where status = 'queued'").fetchone()[0]
        return min(0.0, first) - 1
    column, who = ("owner", draft.owner) if draft.owner else ("client", draft.client)
    own = database.execute(
        f"select max(number) from runs where status = 'queued' and {column} = ? and not is_given", (who,)
    ).fetchone()[0]
    return max(_turn(database), -1.0 if own is None else own) + 1


def _is_paused(database: sqlite3.Connection) -> bool:
    row = database.execute("select value from facts where name = 'is_paused'").fetchone()
    return row is not None and row[0] == "1"


def _turn(database: sqlite3.Connection) -> float:
    """The highest number of a run that has begun."""
    row = database.execute("select value from facts where name = 'turn'").fetchone()
    return -1.0 if row is None else float(row[0])


def _place(database: sqlite3.Connection, run: str, others: Sequence[sqlite3.Row], position: int) -> None:
    """Gives a run a number between its neighbours-to-be; where there is none, numbers those before it anew."""
    set_number = "update runs set number = ? where id = ?"
    before, after = others[:position], others[position:]
    low = before[-1]["number"] if before else after[0]["number"] - 2 if after else 0.0
    high = after[0]["number"] if after else low + 2
    middle = (low + high) / 2
    if low < middle < high:
        database.execute(set_number, (middle, run))
        return
    step = math.ulp(high)
    numbers = [high - step * (len(before) + 1 - place) for place in range(len(before) + 1)]
    ids = [*(row["id"] for row in before), run]
    database.executemany(set_number, list(zip(numbers, ids, strict=True)))


def _give_back(database: sqlite3.Connection, which: str, *run: str, is_death: bool) -> int:
    database.execute(
        "update runs set status = 'cancelled', finished = ?, worker = null, deaths = deaths + ?"
        f" where status = 'running' and is_cancelled {which}",
        (time.time(), int(is_death), *run),
    )
    return database.execute(
        "update runs set status = 'queued', worker = null, started = null, deaths = deaths + ?"
        f" where status = 'running' {which}",
        (int(is_death), *run),
    ).rowcount


def _list(items: Iterable[Any]) -> str:
    """JSON of a list, item by item: one call for all would hold up the other threads."""
    return f"[{', '.join(map(json.dumps, items))}]"
