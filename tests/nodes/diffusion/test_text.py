"""Prompts: the syntax, the tokens, the chunks, and the conditioning."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from nodegraph.errors import FileProblem
from nodegraph.files import Folders
from nodes.diffusion import text as prompts
from nodes.diffusion.architecture import ClipConfig
from nodes.diffusion.checkpoints import Part, Role
from nodes.diffusion.clip import END, ClipTextModel
from nodes.diffusion.text import CHUNK, START, encode_chunks, encode_prompt, tokenize, tokens_of

TEXTS = [
    "a photo of a cat", "", " ", "A  Photo\tof\n\nA CAT", "don't it's we'll I'm you've they're he'd",
    "1234 3.14 16:9 2K", "日本語 prompt 猫", "café naïve Ünïcödé ẞ", "cafe\u0301", "emoji 🐱🐶 👩‍👩‍👧",
    "#hash @at $5 100% a_b-c+d=e", "...!!! ??? --- ***",
    "supercalifragilisticexpialidocious", "привет мир", "مرحبا", "한국어", "hello<|endoftext|>world", "zero\u200bwidth",
    "non\u00a0breaking", "İstanbul ǅ ﬁ", "(masterpiece:1.2), best quality", "a" * 200, "<lora:x:1>",
    "½ ² ①", "\\(escaped\\)",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_are_those_of_transformers(text: str, peer_tokenizer: Any) -> None:
    assert tokens_of(text) == peer_tokenizer(text)["input_ids"][1:-1]


@pytest.mark.parametrize(
    "text", ["a photo of a cat", "don't stop 1234 #hash, (x:1.3)", "привет мир", "日本語 prompt 猫"]
)
def test_tokens_are_those_of_open_clip(text: str) -> None:
    tokenizer = pytest.importorskip("open_clip.tokenizer").SimpleTokenizer()
    assert tokens_of(text) == tokenizer.encode(text)


@pytest.fixture(scope="module")
def peer_tokenizer() -> Any:
    transformers = pytest.importorskip("transformers")
    model = pytest.importorskip("open_clip.tokenizer").SimpleTokenizer()
    vocab = {word: i for word, i in model.encoder.items() if i < START}
    merges = sorted(model.bpe_ranks, key=model.bpe_ranks.__getitem__)
    return transformers.CLIPTokenizer(vocab={**vocab, "<|startoftext|>": START, "<|endoftext|>": END}, merges=merges)


def test_a_chunk_starts_ends_and_is_padded() -> None:
    (chunk,) = tokenize("a (cat:1.5)", 0)
    cat, a = tokens_of("cat"), tokens_of("a")
    assert chunk == ((START, 1.0), (a[0], 1.0), (cat[0], 1.5), (END, 1.0), *[(0, 1.0)] * 73)


def test_75_tokens_fit_and_76_need_a_second_chunk() -> None:
    assert len(tokenize("cat " * 75, END)) == 1
    first, second = tokenize("cat " * 76, END)
    assert [token for token, _ in first[1:76]] == tokens_of("cat") * 75
    assert first[76] == (END, 1.0) and second[1][0] == tokens_of("cat")[0] and second[2][0] == END


def test_a_short_segment_moves_whole_and_a_long_one_is_split() -> None:
    short, long = "(one two three:1.2)", "(one two three four five six seven eight:1.2)"
    first, second = tokenize("cat " * 74 + short, END)
    assert [weight for _, weight in first].count(1.2) == 0 and [weight for _, weight in second].count(1.2) == 3
    first, second = tokenize("cat " * 74 + long, END)
    assert [weight for _, weight in first].count(1.2) == 1 and [weight for _, weight in second].count(1.2) == 7


class Encoders:
    """Two small text encoders, lent as a Context lends them."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        small = {"hidden": 16, "layers": 3, "heads": 2, "intermediate": 32, "default_layer": -2, "final_norm": False}
        self.parts = (
            self.part("clip_l", ClipConfig(**small)),
            self.part("clip_g", ClipConfig(**small, projection=8, pad_token=0)),
        )
        self.models = {part.role: ClipTextModel(part.config).eval().requires_grad_(False) for part in self.parts}

        for model in self.models.values():
            torch.nn.init.normal_(model.text_model.embeddings.token_embedding.weight)

    @staticmethod
    def part(role: Role, config: ClipConfig) -> Part[ClipConfig]:
        return Part("model.safetensors", "digest", role, "sdxl", config)

    @contextmanager
    def use(self, part: Part[Any]) -> Iterator[ClipTextModel]:
        yield self.models[part.role]


@pytest.fixture(scope="module")
def encoders() -> Encoders:
    return Encoders()


def test_two_encoders_are_set_side_by_side_and_the_second_gives_pooled(encoders: Encoders) -> None:
    both = encode_prompt(encoders.parts, "a cat", encoders.use)
    tokens = [
        encode_chunks(encoders.models[part.role], tokenize("a cat", part.config.pad_token)) for part in encoders.parts
    ]
    assert both.tokens.shape == (1, CHUNK, 32) and both.pooled.shape == (1, 8)
    assert torch.equal(both.tokens, torch.cat([tokens[0].tokens, tokens[1].tokens], dim=-1))
    assert torch.equal(both.pooled, tokens[1].pooled)


