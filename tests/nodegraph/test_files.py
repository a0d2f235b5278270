"""Files by name and content: names stay inside their folders, saved files are whole, ComfyUI's folders are found."""

from __future__ import annotations

import builtins
import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from nodegraph import files
from nodegraph.errors import FileProblem, StorageError
from nodegraph.files import CLAIMS, Folders, claim_name, content_digest, stamp


def write(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "../x.safetensors",
        "a/../../x",
        "/etc/passwd",
        "",
        "  ",
        "C:\\x",
        "c:x",
        "..\\x",
        "a\0b",
        "..",
        "\\\\server\\x",
        "a/..",
    ],
)
@pytest.mark.parametrize("kind", ["loras", "input", "output", "workflows"])
def test_a_name_cannot_leave_its_folder(tmp_path: Path, kind: str, name: str) -> None:
    folders = Folders.of(tmp_path / "home")
    write(tmp_path / "x.safetensors")
    with pytest.raises(FileProblem, match="is not the name of a file inside the"):
        folders.path(kind, name)
    with pytest.raises(FileProblem, match="is not the name of a file inside the"):
        folders.save("output", name or "..", "png", lambda file: None)


@pytest.mark.parametrize("name", [".", "./", "sub", "sub/."])
@pytest.mark.parametrize("kind", ["loras", "checkpoints", "input"])
def test_a_folder_is_no_file(tmp_path: Path, kind: str, name: str) -> None:
    folders = Folders.of(tmp_path)
    write(folders.roots(kind)[0] / "sub" / "a.safetensors")
    with pytest.raises(FileProblem, match="is not among the"):
        folders.find(kind, name)


def test_files_are_found_by_name_and_known_by_content(tmp_path: Path) -> None:
    folders = Folders.of(tmp_path)
    one = write(tmp_path / "models" / "loras" / "style" / "one.safetensors", b"same")
    write(tmp_path / "models" / "loras" / "two.safetensors", b"same")
    write(tmp_path / "models" / "loras" / "three.safetensors", b"other")
    found = [folders.find("loras", name) for name in ("style/one.safetensors", "two.safetensors", "three.safetensors")]
    assert found[0].path == str(one) and found[0].name == "style/one.safetensors"
    assert found[0].digest == found[1].digest != found[2].digest
    assert folders.find("loras", "style\\one.safetensors").digest == found[0].digest
    assert folders.names("loras") == ["three.safetensors", "two.safetensors", "style/one.safetensors"]


def test_large_files_are_digested_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodegraph.files.BLOCK_BYTES", 10)
    contents = [b"", b"a" * 10, b"a" * 11, b"a" * 25, b"a" * 24 + b"b", b"b" + b"a" * 24]
    found = [content_digest(write(tmp_path / str(index), content)) for index, content in enumerate(contents)]
    assert len(set(found)) == len(contents)
    assert content_digest(write(tmp_path / "again", contents[3])) == found[3]


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    folders = Folders.of(tmp_path)
    write(tmp_path / "models" / "loras" / "deep" / "detail.safetensors")
    for name in ("detail.safetensors", "deep/detial.safetensors"):
        with pytest.raises(FileProblem, match=r"did you mean 'deep/detail\.safetensors'"):
            folders.path("loras", name)
    with pytest.raises(FileProblem, match=r"put it in .*vae"):
        folders.path("vae", "none.safetensors")
    with pytest.raises(FileProblem, match="'lora' is no kind of file; one of checkpoints"):
        folders.path("lora", "x")


def test_old_and_new_names_of_kinds_are_the_same(tmp_path: Path) -> None:
    folders = Folders.of(tmp_path)
    write(tmp_path / "models" / "clip" / "l.safetensors")
    write(tmp_path / "models" / "unet" / "u.safetensors")
    assert folders.names("text_encoders") == folders.names("clip") == ["l.safetensors"]
    assert folders.path("diffusion_models", "u.safetensors") == folders.path("unet", "u.safetensors")
    assert folders.names("nothing") == []


