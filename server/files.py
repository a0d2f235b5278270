"""Files that clients bring and ask for: names that stay in their folder, whole files or none, no two under one name."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import secrets
import shutil
import threading
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from nodegraph.errors import FileProblem, StorageError
from nodegraph.files import Folders

Clash = Literal["number", "replace", "refuse"]
"""What happens when a name is taken: `name (1).ext`, or the old file goes, or `Taken` is raised."""

Do = Callable[..., Awaitable[Any]]
TYPES = ("input", "output", "temp")
NAME_BYTES, NEW_NAME_BYTES, PATH_BYTES = 255, 240, 1024  # a new name leaves room for ` (12)`
WRITE_BYTES = 256 << 10
DRAFT = re.compile(r"\.[0-9a-f]{12}\.part")
DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])", re.IGNORECASE)
TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # make a name read as another one


class BadName(FileProblem):
    """A name that no file here can have."""


class Outside(BadName):
    """A name or a link that leads out of its folder."""


class Missing(FileProblem):
    """There is no such file."""


class Taken(FileProblem):
    """The name belongs to another file."""


class TooLarge(FileProblem):
    """More bytes or pixels than are taken."""


class Place(NamedTuple):
    """Where a file shall be: `input`, `output` or `temp`, the folders below it, and its name."""

    type: str
    folders: tuple[str, ...]
    name: str

    @property
    def subfolder(self) -> str:
        """The folders with `/` between them."""
        return "/".join(self.folders)


class Stored(NamedTuple):
    """A file that was stored; `is_new` is False where one of the same name and content was there."""

    name: str
    subfolder: str
    type: str
    path: Path
    nbytes: int
    digest: str
    is_new: bool


def split_name(name: str, *, may_hide: bool = False) -> tuple[str, ...]:
    """The parts of a name relative to some folder, checked. Slashes of both kinds part folders.

    Args:
        name: what a client wrote; empty gives no parts.
        may_hide: also takes parts that begin with a dot.

    Raises:
        BadName: it is absolute, climbs, hides, is too long, or has characters that do not belong in names.
    """
    text = name.replace("\\", "/")
    if text.startswith("/") or re.match(r"[A-Za-z]:", text):
        raise BadName(f"{_short(name)} is an absolute path; write it relative to its folder")
    parts = tuple(part for part in text.split("/") if part not in ("", "."))
    for part in parts:
        if problem := _fault(part, may_hide):
            raise BadName(f"{_short(name)} {problem}; choose another name")
    if sum(len(part.encode()) + 1 for part in parts) > PATH_BYTES:
        raise BadName(f"{_short(name)} is longer than {PATH_BYTES} bytes; choose a shorter name")
    return parts


def _fault(part: str, may_hide: bool) -> str | None:
    """What is wrong with one part of a name."""
    if part == "..":
        return "leads out of its folder"
    if any(unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") or sign in TURNING for sign in part):
        return "has control characters or broken Unicode"
    if len(part.encode()) > NAME_BYTES:
        return f"has a part of over {NAME_BYTES} bytes"
    if DRAFT.fullmatch(part) or (part.startswith(".") and not may_hide):
        return "is hidden: it begins with a dot"
    if part[-1] in ". ":
        return "ends in a dot or a space"
    if DEVICES.fullmatch(part.split(".", maxsplit=1)[0].rstrip()):
        return "is the name of a device on Windows"
    if os.name == "nt" and re.search(r'[<>:"|?*]', part):
        return "has characters that Windows keeps for itself"
    return None


def _short(name: str) -> str:
    shown = ascii(name) if any(unicodedata.category(sign)[0] == "C" for sign in name) else repr(name)
    return shown if len(shown) <= 100 else f"{shown[:100]}..."


def place_of(name: str, type: str = "input", subfolder: str = "") -> Place:
    """The place of a new file, in Unicode NFC.

    Raises:
        BadName: the name, the subfolder or the type cannot be.
    """
    if type not in TYPES:
        raise BadName(f"type: {_short(type)} is unknown; one of {', '.join(TYPES)}")
    folders = split_name(unicodedata.normalize("NFC", subfolder))
    parts = split_name(unicodedata.normalize("NFC", name))
    if not parts:
        raise BadName(f"{_short(name)} names no file; give the file a name")
    if len(parts[-1].encode()) > NEW_NAME_BYTES:
        raise BadName(f"{_short(name)} is longer than {NEW_NAME_BYTES} bytes; choose a shorter name")
    if re.search(r" \[(input|output|temp)\]$", parts[-1]):
        raise BadName(f"{_short(name)} ends as ComfyUI names another folder's file; choose another name")
    return Place(type, (*folders, *parts[:-1]), parts[-1])


def inside(root: Path, parts: Sequence[str]) -> Path:
    """The real path of something below a folder. The folder itself may be a link.

    Raises:
        Outside: a link on the way leads out of the folder.
    """
    top, path = os.path.realpath(root), os.path.realpath(root.joinpath(*parts))
    if os.path.commonpath((top, path)) != top:
        raise Outside(f"{'/'.join(parts)!r} is a link that leads out of its folder; put the file itself there")
    return Path(path)


def existing(root: Path, name: str, *, may_hide: bool = False) -> Path:
    """The real path of a file below a folder, by its name as written or in NFC.

    Raises:
        BadName, Outside: as `split_name` and `inside`.
        Missing: there is no such file.
    """
    for text in dict.fromkeys((name, unicodedata.normalize("NFC", name))):
        parts = split_name(text, may_hide=may_hide)
        path = inside(root, parts)
        with contextlib.suppress(OSError):  # a folder on the way is closed to us
            if parts and path.is_file():
                return path
    raise Missing(f"there is no file {_short(name)}")


def find(folders: Folders, name: str, type: str = "output", subfolder: str = "") -> Path:
    """The real path of a picture or other file that a client asks for.

    Args:
        folders: where files are.
        name: may end in ` [input]`, ` [output]` or ` [temp]`, which goes before `type`.
        type: `input`, `output` or `temp`.
        subfolder: folders below it.

    Raises:
        Outside: the subfolder, or a link, leads out of its folder.
        BadName, Missing: as `existing`.
    """
    if match := re.fullmatch(r"(.*) \[(input|output|temp)\]", name, re.DOTALL):
        name, type = match.groups()
    if type not in TYPES:
        raise BadName(f"type: {_short(type)} is unknown; one of {', '.join(TYPES)}")
    if not split_name(name):
        raise BadName(f"{_short(name)} names no file; write the name of one")
    try:
        split_name(subfolder)
    except BadName as problem:
        raise Outside(f"subfolder: {problem}") from None
    return existing(folders.roots(type)[0], f"{subfolder}/{name}" if subfolder else name)


class Draft:
    """A file on its way: hidden in a folder, its size counted and its SHA-256 worked out as it is written.

    Its methods block and may be called from any thread, one after the other; whatever happens, end with `drop`.

    Args:
        folder: made when missing.
        limit: bytes that are taken at most.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.path = folder / f".{secrets.token_hex(6)}.part"
        self.limit = limit
        self.nbytes = 0
        self._sum = hashlib.sha256()
        self._file: BinaryIO | None = None
        self._is_over = False
        self._lock = threading.Lock()  # a cancelled request drops the draft while a thread still writes

    @property
    def digest(self) -> str:
        """SHA-256 of what was written."""
        return self._sum.hexdigest()

    def write(self, piece: bytes) -> int:
        """Appends some bytes -> their number.

        Raises:
            TooLarge: they are more than are taken.
            StorageError: the disk is full or cannot be written.
        """
        with self._lock, _disk():
            if self._is_over:
                return 0
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = open(self.path, "xb")
            self.nbytes += len(piece)
            if self.nbytes > self.limit:
                raise TooLarge(f"the file has over {self.limit} bytes, more than are taken; send a smaller one")
            self._sum.update(piece)
            self._file.write(piece)
            return len(piece)

    def finish(self) -> None:
        """Puts what was written on disk.

        Raises:
            StorageError: the disk is full or cannot be written.
        """
        self.write(b"")  # an empty file is one, too
        with self._lock, _disk():
            if self._file is not None:
                with self._file as file:
                    file.flush()
                    os.fsync(file.fileno())

    def take(self, folder: Path, name: str, clash: Clash) -> tuple[str, bool]:
        """Gives the finished file a name in a folder -> (its name, whether it is new there).

        Raises:
            Taken, StorageError: as `give_name`.
        """
        with _disk():
            if folder != self.path.parent:
                path = folder / self.path.name
                try:
                    self.path = Path(shutil.move(self.path, path))  # perhaps to another file system
                except OSError:
                    path.unlink(missing_ok=True)
                    raise
        return give_name(self.path, folder, name, clash, self.digest)

    def drop(self) -> None:
        """Removes what has no name by now. More than once is fine."""
        with self._lock:
            self._is_over = True
            if self._file is None:
                return
            with contextlib.suppress(OSError):  # what is still to be written may not fit
                self._file.close()
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)


