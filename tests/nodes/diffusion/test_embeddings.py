"""Textual inversions: finding their files, what they hold, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from nodegraph.errors import FileProblem
from nodegraph.files import Folders
from nodegraph.types import FileRef
from nodes.diffusion.architecture import ClipConfig
from nodes.diffusion.checkpoints import Part, Role
from nodes.diffusion.embeddings import embedding_problems, embeddings_digest, find_embedding, read_embedding

VECTORS = torch.arange(12.0).reshape(3, 4)


@pytest.fixture
def files(tmp_path: Path) -> Folders:
    (tmp_path / "models" / "embeddings" / "bad").mkdir(parents=True)
    return Folders.of(tmp_path)


def folder(files: Folders) -> Path:
    return files.roots("embeddings")[0]


def part(width: int = 4, role: Role = "clip_l") -> Part[ClipConfig]:
    return Part("model.safetensors", "digest", role, "sd1", ClipConfig(hidden=width))


def ref(path: Path) -> FileRef:
    return FileRef(path.name, str(path), "digest")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("hands", "hands.safetensors"), ("hands.pt", "hands.pt"), ("old", "old.pt"), ("older", "older.bin"),
        ("bad/anatomy", "bad/anatomy.pt"), ("bad\\anatomy.pt", "bad/anatomy.pt"), ("anatomy", "bad/anatomy.pt"),
    ],
)  # fmt: skip
def test_an_embedding_is_found_with_or_without_suffix_in_any_folder(files: Folders, name: str, found: str) -> None:
    for each in ("hands.safetensors", "hands.pt", "old.pt", "older.bin", "bad/anatomy.pt"):
        (folder(files) / each).write_bytes(b"x")
    assert find_embedding(files, name).name == found


@pytest.mark.parametrize(("name", "fix"), [("easynegativ", "did you mean 'EasyNegative'"), ("anatomi", "'anatomy'")])
def test_an_unknown_embedding_names_the_nearest(files: Folders, name: str, fix: str) -> None:
    (folder(files) / "EasyNegative.safetensors").write_bytes(b"x")
    (folder(files) / "bad" / "anatomy.pt").write_bytes(b"x")
    with pytest.raises(FileProblem, match=f"the embedding '{name}', which is not among the embeddings; .*{fix}"):
        find_embedding(files, name)


def test_without_a_near_name_the_folder_is_told(files: Folders) -> None:
    with pytest.raises(FileProblem, match="put its file in the 'embeddings' folder"):
        find_embedding(files, "../../secret")


def save(path: Path, content: Any) -> Path:
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


def parameters(*, is_module: bool) -> dict[str, Any]:
    """A file as AUTOMATIC1111 writes it, or as the first scripts for textual inversion did."""
    vectors = torch.nn.Parameter(VECTORS.clone())
    held: Any = torch.nn.ParameterDict({"*": vectors}) if is_module else {"*": vectors}
    return {"string_to_token": {"*": torch.tensor(265)}, "string_to_param": held, "name": "x", "step": 3}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.safetensors", {"emb_params": VECTORS}),
        ("a.safetensors", {"emb_params": VECTORS, "other": torch.zeros(1)}),
        ("a.safetensors", {"<cat>": VECTORS}),
        ("a.safetensors", {"clip_l": VECTORS, "clip_g": torch.zeros(3, 6)}),
        ("a.bin", {"<cat>": VECTORS}),
        ("a.pt", {"emb_params": VECTORS}),
        ("a.pt", VECTORS),
        ("a.pt", parameters(is_module=False)),
        ("a.pt", parameters(is_module=True)),
    ],
)
def test_every_form_of_file_gives_its_vectors(tmp_path: Path, name: str, content: Any) -> None:
    found = read_embedding(ref(save(tmp_path / name, content)), part())
    assert torch.equal(found, VECTORS) and not found.requires_grad


def test_one_vector_is_a_row_and_each_encoder_takes_its_own(tmp_path: Path) -> None:
    one = save(tmp_path / "one.safetensors", {"x": VECTORS[0].clone()})
    assert torch.equal(read_embedding(ref(one), part()), VECTORS[:1])
    two = save(tmp_path / "two.safetensors", {"clip_l": VECTORS, "clip_g": torch.ones(2, 6)})
    assert torch.equal(read_embedding(ref(two), part(6, "clip_g")), torch.ones(2, 6))


def test_an_embedding_of_another_model_names_both_widths(tmp_path: Path) -> None:
    path = save(tmp_path / "hands.safetensors", {"emb_params": torch.zeros(2, 1024)})
    with pytest.raises(ValueError, match=r"'hands.safetensors' has vectors of width 1024 \(SD2\).* takes 768 \(SD1\)"):
        read_embedding(ref(path), part(768))
    both = save(tmp_path / "xl.safetensors", {"clip_l": VECTORS, "clip_g": torch.zeros(1, 6)})
    with pytest.raises(ValueError, match=r"'xl.safetensors' is one of SDXL .* \(clip_h\); use one made for SD2"):
        read_embedding(ref(both), part(1024, "clip_h"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.safetensors", {"one": VECTORS, "two": VECTORS + 1}),
        ("a.safetensors", {"one": torch.zeros(0, 4)}),
        ("a.safetensors", {"one": torch.zeros(3, dtype=torch.int32)}),
        ("a.safetensors", {"one": torch.zeros(1, 1, 1, 4)}),
        ("a.pt", [VECTORS]),
        ("a.pt", {}),
    ],
)
def test_other_files_are_refused(files: Folders, name: str, content: Any) -> None:
    path = save(folder(files) / name, content)
    with pytest.raises(FileProblem, match="is not a textual inversion"):
        read_embedding(ref(path), part())
    if path.suffix == ".safetensors":
        (problem,) = embedding_problems(files, ["a"])
        assert "is not a textual inversion" in str(problem)


class Planted:
    """Runs code when it is unpickled carelessly."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("planted"),))


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path / "a.pt", {"string_to_param": {"*": VECTORS}, "x": Planted()})
    with pytest.raises(FileProblem, match="would have to run code, which is refused"):
        read_embedding(ref(path), part())
    assert not (tmp_path / "planted").exists()