def test_the_shorter_of_two_prompts_is_filled_with_empty_chunks(encoders: Encoders) -> None:
    both = encode_prompt(encoders.parts, "cat " * 100, encoders.use, text_l="a dog")
    empty = encode_prompt(encoders.parts, "", encoders.use)
    assert both.tokens.shape == (1, 2 * CHUNK, 32)
    torch.testing.assert_close(both.tokens[:, CHUNK:, :16], empty.tokens[:, :, :16])


def test_a_weight_moves_a_token_away_from_the_empty_prompt(encoders: Encoders) -> None:
    plain, weighted, empty = (
        encode_prompt(encoders.parts, text, encoders.use).tokens for text in ("a cat", "a (cat:1.5)", "")
    )
    torch.testing.assert_close(weighted[0, 2], (plain - empty)[0, 2] * 1.5 + empty[0, 2])
    torch.testing.assert_close(weighted[0, 1], plain[0, 1])


def test_pooled_is_that_of_the_first_chunk(encoders: Encoders) -> None:
    long = encode_prompt(encoders.parts, "cat " * 75 + "dog", encoders.use)
    torch.testing.assert_close(long.pooled, encode_prompt(encoders.parts, "cat " * 75, encoders.use).pooled)


def test_another_layer_can_be_asked_for(encoders: Encoders) -> None:
    default = encode_prompt(encoders.parts, "a cat", encoders.use)
    assert torch.equal(encode_prompt(encoders.parts, "a cat", encoders.use, layer=-2).tokens, default.tokens)
    assert not torch.equal(encode_prompt(encoders.parts, "a cat", encoders.use, layer=-1).tokens, default.tokens)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Embeddings of three vectors, for both encoders or too wide, and one longer than a chunk."""
    home = tmp_path_factory.mktemp("home")
    files = Folders.of(home)
    folder = files.roots("embeddings")[0]
    folder.mkdir(parents=True)
    vectors = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    save_file({"clip_l": vectors, "clip_g": vectors + 1}, folder / "both.safetensors")
    save_file({"emb_params": torch.randn(3, 24)}, folder / "wide.safetensors")
    save_file({"emb_params": torch.randn(80, 16)}, folder / "long.safetensors")
    return files


def table(encoders: Encoders, role: str) -> torch.Tensor:
    return encoders.models[role].text_model.embeddings.token_embedding.weight


def test_an_embedding_takes_the_places_of_its_vectors(encoders: Encoders, files: Folders) -> None:
    words = tokens_of("red blue green")
    folder = files.roots("embeddings")[0]
    save_file({role: table(encoders, role)[words].clone() for role in encoders.models}, folder / "words.safetensors")
    for text, same in [
        ("a embedding:words, cat", "a red blue green , cat"),
        ("a (embedding:words:1.3) cat", "a (red blue green:1.3) cat"),
        ("(cat:0.9) " * 74 + "embedding:words", "(cat:0.9) " * 74 + "(red blue green:1)"),
    ]:
        found = encode_prompt(encoders.parts, text, encoders.use, files=files, layer=-1)
        expected = encode_prompt(encoders.parts, same, encoders.use, layer=-1)
        torch.testing.assert_close(found.tokens, expected.tokens)
        torch.testing.assert_close(found.pooled, expected.pooled)


def test_each_encoder_takes_its_own_vectors(encoders: Encoders, files: Folders) -> None:
    for part, shift in zip(encoders.parts, (0.0, 1.0), strict=True):
        (chunk,) = tokenize("a embedding:both", part.config.pad_token, prompts.finder(files, part))
        vectors = torch.stack([token for token, _ in chunk if isinstance(token, torch.Tensor)])
        wanted = torch.randn(3, 16, generator=torch.Generator().manual_seed(0)) + shift
        assert torch.equal(vectors, wanted) and [type(token) for token, _ in chunk[:5]] == [
            int,
            int,
            *[torch.Tensor] * 3,
        ]


def test_a_short_embedding_moves_whole_and_a_long_one_is_split(encoders: Encoders, files: Folders) -> None:
    find = prompts.finder(files, encoders.parts[0])

    def places(text: str) -> list[int]:
        return [sum(isinstance(token, torch.Tensor) for token, _ in chunk) for chunk in tokenize(text, END, find)]

    assert places("cat " * 72 + "embedding:both") == [3]
    assert places("cat " * 73 + "embedding:both") == [0, 3]
    assert places("cat " * 73 + "embedding:long") == [2, 75, 3]


def test_unknown_and_wide_embeddings_are_told_before_any_weight_is_loaded(encoders: Encoders, files: Folders) -> None:
    def use(part: Part[Any]) -> Any:
        raise AssertionError("weights were asked for")

    with pytest.raises(FileProblem, match=r"'bth'.* did you mean 'both'"):
        encode_prompt(encoders.parts, "embedding:bth", use, files=files)
    with pytest.raises(ValueError, match=r"width 24, and this text encoder \(clip_l\) takes 16"):
        encode_prompt(encoders.parts, "embedding:wide", use, files=files)
    with pytest.raises(ValueError, match="'both' cannot be looked up here"):
        encode_prompt(encoders.parts, "embedding:both", use)


def test_no_encoder_is_a_sentence() -> None:
    with pytest.raises(ValueError, match="no text encoder"):
        encode_prompt((), "a cat", Encoders().use)


def test_a_missing_vocabulary_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match="open_clip_torch"):
        prompts._vocabulary_file()