def test_home_comes_before_further_roots_and_shipped_files_last(tmp_path: Path) -> None:
    folders = Folders.of(tmp_path / "home", roots=[tmp_path / "more"], shipped=[tmp_path / "shipped"])
    for place in ("shipped", "more", "home/models"):
        write(tmp_path / place / "vae" / "v.safetensors", place.encode())
        assert folders.path("vae", "v.safetensors").read_bytes() == place.encode()


def test_suffixes_name_another_folder_for_pictures(tmp_path: Path) -> None:
    folders = Folders.of(tmp_path)
    write(tmp_path / "output" / "a.png", b"out")
    write(tmp_path / "input" / "a.png", b"in")
    write(tmp_path / "temp" / "sub" / "t.png", b"temp")
    assert folders.path("input", "a.png").read_bytes() == b"in"
    assert folders.path("input", "a.png [output]").read_bytes() == b"out"
    assert folders.path("input", "sub/t.png [temp]").read_bytes() == b"temp"
    with pytest.raises(FileProblem):
        folders.path("loras", "a.png [output]")
    with pytest.raises(FileProblem, match="not the name of a file inside the output"):
        folders.path("input", "../x [output]")


def test_hidden_and_foreign_files_are_not_listed(tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.txt", ".hidden.safetensors", ".git/c.safetensors", "D.CKPT"):
        write(tmp_path / "models" / "checkpoints" / name)
    assert Folders.of(tmp_path).names("checkpoints") == ["a.safetensors", "D.CKPT"]
    for name in ("p.png", "q.JPG", "r.safetensors"):
        write(tmp_path / "input" / name)
    assert Folders.of(tmp_path).names("input") == ["p.png", "q.JPG"]


def test_a_name_may_stand_for_two_files_of_another_kind(tmp_path: Path) -> None:
    folders = Folders.of(tmp_path)
    write(tmp_path / "models" / "vae" / "z.safetensors")
    write(tmp_path / "models" / "vae_approx" / "taesdxl_encoder.pth")
    assert folders.names("vae") == ["z.safetensors"]
    with pytest.raises(FileProblem, match="'taesd' is not among the vae"):
        folders.find("vae", "taesd")
    decoder = write(tmp_path / "models" / "vae_approx" / "more" / "taesd_decoder.safetensors", b"d")
    half = folders.find("vae", "taesd")
    assert folders.names("vae") == ["z.safetensors", "taesd"]
    assert (half.name, half.path) == ("taesd", str(decoder)) and half.digest == content_digest(decoder)
    encoder = write(tmp_path / "models" / "vae_approx" / "taesd_encoder.pth", b"e")
    assert folders.find("vae", "taesd").digest == f"{content_digest(decoder)}-{content_digest(encoder)}"
    assert folders.find("vae", "z.safetensors").digest == content_digest(tmp_path / "models" / "vae" / "z.safetensors")


def test_diffusers_folders_are_models_known_by_all_their_files(tmp_path: Path) -> None:
    folders = Folders.of(tmp_path)
    root = tmp_path / "models"
    write(root / "diffusers" / "sd" / "model_index.json", b"{}")
    weights = write(root / "diffusers" / "sd" / "unet" / "w.safetensors", b"1")
    write(root / "checkpoints" / "folder" / "model_index.json", b"{}")
    write(root / "checkpoints" / "folder" / "unet" / "w.safetensors")
    write(root / "checkpoints" / "plain.safetensors")
    assert folders.names("diffusers") == ["sd"]
    assert folders.names("checkpoints") == ["folder", "plain.safetensors"]
    before = folders.find("diffusers", "sd").digest
    weights.write_bytes(b"2")
    assert folders.find("diffusers", "sd").digest != before
    assert folders.find("checkpoints", "folder").path == str(root / "checkpoints" / "folder")


def test_extra_model_paths_are_read_as_comfyui_does(tmp_path: Path) -> None:
    extra = write(
        tmp_path / "conf" / "extra.yaml",
        b"""
comfyui:
    base_path: ../comfy
    checkpoints: models/checkpoints/
    clip: models/clip
    loras: |
        models/loras
        models/lycoris
    custom_nodes: custom_nodes
first:
    is_default: true
    vae: /somewhere/vae
empty:
""",
    )
    write(tmp_path / "comfy" / "models" / "lycoris" / "l.safetensors")
    write(tmp_path / "comfy" / "models" / "clip" / "c.safetensors")
    folders = Folders.of(tmp_path / "home", extra=extra)
    assert folders.names("loras") == ["l.safetensors"]
    assert folders.names("text_encoders") == ["c.safetensors"]
    assert folders.roots("vae")[0] == Path("/somewhere/vae")
    assert folders.roots("loras")[0] == tmp_path / "home" / "models" / "loras"
    write(tmp_path / "home" / "extra_model_paths.yaml", extra.read_bytes())
    assert Path("/somewhere/vae") in Folders.of(tmp_path / "home").roots("vae")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a: [", "is not YAML"),
        (b"- a\n", "has no sections"),
        (b"a: 5\n", "section 'a' is not a table"),
        (None, "cannot be read"),
    ],
)
def test_a_wrong_yaml_file_is_told(tmp_path: Path, text: bytes | None, message: str) -> None:
    if text is not None:
        write(tmp_path / "extra.yaml", text)
    with pytest.raises(FileProblem, match=message):
        Folders.of(tmp_path, extra=tmp_path / "extra.yaml")


