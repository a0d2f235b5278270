"""The database: what is told as written is on disk, a failing job takes only its own part back, steps are whole."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest

from nodegraph.errors import StorageError
from server import store as module
from server.migrations import MIGRATIONS
from server.store import Store, connect, migrate


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "home" / "a.sqlite")
    yield made
    made.close()


def put(name, value="x"):
    return lambda database: database.execute("insert into facts values(?, ?)", (name, value)).rowcount


def names(database):
    return [row["name"] for row in database.execute("select name from facts order by name")]


def hold(store):
    """Occupies the writing thread -> what lets it go on. Jobs that come meanwhile share a transaction."""
    entered, go = threading.Event(), threading.Event()

    def work(_):
        entered.set()
        assert go.wait(20)

    return asyncio.ensure_future(store.write(work)), entered, go


async def together(store, *works):
    """Does jobs in one transaction -> what each gave, or its error."""
    first, entered, go = hold(store)
    await asyncio.to_thread(entered.wait, 20)
    jobs = [asyncio.ensure_future(store.write(work)) for work in works]
    await asyncio.sleep(0)
    go.set()
    await first
    return await asyncio.gather(*jobs, return_exceptions=True)


def test_what_was_written_is_read_by_this_and_by_other_connections(store):
    assert asyncio.run(store.write(put("a"))) == 1
    assert asyncio.run(store.read(names)) == ["a"]
    other = sqlite3.connect(store.path)
    assert other.execute("select value from facts where name = 'a'").fetchone() == ("x",)
    assert other.execute("pragma journal_mode").fetchone() == ("wal",)
    other.close()


def test_jobs_that_wait_share_one_transaction(store):
    statements = []
    asyncio.run(store.write(lambda database: database.set_trace_callback(statements.append)))
    found = asyncio.run(together(store, *(put(str(number)) for number in range(20))))
    assert found == [1] * 20
    assert statements.count("begin immediate") == 2  # the first is that of the job that held the thread
    assert asyncio.run(store.read(names)) == sorted(map(str, range(20)))


def test_a_job_that_fails_takes_back_its_own_part_alone(store):
    def half(database):
        put("half")(database)
        raise ValueError("mine")

    def twice(database):
        put("b")(database)
        put("a")(database)

    found = asyncio.run(together(store, put("a"), half, twice, put("c")))
    assert found[0] == found[3] == 1
    assert isinstance(found[1], ValueError)
    assert isinstance(found[2], sqlite3.IntegrityError)
    assert asyncio.run(store.read(names)) == ["a", "c"]


def test_the_caller_of_a_job_may_be_gone(store):
    async def main():
        first, entered, go = hold(store)
        await asyncio.to_thread(entered.wait, 20)
        job = asyncio.ensure_future(store.write(put("a")))
        await asyncio.sleep(0)
        job.cancel()
        go.set()
        await first
        await asyncio.gather(job, return_exceptions=True)
        return await store.write(names)

    assert asyncio.run(main()) == ["a"]
    assert asyncio.run(store.read(names)) == ["a"]


def test_more_jobs_than_fit_in_a_batch_are_all_done(store, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 4)
    assert asyncio.run(together(store, *(put(str(number)) for number in range(11)))) == [1] * 11
    assert len(asyncio.run(store.read(names))) == 11


def test_closing_does_what_waits(tmp_path):
    async def main():
        store = Store(tmp_path / "a.sqlite")
        first, entered, go = hold(store)
        await asyncio.to_thread(entered.wait, 20)
        job = asyncio.ensure_future(store.write(put("a")))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(asyncio.to_thread(store.close))
        go.set()
        return await asyncio.gather(first, job, closing)

    assert asyncio.run(main())[1] == 1
    database = sqlite3.connect(tmp_path / "a.sqlite")
    assert database.execute("select name from facts").fetchall() == [("a",)]
    database.close()


def test_a_full_disk_is_told_and_the_store_goes_on(store):
    def fill(database):
        database.execute("pragma max_page_count = 60")

    def large(database):
        database.execute("insert into facts values('large', ?)", ("x" * 1_000_000,))

    asyncio.run(store.write(fill))
    found = asyncio.run(together(store, put("small"), large))
    assert isinstance(found[1], StorageError)
    assert "cannot be written" in str(found[1]) and "free some space" in str(found[1])
    if found[0] == 1:  # then it is on disk, else its caller was told
        assert asyncio.run(store.read(names)) == ["small"]
    else:
        assert isinstance(found[0], StorageError) and asyncio.run(store.read(names)) == []
    asyncio.run(store.write(lambda database: database.execute("pragma max_page_count = 100000")))
    asyncio.run(store.write(large))
    assert "large" in asyncio.run(store.read(names))


def test_a_commit_that_fails_is_told_to_every_job_of_it(store):
    def orphan(database):
        database.execute("pragma defer_foreign_keys = on")  # found out at the commit, as a full disk may be
        database.execute("insert into files values('none', '1', 'output', '', 'a', 'png', 1, 0)")

    found = asyncio.run(together(store, put("a"), orphan))
    assert all(isinstance(one, StorageError) for one in found)
    assert asyncio.run(store.read(names)) == []
    assert asyncio.run(store.write(put("b"))) == 1


def test_a_file_that_is_no_database_is_told(tmp_path):
    path, content = tmp_path / "a.sqlite", b"no database at all, but as long as one" * 9
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"a\.sqlite cannot be opened: file is not a database; restore a backup"):
        Store(path)
    assert path.read_bytes() == content


def test_a_folder_in_its_place_is_told(tmp_path):
    (tmp_path / "a.sqlite").mkdir()
    with pytest.raises(StorageError, match="cannot be opened"):
        Store(tmp_path / "a.sqlite")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot be opened"):
        Store(tmp_path / "file" / "a.sqlite")


def test_a_database_of_a_newer_version_is_left_alone(tmp_path):
    path = tmp_path / "a.sqlite"
    Store(path).close()
    database = sqlite3.connect(path)
    database.execute("pragma user_version = 99")
    database.close()
    with pytest.raises(StorageError, match=r"it has schema 99, this version of nodegraph knows .*; update nodegraph"):
        Store(path)
    database = sqlite3.connect(path)
    assert database.execute("pragma user_version").fetchone() == (99,)
    database.close()


def test_opening_again_changes_nothing(tmp_path):
    path = tmp_path / "a.sqlite"
    for name in ("a", "b"):
        store = Store(path)
        asyncio.run(store.write(put(name)))
        store.close()
    database = connect(path)
    assert names(database) == ["a", "b"]
    assert database.execute("pragma user_version").fetchone()[0] == len(MIGRATIONS)
    database.close()


@pytest.mark.parametrize("wrong", ["create table x(a); select nothing from nowhere", "create table x(a); create tabel"])
def test_the_way_to_a_newer_schema_is_gone_whole_or_not_at_all(tmp_path, monkeypatch, wrong):
    path = tmp_path / "a.sqlite"
    Store(path).close()
    monkeypatch.setattr(module, "MIGRATIONS", (*MIGRATIONS, "create table before(a)", wrong))
    with pytest.raises(StorageError, match="cannot be opened"):
        Store(path)
    database = sqlite3.connect(path)
    assert database.execute("pragma user_version").fetchone() == (len(MIGRATIONS),)
    assert not {"before", "x"} & {row[0] for row in database.execute("select name from sqlite_master")}
    database.close()
    monkeypatch.setattr(module, "MIGRATIONS", (*MIGRATIONS, "create table before(a)", "create table x(a)"))
    Store(path).close()


def test_two_that_bring_a_database_up_to_date_at_once_do_it_once(tmp_path):
    path = tmp_path / "a.sqlite"
    errors, begin = [], threading.Barrier(4)

    def work():
        database = connect(path)
        begin.wait(20)
        try:
            migrate(database)
        except sqlite3.Error as error:
            errors.append(error)
        database.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []


WRITER = """
import asyncio, sys
from pathlib import Path
from server.store import Store

async def main():
    store = Store(Path(sys.argv[1]))
    for number in range(1000):
        await store.write(lambda database: database.execute("insert into facts values(?, '')", (f"{number:04}",)))
        print(number, flush=True)

asyncio.run(main())
"""


def test_what_was_told_as_written_survives_a_kill(tmp_path):
    path = tmp_path / "a.sqlite"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if int(line) == 40:
                os.kill(process.pid, signal.SIGKILL)
                break
        told = [40, *map(int, process.stdout.read().split())]
    store = Store(path)
    found = asyncio.run(store.read(names))
    store.close()
    assert found[: told[-1] + 1] == [f"{number:04}" for number in range(told[-1] + 1)]
    assert len(found) <= told[-1] + 2
