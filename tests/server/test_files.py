"""Names stay in their folder, files are whole or not there, and no two share a name."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import unicodedata
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodegraph.errors import FileProblem, StorageError
from nodegraph.files import Folders
from server import files
from server.files import (
    BadName,
    Draft,
    Missing,
    Outside,
    Taken,
    TooLarge,
    existing,
    find,
    give_name,
    inside,
    keep,
    place_of,
    receive,
    split_name,
)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders.of(tmp_path / "home")


def drafted(folders: Folders, content: bytes) -> Draft:
    draft = Draft(folders.roots("input")[0], 1 << 20)
    draft.write(content)
    draft.finish()
    return draft


def store(folders: Folders, name: str, content: bytes, clash: files.Clash = "number", **place: str) -> files.Stored:
    draft = drafted(folders, content)
    try:
        return keep(folders, draft, place_of(name, **place), clash)
    finally:
        draft.drop()


def listed(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


NAMES = st.text(st.sampled_from("./\\ab:~$%\0\n \u202e\u0301éＡ．／\ud800") | st.characters(), max_size=40)


@given(NAMES, NAMES)
def test_no_name_leads_out_of_its_folder(name: str, subfolder: str) -> None:
    root = Path("/nowhere/input")
    try:
        place = place_of(name, "input", subfolder)
    except FileProblem as problem:
        assert str(problem).isprintable()
        return
    path = Path(os.path.normpath(root.joinpath(*place.folders, place.name)))
    assert path.is_relative_to(root) and path != root
    assert not any(part.startswith(".") for part in path.relative_to(root).parts)
    assert not any(unicodedata.category(sign) in ("Cc", "Cs") for sign in str(path))


@given(NAMES, NAMES, st.sampled_from(["input", "output", "temp", "etc", ""]))
def test_nothing_outside_is_found(
    tmp_path_factory: pytest.TempPathFactory, name: str, subfolder: str, kind: str
) -> None:
    home = tmp_path_factory.getbasetemp() / "found"
    for place in (home / "secret.png", home / "input" / "a" / "b.png", home / "output" / "a.png"):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"x")
    folders = Folders.of(home)
    try:
        path = find(folders, name, kind, subfolder)
    except FileProblem:
        return
    assert any(path.is_relative_to(os.path.realpath(home / part)) for part in ("input", "output", "temp"))


@pytest.mark.parametrize(
    "name",
    ["../a.png", "a/../../b.png", "..\\a.png", "/etc/passwd", "\\\\host\\a", "C:\\a.png", "C:a.png", "a\0.png",
     "a\n.png", ".hidden", "a/.git/b.png", "CON", "con.png", "lpt1.tar.png", "COM¹.png", "a.png.", "a.png ",
     "\u202egnp.a", "x" * 256, "é" * 128, "\ud800.png", "/".join(["abcdefghij"] * 100),
     "a\u2028b.png", ".0123456789ab.part"],
)  # fmt: skip
def test_names_that_cannot_be_are_refused_in_words(name: str) -> None:
    with pytest.raises(BadName) as problem:
        split_name(name)
    assert "\n" not in str(problem.value) and len(str(problem.value)) < 300
    str(problem.value).encode()


@pytest.mark.parametrize("name", ["a..b.png", "ü–猫 (1).png", "console.png", "a b.png", "👩‍🎨.png", "x" * 240])
def test_ordinary_strange_names_are_taken(name: str) -> None:
    assert split_name(name) == (name,)
    assert place_of(name).name == name


def test_a_new_name_is_in_nfc_and_its_folders_are_split_off() -> None:
    place = place_of("u\u0308/e\u0301.png", "temp", "a//./b")
    assert place == ("temp", ("a", "b", "ü"), "é.png") and place.subfolder == "a/b/ü"


@pytest.mark.parametrize("name", ["", "/".join("..") + "/", ".", "a.png [output]", "x" * 241])
def test_new_names_have_further_rules(name: str) -> None:
    with pytest.raises(BadName):
        place_of(name)


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(BadName, match="one of input, output, temp"):
        place_of("a.png", "models")


def test_a_hidden_name_may_be_taken_where_that_is_said_but_never_a_draft() -> None:
    assert split_name("workflows/.index.json", may_hide=True) == ("workflows", ".index.json")
    with pytest.raises(BadName):
        split_name(".0123456789ab.part", may_hide=True)


def test_same_name_and_content_is_reused_and_other_content_is_numbered(folders: Folders) -> None:
    first, again, other = (store(folders, "a.png", content) for content in (b"one", b"one", b"two"))
    assert (first.name, first.is_new) == ("a.png", True)
    assert (again.name, again.is_new, again.path) == ("a.png", False, first.path)
    assert (other.name, other.is_new) == ("a (1).png", True)
    assert store(folders, "a.png", b"two").name == "a (1).png"
    assert store(folders, "a.png", b"six").name == "a (2).png"  # of the same length
    assert listed(folders.home) == ["input/a (1).png", "input/a (2).png", "input/a.png"]
    assert first.digest == hashlib.sha256(b"one").hexdigest() and first.nbytes == 3


def test_an_old_file_is_replaced_when_asked(folders: Folders) -> None:
    store(folders, "a.png", b"one")
    assert store(folders, "a.png", b"two", "replace").name == "a.png"
    assert (folders.home / "input" / "a.png").read_bytes() == b"two"
    assert listed(folders.home) == ["input/a.png"]


def test_a_taken_name_can_be_refused(folders: Folders) -> None:
    store(folders, "a.png", b"one")
    with pytest.raises(Taken):
        store(folders, "a.png", b"one", "refuse")
    assert listed(folders.home) == ["input/a.png"]


def test_a_folder_is_never_replaced(folders: Folders) -> None:
    store(folders, "a.png/b.png", b"one")
    with pytest.raises(Taken, match="is a folder"):
        store(folders, "a.png", b"one", "replace")
    assert store(folders, "a.png", b"one").name == "a (1).png"


def test_a_file_in_the_place_of_a_folder_is_told(folders: Folders) -> None:
    store(folders, "a", b"one")
    with pytest.raises(BadName, match="a file has that name"):
        store(folders, "b.png", b"one", subfolder="a")
    with pytest.raises(BadName, match="a file has that name"):
        store(folders, "b.png", b"one", subfolder="a/deeper")


def test_a_file_goes_to_the_folder_of_its_type(folders: Folders) -> None:
    stored = store(folders, "a.png", b"one", type="temp", subfolder="x/y")
    assert (stored.type, stored.subfolder) == ("temp", "x/y")
    assert listed(folders.home) == ["temp/x/y/a.png"]


def test_a_file_system_without_hard_links_will_do(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert [store(folders, "a.png", content).name for content in (b"1", b"2", b"1")] == ["a.png", "a (1).png", "a.png"]
    assert listed(folders.home) == ["input/a (1).png", "input/a.png"]


def test_another_file_system_will_do(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.rename

    def across(source: str, target: str) -> None:
        if os.path.dirname(source) != os.path.dirname(target):
            raise OSError(errno.EXDEV, "another disk")
        rename(source, target)

    monkeypatch.setattr(os, "rename", across)
    assert store(folders, "a.png", b"one", type="temp").path.read_bytes() == b"one"
    assert listed(folders.home) == ["temp/a.png"]


def test_a_draft_is_hidden_and_goes_when_it_is_dropped(folders: Folders) -> None:
    draft = drafted(folders, b"one")
    assert draft.path.name.startswith(".") and folders.names("input") == []
    draft.drop()
    draft.drop()
    assert draft.write(b"late") == 0
    assert listed(folders.home) == []


def test_too_many_bytes_are_refused_and_leave_nothing(folders: Folders) -> None:
    draft = Draft(folders.roots("input")[0], 10)
    draft.write(b"0123456789")
    with pytest.raises(TooLarge, match="10 bytes"):
        draft.write(b"x")
    draft.drop()
    assert listed(folders.home) == []


def test_a_full_disk_is_told_and_leaves_nothing(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    draft = Draft(folders.roots("input")[0], 10)
    draft.write(b"one")
    with pytest.raises(StorageError, match="No space left on device"):
        draft.finish()
    draft.drop()
    assert listed(folders.home) == []


async def stream(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def test_a_stream_is_counted_and_digested_as_it_is_written(folders: Folders) -> None:
    pieces = [bytes([number]) * 50_000 for number in range(20)]
    draft = Draft(folders.roots("input")[0], 1 << 20)
    asyncio.run(receive(asyncio.to_thread, draft, stream(pieces)))
    assert draft.path.read_bytes() == b"".join(pieces)
    assert draft.nbytes == 1_000_000 and draft.digest == hashlib.sha256(b"".join(pieces)).hexdigest()


def test_many_uploads_of_one_name_at_once_all_stay(folders: Folders) -> None:
    async def all_at_once() -> list[files.Stored]:
        contents = [b"%d" % (number % 5) for number in range(20)]
        return await asyncio.gather(*(asyncio.to_thread(store, folders, "a.png", content) for content in contents))

    stored = asyncio.run(all_at_once())
    kept = {path.read_bytes() for path in (folders.home / "input").iterdir()}
    assert kept == {b"0", b"1", b"2", b"3", b"4"}
    assert all(one.path.read_bytes() == b"%d" % (number % 5) for number, one in enumerate(stored))


def test_links_do_not_lead_out_but_the_folder_itself_may_be_one(tmp_path: Path) -> None:
    outside, real = tmp_path / "outside", tmp_path / "real"
    for folder in (outside, real / "below"):
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(b"x")
    home = tmp_path / "home"
    home.mkdir()
    (home / "input").symlink_to(real)
    (real / "out").symlink_to(outside)
    (real / "one.png").symlink_to(outside / "a.png")
    (real / "two.png").symlink_to(real / "below" / "a.png")
    folders = Folders.of(home)
    assert find(folders, "below/a.png", "input") == real / "below" / "a.png"
    assert find(folders, "two.png", "input") == real / "below" / "a.png"
    for name, subfolder in (("one.png", ""), ("a.png", "out")):
        with pytest.raises(Outside):
            find(folders, name, "input", subfolder)
    with pytest.raises(Outside):
        store(folders, "b.png", b"x", subfolder="out/new")
    assert listed(outside) == ["a.png"]


def test_a_link_is_not_the_same_file_and_is_replaced_itself(tmp_path: Path, folders: Folders) -> None:
    other = tmp_path / "other.png"
    other.write_bytes(b"one")
    (folders.home / "input").mkdir(parents=True)
    (folders.home / "input" / "a.png").symlink_to(other)
    assert store(folders, "a.png", b"one").name == "a (1).png"
    store(folders, "a.png", b"two", "replace")
    assert other.read_bytes() == b"one"


def test_a_loop_of_links_is_a_missing_file(folders: Folders) -> None:
    root = folders.home / "input"
    root.mkdir(parents=True)
    (root / "a.png").symlink_to(root / "a.png")
    with pytest.raises(Missing):
        find(folders, "a.png", "input")


def test_a_file_is_found_by_the_suffix_of_its_folder(folders: Folders) -> None:
    store(folders, "a.png", b"one", subfolder="x")
    path = folders.home / "input" / "x" / "a.png"
    assert find(folders, "x/a.png [input]", "output") == find(folders, "a.png [input]", "temp", "x") == path
    with pytest.raises(Missing):
        find(folders, "a.png", "output", "x")
    with pytest.raises(Outside):
        find(folders, "a.png", "input", "../input")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_file_is_found_in_either_form_of_its_name(folders: Folders, form: str) -> None:
    path = folders.home / "output" / unicodedata.normalize(form, "é.png")  # type: ignore[arg-type]
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    assert find(folders, path.name) == path


def test_what_is_no_file_is_missing(folders: Folders) -> None:
    (folders.home / "output" / "folder").mkdir(parents=True)
    for name in ("none.png", "folder", "folder/none", "y" * 255):
        with pytest.raises(Missing):
            find(folders, name)
    with pytest.raises(BadName):
        find(folders, "")
    with pytest.raises(Missing):
        existing(folders.home / "nowhere", "a")


def test_inside_is_not_fooled_by_a_sister_with_a_longer_name(tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    (tmp_path / "inputs").mkdir()
    (tmp_path / "input" / "link").symlink_to(tmp_path / "inputs")
    with pytest.raises(Outside):
        inside(tmp_path / "input", ("link",))


def test_giving_a_name_replaces_in_one_step(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"new")
    (tmp_path / "a").write_bytes(b"old")
    assert give_name(source, tmp_path, "a", "replace") == ("a", True)
    assert (tmp_path / "a").read_bytes() == b"new" and not source.exists()
