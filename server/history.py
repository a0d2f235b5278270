"""The runs there were: read one by one, searched, and forgotten."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Sequence
from typing import Any

from nodegraph.errors import NodegraphError
from server.records import FILES, LISTED, FileRecord, Page, Record, file_of, record_of
from server.store import Store

OVER = ("success", "error", "cancelled")


class History:
    """The runs in the database, whatever their status."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, run: str) -> Record | None:
        """A run with all that is known of it."""
        return await self._store.read(lambda database: get(database, run))

    async def events(self, run: str) -> list[tuple[int, dict[str, Any]]]:
        """The events of a finished run with their numbers, without progress and previews."""

        def find(database: sqlite3.Connection) -> list[tuple[int, dict[str, Any]]]:
            row = database.execute("select events from runs where id = ?", (run,)).fetchone()
            return [] if row is None or row[0] is None else json.loads(zlib.decompress(row[0]))

        return await self._store.read(find)

    async def unfinished(self) -> set[str]:
        """Ids of the runs that are not over."""
        query = "select id from runs where finished is null"
        return await self._store.read(lambda database: {row["id"] for row in database.execute(query)})

    async def counts(self) -> dict[str, int]:
        """How many runs there are of each status."""

        def count(database: sqlite3.Connection) -> dict[str, int]:
            found = dict(database.execute("select status, count(*) from runs group by status").fetchall())
            return {status: found.get(status, 0) for status in ("queued", "running", *OVER)}

        return await self._store.read(count)

    async def page(
        self, *, statuses: Sequence[str] = (), search: str = "", client: str = "", name: str = "", limit: int = 50,
        after: str | None = None, is_oldest_first: bool = False, is_by_turn: bool = False,
    ) -> Page:  # fmt: skip
        """Some runs, the newest first, without their graphs.

        Args:
            statuses: only runs of these; none stands for all.
            search: words that must all be in the name, the id or the texts of the workflow.
            client: only runs of this client.
            name: only runs of this workflow.
            limit: how many.
            after: `next` of the page before.
            is_oldest_first: the other way round.
            is_by_turn: what runs, then what waits in the order in which it will; `after` counts from the first.
        """
        tests, values = ["1"], list[Any]()
        if statuses:
            tests.append(f"status in ({', '.join('?' * len(statuses))})")
            values += statuses
        for column, wanted in (("client", client), ("name", name)):
            if wanted:
                tests.append(f"{column} = ?")
                values.append(wanted)
        for word in search.casefold().split():
            tests.append("instr(words, ?)")
            values.append(word)
        way = ">" if is_oldest_first else "<"
        onward, place = (f" and seq {way} ?", [_cursor(after)]) if after else ("", [])
        order = "seq asc" if is_oldest_first else "seq desc"
        if is_by_turn:
            onward, place, order = "", [], "status = 'running' desc, priority desc, number, seq"
        skipped = _cursor(after) if after and is_by_turn else 0

        def find(database: sqlite3.Connection) -> Page:
            where = " and ".join(tests)
            total = database.execute(f"select count(*) from runs where {where}", values).fetchone()[0]
            query = f"select {LISTED} from runs where {where}{onward} order by {order} limit ? offset ?"
            rows = database.execute(query, [*values, *place, limit + 1, skipped]).fetchall()
            records = [record_of(row, _files(database, row["id"])) for row in rows[:limit]]
            last = skipped + limit if is_by_turn else rows[limit - 1]["seq"] if len(rows) > limit else 0
            return Page(records, str(last) if len(rows) > limit else None, total)

        return await self._store.read(find)

    async def delete(self, runs: Sequence[str] | None, *, owner: str | None = None) -> list[FileRecord]:
        """Forgets finished runs -> the files they had saved, which stay where they are.

        Args:
            runs: which; None is all.
            owner: only those of this owner.
        """

        def drop(database: sqlite3.Connection) -> list[FileRecord]:
            rows = database.execute("select id, owner from runs where finished is not null").fetchall()
            wanted = None if runs is None else set(runs)
            found = [
                row["id"] for row in rows if (wanted is None or row["id"] in wanted) and owner in (None, row["owner"])
            ]
            files = [file for run in found for file in _files(database, run)]
            database.executemany("delete from runs where id = ?", [(run,) for run in found])
            return files

        return await self._store.write(drop)

    async def is_used(self, file: FileRecord) -> bool:
        """True when a run of the history has this file."""
        query = "select 1 from files where type = ? and subfolder = ? and filename = ?"
        place = (file.type, file.subfolder, file.filename)
        return await self._store.read(lambda database: database.execute(query, place).fetchone() is not None)


def get(database: sqlite3.Connection, run: str) -> Record | None:
    """A run with all that is known of it."""
    row = database.execute("select * from runs where id = ?", (run,)).fetchone()
    return None if row is None else record_of(row, _files(database, run))


def _files(database: sqlite3.Connection, run: str) -> list[FileRecord]:
    return [file_of(row) for row in database.execute(FILES, (run,))]


def _cursor(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise NodegraphError(f"cursor {text[:40]!r} is none of ours; take `next` of the page before")
    return int(text)
