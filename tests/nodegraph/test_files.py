"""Files by name and content: names stay inside their folders, saved files are whole, ComfyUI's folders are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodegraph.errors import FileProblem, StorageError
from nodegraph.files import Folders, content_digest


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
