"""Values from the command line: text as what an input takes, and files from anywhere as files of the input folder."""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nodegraph import describe
from nodegraph.cli.arguments import UsageError
from nodegraph.cli.terminal import Terminal
from nodegraph.errors import StorageError, did_you_mean
from nodegraph.files import Folders, content_digest
from nodegraph.spec import Input

BOOLEANS = {
    "true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False,
}  # fmt: skip


class Values:
    """Reads values of inputs; copies named files into the input folder.

    Args:
        folders: where named files are looked for and copied to.
        terminal: told of copies.
    """

    def __init__(self, folders: Folders, terminal: Terminal) -> None:
        self._folders, self._terminal = folders, terminal

    def of_text(self, where: str, text: str, item: Input | None) -> Any:
        """What a text means for an input: `json:` opens JSON, `@` names a file that holds it, else by the input's type.

        Args:
            where: the option, for errors.
            text: as written.
            item: the input; None when its node type is not known, which planning will tell.

        Raises:
            UsageError: it does not fit the input.
        """
        if text.startswith("json:"):
            try:
                return self.of_json(where, json.loads(text.removeprefix("json:")), item)
            except json.JSONDecodeError as error:
                raise UsageError(f"{where}: not JSON at column {error.colno}: {error.msg}") from None
        if text.startswith("@"):
            text = _read(where, text[1:])
        if item is None:
            return text
        return self.of_json(where, _typed(text, item), item)

    def of_json(self, where: str, value: Any, item: Input | None) -> Any:
        """A JSON value checked against an input.

        Raises:
            UsageError: it does not fit.
        """
        if item is None:
            return value
        if not describe.is_value(item):
            raise UsageError(f"{where}: it takes a link to {item.port}, not a value")
        if item.file is not None and isinstance(value, str):
            return self._file(where, value, item.file.kind)
        if isinstance(value, float) and not math.isfinite(value):
            raise _misfit(where, value, item)
        try:
            return TypeAdapter(item.literal).validate_python(value)
        except ValidationError:
            raise _misfit(where, value, item) from None

    def _file(self, where: str, name: str, kind: str) -> str:
        """The name of a file in its folder; a picture from elsewhere is copied into the input folder first."""
        path = Path(name).expanduser()
        if not name or not path.exists():
            return name
        for root in self._folders.roots(kind):
            with contextlib.suppress(ValueError):
                return path.resolve().relative_to(root.resolve()).as_posix()
        if kind != "input":
            if not path.is_absolute() and name in self._folders.names(kind):
                return name
            roots = self._folders.roots(kind)
            raise UsageError(
                f"{where}: {name!r} is not among the {kind}; put it in {roots[0]}, or name its root with --models"
            )
        if not path.is_file():
            raise UsageError(f"{where}: {name!r} is a folder; expected a file")
        return self._copied(path)

    def _copied(self, path: Path) -> str:
        folder = self._folders.home / "input"
        try:
            digest = content_digest(path)
            folder.mkdir(parents=True, exist_ok=True)
            for name in (path.name, f"{path.stem}-{digest[:8]}{path.suffix}", f"{path.stem}-{digest}{path.suffix}"):
                if _put(path, folder / name) or content_digest(folder / name) == digest:
                    self._terminal.say(f"{path} is used as {name} of the input folder", level=1)
                    return name
        except OSError as error:
            raise StorageError(f"{path} cannot be copied to {folder}: {error.strerror or error}") from error
        raise StorageError(f"{path} cannot be copied to {folder}: its names are taken")


def _put(source: Path, target: Path) -> bool:
    """Copies a file under a name; False when the name is taken. The file appears when it is whole."""
    if target.exists():
        return False
    draft = target.with_name(f".{secrets.token_hex(6)}.part")
    try:
        shutil.copyfile(source, draft)
        try:
            os.link(draft, target)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            os.rename(draft, target)
        return True
    finally:
        draft.unlink(missing_ok=True)


def _read(where: str, name: str) -> str:
    """The text of a file without the line end that editors add."""
    try:
        return Path(name).expanduser().read_text("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise UsageError(f"{where}: {name!r} is not UTF-8 text") from None
    except OSError as error:
        fix = f"to mean the text itself, write json:{json.dumps('@' + name)}"
        raise UsageError(f"{where}: {name!r} cannot be read: {error.strerror}; {fix}") from None


def _typed(text: str, item: Input) -> Any:
    """A text as the JSON value it stands for; what does not parse stays as it is, for the check that follows."""
    word = text.strip()
    if item.port == "BOOLEAN":
        return BOOLEANS.get(word.lower(), text)
    if item.port == "*":
        try:
            return json.loads(text)
        except ValueError:
            return text
    if item.port in ("INT", "FLOAT"):
        try:
            return int(word)
        except ValueError:
            pass
        with contextlib.suppress(ValueError):
            return float(word)
    return text


def _misfit(where: str, value: Any, item: Input) -> UsageError:
    fix = did_you_mean(str(value), item.choices) if item.choices else None
    return UsageError(
        f"{where}: {value!r} does not fit; expected {describe.expected(item)}" + (f"; {fix}" if fix else "")
    )