def test_saved_files_are_counted_on_from_the_highest(tmp_path: Path) -> None:
    folders = Folders.of(tmp_path)
    first = folders.save("output", "sub/pic", "png", lambda file: file.write(b"one") and None)
    assert (first.filename, first.subfolder, first.type, first.nbytes, first.format) == (
        "pic_00001_.png",
        "sub",
        "output",
        3,
        "png",
    )
    assert Path(first.path).read_bytes() == b"one"
    write(tmp_path / "output" / "sub" / "pic_00041_.jpg")
    write(tmp_path / "output" / "sub" / "picture_00099_.png")
    write(tmp_path / "output" / "sub" / "pic_x.png")
    assert folders.save("output", "sub/pic", "png", lambda file: None).filename == "pic_00042_.png"
    assert folders.save("temp", "", "png", lambda file: None).filename == "nodegraph_00001_.png"
    assert folders.save("output", "a+b (c)", "png", lambda file: None).filename == "a+b (c)_00001_.png"
    assert folders.save("output", "a+b (c)", "png", lambda file: None).filename == "a+b (c)_00002_.png"


def test_a_writer_that_raises_leaves_nothing(tmp_path: Path) -> None:
    folders = Folders.of(tmp_path)

    def broken(file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise ValueError("no")

    def full(file: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(ValueError, match="no"):
        folders.save("output", "pic", "png", broken)
    with pytest.raises(StorageError, match="cannot be written: No space left on device; nothing was saved"):
        folders.save("output", "pic", "png", full)
    assert list((tmp_path / "output").iterdir()) == []


def test_an_output_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    write(tmp_path / "output")
    with pytest.raises(StorageError, match="cannot be written"):
        Folders.of(tmp_path).save("output", "pic", "png", lambda file: None)


def test_a_file_system_without_hard_links_saves_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise OSError(1, "not supported")

    monkeypatch.setattr("nodegraph.files.os.link", link)
    folders = Folders.of(tmp_path)
    names = [folders.save("output", "pic", "png", lambda file: file.write(b"x") and None).filename for _ in range(3)]
    assert names == ["pic_00001_.png", "pic_00002_.png", "pic_00003_.png"]
    assert sorted(path.name for path in (tmp_path / "output").iterdir()) == names


# Claims: what an attempt that died has saved


def noted(content: bytes) -> Callable[[BinaryIO], None]:
    def write(file: BinaryIO) -> None:
        file.write(content)

    return write


def contents(folder: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in folder.rglob("*") if path.is_file() and CLAIMS not in path.parts)


class Died(BaseException):
    """Stands for the end of a process: nothing catches it."""


def test_a_claimed_file_is_written_once_however_often_it_is_saved(tmp_path: Path) -> None:
    folders = Folders.of(tmp_path)
    first = folders.save("output", "a/b", "txt", noted(b"1"), ("run", "9-1"))

    def never(file: BinaryIO) -> None:
        raise AssertionError("it was written again")

    assert folders.save("output", "a/b", "txt", never, ("run", "9-1")) == first
    assert Folders.of(tmp_path).save("output", "a/b", "txt", never, ("run", "9-1")) == first
    others = [
        folders.save("output", "a/b", "txt", noted(b"2"), claim) for claim in (("run", "9-2"), ("other", "9-1"), None)
    ]
    assert [first.filename, *(other.filename for other in others)] == [
        f"b_0000{number}_.txt" for number in (1, 2, 3, 4)
    ]
    assert contents(tmp_path / "output") == [b"1", b"2", b"2", b"2"]


@pytest.mark.parametrize("place", ["open", "write", "replace", "before link", "after link", "stat"])
def test_a_claimed_file_is_there_once_wherever_an_attempt_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    folders = Folders.of(tmp_path)
    folders.save("output", "n", "txt", noted(b"other"))

    def die(*_: Any, **__: Any) -> Any:
        raise Died

    def half(file: BinaryIO) -> None:
        file.write(b"ha")
        raise Died

    def link_and_die(source: Any, target: Any) -> None:
        real_link(source, target)
        raise Died

    real_link = os.link
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", die)  # a dead process cleans nothing up
        if place == "open":
            patch.setattr(builtins, "open", die)
        elif place == "replace":
            patch.setattr(Path, "replace", die)
        elif place == "before link":
            patch.setattr(os, "link", die)
        elif place == "after link":
            patch.setattr(os, "link", link_and_die)
        elif place == "stat":
            patch.setattr(files, "SavedFile", die)
        with pytest.raises(Died):
            folders.save("output", "n", "txt", half if place == "write" else noted(b"mine"), ("run", "9-1"))
    is_placed = place in ("after link", "stat")
    assert contents(tmp_path / "output") == [b"mine", b"other"][0 if is_placed else 1 :]
    assert folders.claims() == {claim_name("run")}

    found = Folders.of(tmp_path).save("output", "n", "txt", noted(b"again" if is_placed else b"mine"), ("run", "9-1"))
    assert (found.filename, Path(found.path).read_bytes()) == ("n_00002_.txt", b"mine")
    assert contents(tmp_path / "output") == [b"mine", b"other"]
    folders.settle("run")
    assert folders.claims() == set()
    assert [path for path in (tmp_path / "output" / CLAIMS).rglob("*")] == []
    assert contents(tmp_path / "output") == [b"mine", b"other"]
    assert Path(found.path).stat().st_nlink == 1


def test_a_claimed_file_that_was_deleted_or_moved_away_is_written_again(tmp_path: Path) -> None:
    folders = Folders.of(tmp_path)
    first = folders.save("output", "n", "txt", noted(b"1"), ("run", "9-1"))
    Path(first.path).unlink()
    second = folders.save("output", "n", "txt", noted(b"2"), ("run", "9-1"))
    assert Path(second.path).read_bytes() == b"2"
    (tmp_path / "elsewhere").mkdir()
    Path(second.path).rename(tmp_path / "elsewhere" / "kept.txt")
    third = folders.save("output", "n", "txt", noted(b"3"), ("run", "9-1"))
    assert Path(third.path).read_bytes() == b"3"
    assert (tmp_path / "elsewhere" / "kept.txt").read_bytes() == b"2"


def test_a_claim_that_failed_to_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    folders = Folders.of(tmp_path)

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="No space left on device; nothing was saved there"):
        folders.save("output", "n", "txt", fail, ("run", "9-1"))
    assert contents(tmp_path / "output") == []
    assert [path for path in (tmp_path / "output" / CLAIMS).rglob("*") if path.is_file()] == []


def test_without_hard_links_a_file_is_saved_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    folders = Folders.of(tmp_path)
    names = [folders.save("output", "n", "txt", noted(b"x"), ("run", str(number))).filename for number in range(2)]
    assert names == ["n_00001_.txt", "n_00002_.txt"]
    folders.settle("run")
    assert contents(tmp_path / "output") == [b"x", b"x"]


@pytest.mark.parametrize("run", ["..", ".", "", "../..", "a/../.."])
def test_settling_never_leaves_the_folder_of_claims(tmp_path: Path, run: str) -> None:
    folders = Folders.of(tmp_path)
    kept = [write(tmp_path / "output" / "kept.png"), write(tmp_path / "temp" / "kept.png"), write(tmp_path / "kept")]
    for root in (tmp_path / "output", tmp_path / "temp"):
        (root / CLAIMS / "other").mkdir(parents=True)
    with contextlib.suppress(FileProblem, ValueError):
        folders.settle(run)
    assert all(path.exists() for path in kept)
    assert folders.claims() == {"other"}


@pytest.mark.parametrize("claim", ["..", ".", "", "../x", "run/../../x", "/x", "a\0b"])
def test_a_claim_cannot_leave_its_folder(tmp_path: Path, claim: str) -> None:
    folders = Folders.of(tmp_path / "home")
    with contextlib.suppress(FileProblem, StorageError, ValueError):
        folders.save("output", "n", "txt", noted(b"x"), (claim, claim))
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and CLAIMS not in path.parts]
    assert [path.name for path in outside] in ([], ["n_00001_.txt"])