def test_all_problems_of_a_prompts_embeddings_are_told(files: Folders) -> None:
    save(folder(files) / "good.safetensors", {"emb_params": VECTORS})
    save(folder(files) / "good2.pt", {"emb_params": VECTORS})
    (folder(files) / "empty.pt").write_bytes(b"")
    found = embedding_problems(files, ["good", "gone", "empty", "good2"])
    assert [str(problem).partition(";")[0] for problem in found] == [
        "the prompt names the embedding 'gone', which is not among the embeddings", "empty.pt: is empty (0 bytes)",
    ]  # fmt: skip


def test_the_digest_is_of_what_is_named_or_of_everything(files: Folders) -> None:
    def digests() -> list[str]:
        return [embeddings_digest(files, names) for names in ([], ["a"], ["a", "gone"], None)]

    save(folder(files) / "a.safetensors", {"emb_params": VECTORS})
    first = digests()
    assert first[0] == "" and first[2].endswith("missing") and len(set(first)) == 4
    save(folder(files) / "b.safetensors", {"emb_params": VECTORS + 1})
    second = digests()
    assert second[:3] == first[:3] and second[3] != first[3]
    changed: Tensor = VECTORS * 2
    save(folder(files) / "a.safetensors", {"emb_params": changed})
    assert all(now != before for now, before in zip(digests()[1:], second[1:], strict=True))


def test_a_lora_among_the_embeddings_is_told_with_its_place(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "embeddings"
    folder.mkdir(parents=True)
    save_file(
        {"lora_unet_a.lora_up.weight": torch.ones(2, 2), "lora_unet_a.alpha": torch.ones(1)}, folder / "x.safetensors"
    )
    (told,) = embedding_problems(Folders.of(tmp_path), ["x"])
    assert "is a LoRA, not a textual inversion; put it in the `loras` folder" in str(told)
