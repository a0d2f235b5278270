"""Prompts to conditioning: CLIP's tokens, chunks of 77, and what text encoders make of them.

Every number is ComfyUI's, so that a prompt means here what it means there.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from nodes.diffusion.architecture import ClipConfig
from nodes.diffusion.checkpoints import Part
from nodes.diffusion.clip import END, ClipTextModel
from nodes.diffusion.prompts import segments

if TYPE_CHECKING:
    from tokenizers import Tokenizer

START = 49406
CHUNK = 77  # tokens of a chunk, with its start and its end
WHOLE = 8  # a segment of fewer tokens is not split between chunks
_MERGES = 49152 - 256 - 2
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # OpenAI's CLIP

Chunk = tuple[tuple[int, float], ...]  # 77 pairs of token and weight
Use = Callable[[Part[Any]], AbstractContextManager[Any]]  # lends a loaded module, as Context.use does


class Encoding(NamedTuple):
    """An encoded prompt: `tokens` [1, 77 n, D] and `pooled` [1, P]."""

    tokens: Tensor
    pooled: Tensor


@torch.no_grad()
def encode_prompt(
    encoders: Sequence[Part[ClipConfig]], text: str, use: Use, *, layer: int | None = None, text_l: str | None = None
) -> Encoding:
    """Encodes a prompt with the text encoders of a model; two of them (SDXL) are set side by side on the last axis.

    Args:
        encoders: one text encoder, or CLIP-L and OpenCLIP-G.
        text: the prompt.
        use: lends the module of a part.
        layer: the layer whose states are taken, -1 the last; None for the one the model was trained on.
        text_l: another prompt for CLIP-L, where there are two encoders.

    Raises:
        ValueError: there is no encoder, or the prompt asks for a textual inversion.
    """
    if not encoders:
        raise ValueError("there is no text encoder to encode the prompt with; wire one from a checkpoint or CLIPLoader")
    texts = [text if text_l is None or part.role != "clip_l" else text_l for part in encoders]
    chunks = [tokenize(words, part.config.pad_token) for words, part in zip(texts, encoders, strict=True)]
    count = max(map(len, chunks))
    encodings: list[Encoding] = []
    for part, own in zip(encoders, chunks, strict=True):
        own = [*own, *(tokenize("", part.config.pad_token) * (count - len(own)))]
        with use(part) as model:
            encodings.append(encode_chunks(model, own, layer))
    return Encoding(torch.cat([encoding.tokens for encoding in encodings], dim=-1), encodings[-1].pooled)


@torch.no_grad()
def encode_chunks(model: ClipTextModel, chunks: Sequence[Chunk], layer: int | None = None) -> Encoding:
    """Encodes chunks: those with weights are moved away from the states of the empty prompt, z = (z - e) * w + e.

    The pooled output is the first chunk's. The empty prompt is encoded in the same batch, where there are weights.
    """
    config = model.config
    device = model.text_model.final_layer_norm.weight.device
    weights = torch.tensor([[weight for _, weight in chunk] for chunk in chunks], device=device)[..., None]
    is_weighted = any(weight != 1 for chunk in chunks for _, weight in chunk)
    batch = [*chunks, *tokenize("", config.pad_token)] if is_weighted else chunks
    tokens = torch.tensor([[token for token, _ in chunk] for chunk in batch], device=device)
    hidden, pooled = model(tokens, config.default_layer if layer is None else layer, config.final_norm)
    z = hidden[: len(chunks)].float()
    if is_weighted:
        empty = hidden[-1].float()
        z = torch.where(weights == 1, z, (z - empty) * weights + empty)
    return Encoding(z.flatten(0, 1)[None], pooled[:1].float())


def tokenize(text: str, pad: int) -> list[Chunk]:
    """Cuts a prompt into chunks of 77 tokens with their weights; `pad` fills the last.

    A segment of fewer than 8 tokens that does not fit moves to the next chunk whole; a longer one is split.

    Raises:
        ValueError: the prompt asks for a textual inversion.
    """
    chunks: list[list[tuple[int, float]]] = [[]]
    for segment in segments(text):
        group = [(token, segment.weight) for token in tokens_of(segment.text)]
        may_split = len(group) >= WHOLE
        while group:
            room = CHUNK - 2 - len(chunks[-1])
            if len(group) <= room:
                chunks[-1] += group
                break
            if may_split:
                chunks[-1] += group[:room]
                group = group[room:]
            chunks.append([])
    return [_filled(chunk, pad) for chunk in chunks]


def tokens_of(text: str) -> list[int]:
    """CLIP's tokens of a text, without start and end."""
    return _tokenizer().encode(text, add_special_tokens=False).ids


def _filled(chunk: list[tuple[int, float]], pad: int) -> Chunk:
    filled = [(START, 1.0), *chunk, (END, 1.0)]
    return tuple(filled + [(pad, 1.0)] * (CHUNK - len(filled)))


def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The ids of CLIP's 49,408 tokens, and which two of them merge into one, the first to merge first."""
    symbols = list(_byte_symbols())
    with gzip.open(_vocabulary_file(), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : _MERGES + 1]
    merges = [(first, second) for first, second in (line.split() for line in lines)]
    words = symbols + [symbol + "</w>" for symbol in symbols] + [first + second for first, second in merges]
    return {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}, merges


@cache
def _tokenizer() -> Tokenizer:
    """CLIP's byte-pair encoding, from the vocabulary that the open_clip package carries; that package is not imported.

    Built as transformers builds its CLIPTokenizer, whose import costs 0.8 s.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    words, merges = vocabulary()
    tokenizer = Tokenizer(
        models.BPE(words, merges, unk_token="<|endoftext|>", continuing_subword_prefix="", end_of_word_suffix="</w>")
    )
    tokenizer.normalizer = normalizers.Sequence(  # type: ignore[assignment]
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    return tokenizer


def _vocabulary_file() -> Path:
    spec = find_spec("open_clip")
    path = Path(spec.origin).parent / "bpe_simple_vocab_16e6.txt.gz" if spec and spec.origin else None
    if path is None or not path.exists():
        raise ModuleNotFoundError(
            "CLIP's vocabulary is missing; it comes with the package open_clip_torch: pip install it"
        )
    return path


def _byte_symbols() -> list[str]:
    """The characters that stand for bytes, in the vocabulary's order: printable ones, then U+0100 on for the others."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]
