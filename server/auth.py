"""Tokens: who may do what. A token's secret is shown once; what is kept is its hash."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import ipaddress
import math
import re
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from nodegraph.errors import NodegraphError, StorageError, did_you_mean
from server.settings import ServerSettings
from server.store import Store

SCOPES = ("run", "edit", "admin")
"""What a caller may do; each contains the ones before it."""

FRESH_SECONDS = 1.0  # how long a copy of the tokens is believed: the command line may have changed them
USED_SECONDS = 60.0  # how often the last use of a token is written down


class TokenProblem(NodegraphError):
    """A token that cannot be made, in one sentence."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request.

    Attributes:
        name: of the token; "" without one.
        scopes: what it was given.
        rate: requests a second, where the token has a rate of its own.
        max_upload: bytes of one request, where the token has a limit of its own.
    """

    name: str
    scopes: frozenset[str]
    rate: float | None = None
    max_upload: int | None = None

    def may(self, scope: str) -> bool:
        """True when one of its scopes is this one or contains it."""
        return any(SCOPES.index(held) >= SCOPES.index(scope) for held in self.scopes)


EVERYBODY = Caller("", frozenset(SCOPES))
NOBODY = Caller("", frozenset())


class Token(NamedTuple):
    """A token as it is kept: `hash` is hexadecimal SHA-256 of the secret, times are unix seconds."""

    name: str
    hash: str
    scopes: tuple[str, ...]
    rate: float | None
    max_upload: int | None
    created: float
    used: float | None


class Tokens:
    """The tokens of a server. Changes by another process are seen within a second.

    Args:
        store: the database.
        clock: seconds that only grow.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._clock = store, clock
        self._known: list[Token] = []
        self._read_at = -math.inf
        self._noted: dict[str, float] = {}
        self._lock = asyncio.Lock()

    async def create(
        self, name: str, scopes: Iterable[str], rate: float | None = None, max_upload: int | None = None
    ) -> str:
        """Makes a token -> its secret, which nothing can show again.

        Raises:
            TokenProblem: the name is taken or malformed, a scope is unknown, or a limit is not above 0.
        """
        wanted = tuple(scopes)
        secret = await self._store.write(lambda database: add_token(database, name, wanted, rate, max_upload))
        self._read_at = -math.inf
        return secret

    async def list(self) -> list[Token]:
        """All tokens, by name."""
        return await self._store.read(all_tokens)

    async def revoke(self, name: str) -> bool:
        """Takes a token away -> False when there was none of that name."""
        was_there = await self._store.write(lambda database: remove_token(database, name))
        self._read_at = -math.inf
        return was_there

    async def find(self, secret: str) -> Caller | None:
        """Whose secret this is, with the limits of the token; None when it is no token's."""
        await self._refresh()
        digest = hash_of(secret)
        found: Token | None = None
        for token in self._known:  # all of them, in a time that tells nothing about which it was
            if hmac.compare_digest(token.hash, digest):
                found = token
        if found is None:
            return None
        await self._note(found)
        return Caller(found.name, frozenset(found.scopes), found.rate, found.max_upload)

    async def _refresh(self) -> None:
        if self._clock() - self._read_at < FRESH_SECONDS:
            return
        async with self._lock:
            now = self._clock()
            if now - self._read_at >= FRESH_SECONDS:
                self._known = await self._store.read(all_tokens)
                self._read_at = now

    async def _note(self, token: Token) -> None:
        """Writes down that a token was used, now and then."""
        now = self._clock()
        if now - self._noted.get(token.hash, -math.inf) < USED_SECONDS:
            return
        self._noted[token.hash] = now
        used = time.time()
        with contextlib.suppress(StorageError):  # told in the log; a full disk locks nobody out
            await self._store.write(
                lambda database: database.execute("update tokens set used=? where hash=?", (used, token.hash))
            )


async def first_token(tokens: Tokens) -> str | None:
    """Makes the token `admin` when there is none at all -> its secret, else None."""
    return None if await tokens.list() else await tokens.create("admin", ["admin"])


def needs_token(settings: ServerSettings) -> bool:
    """True when every client must show a token: it was asked for, or others than this machine can reach the server.

    A proxy, or a further name that it is reached by, brings the network in though the server listens on this machine.
    """
    is_reached = settings.is_proxied or bool(settings.allowed_hosts)
    return settings.wants_token or is_reached or not is_loopback(settings.host)


def is_loopback(host: str) -> bool:
    """True for `localhost` and for addresses of this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def hash_of(secret: str) -> str:
    """What is kept of a secret.

    Plain SHA-256 will do: a secret has 256 random bits, so nobody can try them, however fast the hash is. Slow hashes
    are for passwords that people think of.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def add_token(
    database: sqlite3.Connection, name: str, scopes: tuple[str, ...], rate: float | None, max_upload: int | None
) -> str:
    """Makes a token in a database -> its secret.

    Raises:
        TokenProblem: as `Tokens.create`.
    """
    _check(name, scopes, rate, max_upload)
    secret = f"ng_{secrets.token_urlsafe(32)}"
    row = (name, hash_of(secret), " ".join(scopes), rate, max_upload, time.time())
    try:
        database.execute(
            "insert into tokens(name, hash, scopes, rate, max_upload, created) values(?, ?, ?, ?, ?, ?)", row
        )
    except sqlite3.IntegrityError as error:
        raise TokenProblem(
            f"token {name!r}: there is one of that name; take another name, or revoke it first"
        ) from error
    return secret


def remove_token(database: sqlite3.Connection, name: str) -> bool:
    """Takes a token out of a database -> False when there was none of that name."""
    return database.execute("delete from tokens where name=?", (name,)).rowcount > 0


def all_tokens(database: sqlite3.Connection) -> list[Token]:
    """The tokens in a database, by name."""
    return [
        Token(
            row["name"], row["hash"], tuple(scope for scope in row["scopes"].split() if scope in SCOPES),
            row["rate"], row["max_upload"], row["created"], row["used"],
        )
        for row in database.execute("select * from tokens order by name")
    ]  # fmt: skip


def _check(name: str, scopes: tuple[str, ...], rate: float | None, max_upload: int | None) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", name):
        raise TokenProblem(
            f"token {name[:80]!r}: this is no name; expected 1 to 64 letters, digits and . _ @ -, beginning with a "
            "letter or digit"
        )
    unknown = next((scope for scope in scopes if scope not in SCOPES), None)
    if unknown is not None or not scopes:
        near = did_you_mean(unknown or "", SCOPES)
        what = f"scope {unknown!r} is unknown" if unknown is not None else "it has no scope"
        raise TokenProblem(f"token {name!r}: {what}; {near or 'expected run, edit or admin'}")
    if rate is not None and not 0 < rate < math.inf:
        raise TokenProblem(f"token {name!r}: rate {rate} is out of range; expected requests a second, above 0")
    if max_upload is not None and max_upload < 1:
        raise TokenProblem(f"token {name!r}: max_upload {max_upload} is out of range; expected bytes, from 1")
