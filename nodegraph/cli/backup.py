"""`nodegraph backup` and `nodegraph restore`: what a server holds, in one file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from nodegraph.cli.arguments import Parser, UsageError
from nodegraph.cli.codes import OK
from nodegraph.cli.outlook import size_in_words
from nodegraph.cli.terminal import Terminal
from nodegraph.files import default_home


def backup(words: list[str], terminal: Terminal) -> int:
    """Writes a backup, also while the server runs -> exit code."""
    about = (
        "Writes queue, history, tokens, workflows, user data and inputs into one tar file, also while the server runs."
    )
    parser = Parser("backup", about, "FILE [options]")
    parser.general.add_argument("file", nargs="?", type=Path, help="a new .tar file, or .tar.gz to compress it")
    parser.general.add_argument("--outputs", action="store_true", help="pictures too")
    args = _parse(parser, words)
    if args.help:
        terminal.out(parser.format_help().rstrip())
        return OK
    target = _file(args, "backup")
    from server.backup import backup

    done = backup(_home(args), target, with_outputs=args.outputs)
    found = {"path": str(target.absolute()), "files": done.files, "bytes": done.nbytes}
    text = f"{target}: {done.files} files, {size_in_words(done.nbytes)}"
    terminal.out(json.dumps(found, ensure_ascii=False) if args.json else text)
    return OK


def restore(words: list[str], terminal: Terminal) -> int:
    """Puts a backup in place -> exit code."""
    about = "Puts a backup in place, while no server runs. What it replaces is kept in the data folder."
    parser = Parser("restore", about, "FILE [options]")
    parser.general.add_argument("file", nargs="?", type=Path, help="a file that nodegraph backup wrote")
    parser.general.add_argument("--force", action="store_true", help="replace what the data folder holds")
    args = _parse(parser, words)
    if args.help:
        terminal.out(parser.format_help().rstrip())
        return OK
    source, home = _file(args, "restore"), _home(args)
    from server.restore import restore

    done = restore(source, home, is_forced=args.force)
    replaced = None if done.replaced is None else str(done.replaced)
    found = {"home": str(home), "files": done.files, "bytes": done.nbytes, "replaced": replaced}
    text = f"{home}: restored {done.files} files, {size_in_words(done.nbytes)}"
    if replaced is not None:
        text += f"\nwhat was there is in {replaced}; delete that when all is well"
    terminal.out(json.dumps(found, ensure_ascii=False) if args.json else text)
    return OK


def _parse(parser: Parser, words: list[str]) -> argparse.Namespace:
    parser.general.add_argument("--json", action="store_true", help="the result as JSON")
    parser.general.add_argument(
        "--home", type=Path, metavar="DIR", help="data folder (default: $NODEGRAPH_HOME, else the platform's)"
    )
    return parser.parse(words)


def _file(args: argparse.Namespace, verb: str) -> Path:
    if args.file is None:
        raise UsageError(f"{verb}: which file? nodegraph {verb} FILE")
    found: Path = args.file
    return found.expanduser()


def _home(args: argparse.Namespace) -> Path:
    home: Path = args.home or default_home()
    return home.expanduser().absolute()
