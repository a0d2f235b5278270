import asyncio
import sqlite3

import pytest

from nodegraph.errors import StorageError
from server.auth import (
    EVERYBODY,
    NOBODY,
    Caller,
    TokenProblem,
    Tokens,
    add_token,
    first_token,
    needs_token,
    remove_token,
)
from server.settings import ServerSettings
from server.store import Store, connect


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "server.sqlite")
    yield made
    made.close()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def tokens(store, clock):
    return Tokens(store, clock)


@pytest.fixture
def other(store, tmp_path):
    """A connection of another process, such as the command line's."""
    made = connect(tmp_path / "server.sqlite")
    yield made
    made.close()


@pytest.mark.parametrize(
    ("held", "may"), [("run", {"run"}), ("edit", {"run", "edit"}), ("admin", {"run", "edit", "admin"})]
)
def test_a_scope_contains_the_ones_before_it(held, may):
    caller = Caller("x", frozenset([held]))
    assert {scope for scope in ("run", "edit", "admin") if caller.may(scope)} == may


def test_everybody_may_everything_and_nobody_nothing():
    assert EVERYBODY.may("admin")
    assert not NOBODY.may("run")


def test_a_secret_finds_its_caller_with_the_limits(tokens):
    async def work():
        secret = await tokens.create("ci", ["run", "edit"], rate=2.5, max_upload=1000)
        assert secret.startswith("ng_")
        assert len(secret) == 46
        return await tokens.find(secret)

    assert asyncio.run(work()) == Caller("ci", frozenset({"run", "edit"}), 2.5, 1000)


def test_two_secrets_are_told_apart(tokens):
    async def work():
        secrets = {name: await tokens.create(name, ["run"]) for name in ("a", "b", "c")}
        return [(await tokens.find(secret)).name for secret in secrets.values()]

    assert asyncio.run(work()) == ["a", "b", "c"]


@pytest.mark.parametrize("secret", ["", "ng_", "x" * 46, "ng_é\ud800", "a" * 64])
def test_a_wrong_secret_finds_nobody(tokens, secret):
    async def work():
        await tokens.create("ci", ["run"])
        return await tokens.find(secret)

    assert asyncio.run(work()) is None


def test_the_hash_in_the_database_is_no_secret_that_works(tokens, store):
    async def work():
        secret = await tokens.create("ci", ["run"])
        kept = (await tokens.list())[0].hash
        return secret, kept, await tokens.find(kept)

    secret, kept, found = asyncio.run(work())
    assert found is None
    assert secret not in kept
    held = [store.path.read_bytes(), store.path.with_name("server.sqlite-wal").read_bytes()]
    assert not any(secret.encode() in content for content in held)
    assert any(kept.encode() in content for content in held)


def test_list_is_by_name_and_revoke_takes_away_at_once(tokens):
    async def work():
        await tokens.create("b", ["run"])
        secret = await tokens.create("a", ["edit"])
        assert [(token.name, token.scopes) for token in await tokens.list()] == [("a", ("edit",)), ("b", ("run",))]
        assert await tokens.find(secret) is not None
        assert await tokens.revoke("a") is True
        assert await tokens.revoke("a") is False
        return await tokens.find(secret), [token.name for token in await tokens.list()]

    assert asyncio.run(work()) == (None, ["b"])


def test_changes_of_another_process_are_seen_after_a_second(tokens, other, clock):
    async def work():
        first = await tokens.create("first", ["run"])
        assert await tokens.find(first)
        second = add_token(other, "second", ("admin",), None, None)
        remove_token(other, "first")
        clock.now += 1.0
        return await tokens.find(first), await tokens.find(second)

    gone, found = asyncio.run(work())
    assert gone is None
    assert found == Caller("second", frozenset({"admin"}))


def test_the_copy_in_memory_is_read_once_a_second(tokens, store, clock, monkeypatch):
    async def work():
        secret = await tokens.create("ci", ["run"])
        reads = []
        read = store.read
        monkeypatch.setattr(store, "read", lambda job: reads.append(job) or read(job))
        await asyncio.gather(*(tokens.find(secret) for _ in range(20)))
        clock.now += 0.9
        await tokens.find(secret)
        assert len(reads) == 1
        clock.now += 0.1
        await tokens.find(secret)
        return len(reads)

    assert asyncio.run(work()) == 2


