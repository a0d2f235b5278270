"""`nodegraph token`: who may use a server that wants a token."""

from __future__ import annotations

import json
import sqlite3
import time
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from nodegraph.cli.arguments import Parser, UsageError, size
from nodegraph.cli.codes import OK
from nodegraph.cli.outlook import size_in_words
from nodegraph.cli.terminal import Terminal
from nodegraph.errors import StorageError, did_you_mean
from nodegraph.files import default_home

T = TypeVar("T")


def token(words: list[str], terminal: Terminal) -> int:
    """Makes, lists or revokes tokens of the server with this home, also while it runs -> exit code."""
    parser = Parser(
        "token", "add NAME: make one, and show its secret once; list: all of them; revoke NAME: take one away.\n"
        "A server that is running notices within a second.", "(add NAME | list | revoke NAME) [options]",
    )  # fmt: skip
    parser.general.add_argument("action", nargs="?", help="add, list or revoke")
    parser.general.add_argument("name", nargs="?", help="1 to 64 letters, digits and . _ @ -")
    parser.general.add_argument("--json", action="store_true", help="as JSON")
    parser.general.add_argument("--home", type=Path, metavar="DIR",
                                help="data folder (default: $NODEGRAPH_HOME, else the platform's)")  # fmt: skip
    group = parser.add_argument_group("what a new token may do")
    group.add_argument("--scope", choices=("run", "edit", "admin"), default="run",
                       help="run: run workflows and see results; edit: also save workflows and settings; "
                       "admin: also tokens, pausing, the log (default run)")  # fmt: skip
    group.add_argument("--rate", type=_rate, metavar="N", help="requests a second (default: the server's)")
    group.add_argument(
        "--max-upload", type=size, metavar="SIZE", help="of one request, e.g. 20MB (default: the server's)"
    )
    args = parser.parse(words)
    if args.help:
        terminal.out(parser.format_help().rstrip())
        return OK
    actions = {"add": _add, "list": _list, "revoke": _revoke}
    action = actions.get(args.action or "list")
    if action is None:
        near = did_you_mean(args.action, actions)
        raise UsageError(f"token {args.action}: expected add, list or revoke" + (f"; {near}" if near else ""))
    if args.action in ("add", "revoke") and args.name is None:
        raise UsageError(f"token {args.action}: which name? write nodegraph token {args.action} NAME")
    if args.action not in ("add", "revoke") and args.name is not None:
        raise UsageError(f"{args.name!r} is one argument too many; nodegraph token list takes no name")
    from server.store import DATABASE

    return action(args, (args.home or default_home()) / DATABASE, terminal)


def _add(args: Namespace, path: Path, terminal: Terminal) -> int:
    from server.auth import add_token

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # as the server makes it
    secret = _at(path, lambda database: add_token(database, args.name, (args.scope,), args.rate, args.max_upload))
    terminal.out(json.dumps({"name": args.name, "scope": args.scope, "token": secret}) if args.json else secret)
    terminal.say(f"token {args.name!r} may {args.scope}; keep its secret now, nothing can show it again")
    return OK


def _list(args: Namespace, path: Path, terminal: Terminal) -> int:
    from server.auth import all_tokens

    found = _at(path, all_tokens) if path.exists() else []
    rows: list[dict[str, Any]] = [
        {"name": one.name, "scopes": list(one.scopes), "rate": one.rate, "max_upload": one.max_upload,
         "created": one.created, "used": one.used}
        for one in found
    ]  # fmt: skip
    if args.json:
        terminal.out(json.dumps(rows))
        return OK
    width = max((len(one.name) for one in found), default=0)
    for one in found:
        limits = [f"{one.rate:g} requests a second" if one.rate is not None else "",
                  f"requests up to {size_in_words(one.max_upload)}" if one.max_upload is not None else ""]  # fmt: skip
        used = f"last used {_day(one.used)}" if one.used is not None else "never used"
        terminal.out(
            f"{one.name:{width}}  "
            + "; ".join(filter(None, [" ".join(one.scopes), *limits, f"made {_day(one.created)}", used]))
        )
    if not found:
        terminal.say("no tokens; nodegraph token add NAME makes one")
    return OK


def _revoke(args: Namespace, path: Path, terminal: Terminal) -> int:
    from server.auth import all_tokens, remove_token

    is_known = path.exists()
    if not is_known or not _at(path, lambda database: remove_token(database, args.name)):
        near = did_you_mean(args.name, [one.name for one in _at(path, all_tokens)]) if is_known else None
        raise UsageError(f"no token {args.name!r}; {near or 'see nodegraph token list'}")
    terminal.out(json.dumps({"name": args.name, "revoked": True}) if args.json else f"token {args.name!r} is revoked")
    return OK


def _at(path: Path, work: Callable[[sqlite3.Connection], T]) -> T:
    """Does something with the server's database, which the server may be using meanwhile.

    Raises:
        StorageError: the database cannot be opened or written.
    """
    from server.store import connect, migrate

    try:
        database = connect(path)
        try:
            migrate(database)
            return work(database)
        finally:
            database.close()
    except sqlite3.Error as error:
        raise StorageError(
            f"the database {path} cannot be used: {error}; see that it is the server's and writable"
        ) from error


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _rate(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise ArgumentTypeError(f"{text!r} is no rate; expected requests a second, above 0")
    return found