async def receive(do: Do, draft: Draft, pieces: AsyncIterator[bytes]) -> None:
    """Writes all of a stream into a draft, off the event loop, and puts it on disk.

    Args:
        do: calls a function on a thread.
        draft: begun by its first bytes.
        pieces: what comes.

    Raises:
        TooLarge, StorageError: as `Draft.write`.
    """
    waiting = bytearray()
    async for piece in pieces:
        waiting += piece
        if len(waiting) >= WRITE_BYTES:
            await do(draft.write, bytes(waiting))
            waiting.clear()
    await do(draft.write, bytes(waiting))
    await do(draft.finish)


def keep(folders: Folders, draft: Draft, place: Place, clash: Clash = "number") -> Stored:
    """Gives a finished draft its place.

    Raises:
        Outside: a link on the way leads out of the folder.
        BadName: a file stands where a folder would have to be.
        Taken, StorageError: as `give_name`.
    """
    folder = make_folder(folders.roots(place.type)[0], place.folders)
    name, is_new = draft.take(folder, place.name, clash)
    return Stored(name, place.subfolder, place.type, folder / name, draft.nbytes, draft.digest, is_new)


def make_folder(root: Path, parts: Sequence[str]) -> Path:
    """The real path of a folder below another, made when missing.

    Raises:
        Outside: a link on the way leads out.
        BadName: a file is in the way.
        StorageError: it cannot be made.
    """
    folder = inside(root, parts)
    with _disk():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise BadName(f"{'/'.join(parts)!r} cannot be a folder: a file has that name; choose another") from None
    return folder