def test_the_last_use_is_noted_once_a_minute(tokens, other, clock):
    def used():
        return other.execute("select used from tokens where name='ci'").fetchone()[0]

    async def work():
        secret = await tokens.create("ci", ["run"])
        assert used() is None
        await tokens.find(secret)
        assert used() is not None
        other.execute("update tokens set used=1.0")
        clock.now += 59
        await tokens.find(secret)
        assert used() == 1.0
        clock.now += 1
        await tokens.find(secret)
        return used()

    assert asyncio.run(work()) > 1.0


def test_a_disk_that_is_full_locks_nobody_out(tokens, store, monkeypatch):
    async def work():
        secret = await tokens.create("ci", ["run"])

        async def full(_):
            raise StorageError("the disk is full")

        monkeypatch.setattr(store, "write", full)
        return await tokens.find(secret)

    assert asyncio.run(work()).name == "ci"


@pytest.mark.parametrize("name", ["", " ", "a b", "-a", ".a", "a" * 65, "a\n", "ä", "a/b", "<b>"])
def test_a_malformed_name_is_refused_in_words(tokens, name):
    with pytest.raises(TokenProblem, match="expected 1 to 64 letters, digits"):
        asyncio.run(tokens.create(name, ["run"]))


@pytest.mark.parametrize("name", ["a", "7", "ci-2.x_y@host", "a" * 64])
def test_a_good_name_is_taken(tokens, name):
    assert asyncio.run(tokens.create(name, ["run"])).startswith("ng_")


def test_a_name_is_taken_once(tokens):
    asyncio.run(tokens.create("ci", ["run"]))
    with pytest.raises(TokenProblem, match="'ci': there is one of that name"):
        asyncio.run(tokens.create("ci", ["admin"]))
    assert [token.scopes for token in asyncio.run(tokens.list())] == [("run",)]


@pytest.mark.parametrize(
    ("scopes", "rate", "max_upload", "words"),
    [
        (["edti"], None, None, "scope 'edti' is unknown; did you mean 'edit'?"),
        ([], None, None, "it has no scope; expected run, edit or admin"),
        (["run"], 0.0, None, "rate 0.0 is out of range"),
        (["run"], float("nan"), None, "rate nan is out of range"),
        (["run"], None, 0, "max_upload 0 is out of range"),
    ],
)
def test_scopes_and_limits_are_checked(tokens, scopes, rate, max_upload, words):
    with pytest.raises(TokenProblem) as raised:
        asyncio.run(tokens.create("ci", scopes, rate, max_upload))
    assert words in str(raised.value)
    assert asyncio.run(tokens.list()) == []


def test_a_scope_that_a_newer_version_wrote_gives_nothing(tokens, other):
    async def work():
        secret = await tokens.create("ci", ["run"])
        other.execute("update tokens set scopes='run root'")
        return await tokens.find(secret)

    assert asyncio.run(work()).scopes == frozenset({"run"})


def test_the_first_token_is_made_once_and_is_admins(tokens):
    async def work():
        secret = await first_token(tokens)
        return await tokens.find(secret), await first_token(tokens)

    assert asyncio.run(work()) == (Caller("admin", frozenset({"admin"})), None)


def test_no_first_token_beside_another(tokens):
    async def work():
        await tokens.create("ci", ["run"])
        return await first_token(tokens)

    assert asyncio.run(work()) is None


@pytest.mark.parametrize(
    ("settings", "is_needed"),
    [
        ({}, False),
        ({"host": "localhost"}, False),
        ({"host": "127.0.0.7"}, False),
        ({"host": "::1"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "::"}, True),
        ({"host": ""}, True),
        ({"host": "192.168.1.4"}, True),
        ({"host": "box.local"}, True),
        ({"wants_token": True}, True),
        ({"is_proxied": True}, True),
        ({"allowed_hosts": ("paint.example",)}, True),
        ({"allowed_origins": ("https://paint.example",)}, False),
    ],
)
def test_whoever_can_be_reached_from_elsewhere_needs_tokens(settings, is_needed):
    assert needs_token(ServerSettings(**settings)) is is_needed


def test_a_secret_is_kept_of_no_two_tokens(other):
    first = add_token(other, "a", ("run",), None, None)
    assert first != add_token(other, "b", ("run",), None, None)
    with pytest.raises(sqlite3.IntegrityError):
        other.execute("update tokens set hash=(select hash from tokens where name='a') where name='b'")