def test_claims_are_no_files_of_the_output_folder(tmp_path: Path) -> None:
    folders = Folders.of(tmp_path)
    folders.save("output", "n", "png", noted(b"x"), ("run", "9-1"))
    assert folders.names("output") == ["n_00001_.png"]


def test_a_stamp_tells_files_apart_without_reading_them(tmp_path: Path) -> None:
    path = write(tmp_path / "a.bin", b"12345")

    def never() -> str:
        raise AssertionError("it was read")

    folders = replace(Folders.of(tmp_path), digest=stamp)
    first = folders.content(path)
    assert first == stamp(str(path), path.stat(), never) == f"5-{path.stat().st_mtime_ns}"
    path.write_bytes(b"123456")
    assert folders.content(path) != first


def test_what_preprocessors_use_is_found_in_subfolders_by_its_own_name(tmp_path: Path) -> None:
    folders = Folders.of(tmp_path)
    root = folders.roots("annotators")[0]
    write(root / "lllyasviel" / "Annotators" / "netG.pth", b"g")
    write(root / "Intel" / "dpt" / "config.json")
    write(root / "Intel" / "dpt" / "model.safetensors")
    assert folders.names("annotators") == ["Intel/dpt", "lllyasviel/Annotators/netG.pth"]
    assert folders.path("annotators", "netG.pth") == root / "lllyasviel" / "Annotators" / "netG.pth"
    assert folders.path("annotators", "dpt") == root / "Intel" / "dpt"
    before = folders.find("annotators", "dpt").digest
    write(root / "Intel" / "dpt" / "model.safetensors", b"y")
    assert folders.find("annotators", "dpt").digest != before
    write(root / "netG.pth", b"h")
    assert folders.path("annotators", "netG.pth") == root / "netG.pth"
    with pytest.raises(FileProblem, match=r"'netG.pth' is not among the loras"):
        folders.path("loras", "netG.pth")


def test_models_that_nodes_saved_are_found_after_those_of_the_user(tmp_path: Path) -> None:
    folders = Folders.of(tmp_path / "home", output=tmp_path / "out")
    saved = write(tmp_path / "out" / "loras" / "made.safetensors")
    write(tmp_path / "out" / "loras" / "own.safetensors")
    own = write(tmp_path / "home" / "models" / "loras" / "own.safetensors")
    text = write(tmp_path / "out" / "clip" / "made.safetensors")
    assert folders.names("loras") == ["made.safetensors", "own.safetensors"]
    found = [folders.path(kind, f"{name}.safetensors") for kind, name in (("loras", "made"), ("loras", "own"))]
    assert found == [saved, own]
    assert folders.path("text_encoders", "made.safetensors") == text