def give_name(source: Path, folder: Path, name: str, clash: Clash, digest: str = "") -> tuple[str, bool]:
    """Names a whole file; nobody ever sees a part of it -> (its name, False where the same one was there).

    Args:
        source: the file, on the same disk; it may stay there, as a second link.
        folder: where it shall be.
        name: what it shall be called.
        clash: what to do when the name is taken.
        digest: SHA-256 of the file, for `number`.

    Raises:
        Taken: the name belongs to another file, and none may go; or to a folder.
        StorageError: the disk is full or cannot be written.
    """
    stem, extension = os.path.splitext(name)
    with _disk():
        if clash == "replace":
            if (folder / name).is_dir():
                raise Taken(f"{_short(name)} is a folder; choose another name")
            os.replace(source, folder / name)
            return name, True
        for number in itertools.count():
            free = f"{stem} ({number}){extension}" if number else name
            if _link(source, folder / free):
                return free, True
            if clash == "refuse":
                raise Taken(f"there is a file {_short(name)} already; choose another name, or overwrite it")
            if _is_same(folder / free, source.stat().st_size, digest):
                return free, False
    raise AssertionError("numbers do not end")


def _link(source: Path, target: Path) -> bool:
    """Gives a file a further name; False when that is taken, even by another process."""
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        os.replace(source, target)
    return True


def _is_same(path: Path, nbytes: int, digest: str) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != nbytes:
        return False
    state = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            state.update(piece)
    return state.hexdigest() == digest


@contextlib.contextmanager
def _disk() -> Generator[None, None, None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StorageError(f"the file cannot be written: {reason}; nothing was kept of it") from error
