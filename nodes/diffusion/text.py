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
from nodes.diffusion.clip import END, ClipTextModel, Encoded
from nodes.diffusion.embeddings import find_embedding, read_embedding
from nodes.diffusion.prompts import Piece, pieces, segments

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from nodegraph.files import Folders

START = 49406
CHUNK = 77  # tokens of a chunk, with its start and its end
WHOLE = 8  # a segment of fewer tokens is not split between chunks
_MERGES = 49152 - 256 - 2
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # OpenAI's CLIP

Token = int | Tensor  # of the vocabulary, or a vector [D] of an embedding
Chunk = tuple[tuple[Token, float], ...]  # 77 pairs of token and weight
Find = Callable[[str], Tensor]  # the vectors [n, D] of a named embedding
Use = Callable[[Part[Any]], AbstractContextManager[Any]]  # lends a loaded module, as Context.use does


class Encoding(NamedTuple):
    """An encoded prompt: `tokens` [1, 77 n, D] and `pooled` [1, P]."""

    tokens: Tensor
    pooled: Tensor


@torch.no_grad()
def encode_prompt(
    encoders: Sequence[Part[ClipConfig]], text: str, use: Use, *, layer: int | None = None, text_l: str | None = None,
    files: Folders | None = None,
) -> Encoding:  # fmt: skip
    """Encodes a prompt with the text encoders of a model; two of them (SDXL) are set side by side on the last axis.

    Args:
        encoders: one text encoder, or CLIP-L and OpenCLIP-G.
        text: the prompt.
        use: lends the module of a part.
        layer: the layer whose states are taken, -1 the last; None for the one the model was trained on.
        text_l: another prompt for CLIP-L, where there are two encoders.
        files: where the embeddings are that the prompt names.

    Raises:
        ValueError: there is no encoder, or an embedding is not of its width.
        FileProblem: an embedding is not there.
    """
    check_encoders(encoders)
    texts = [text if text_l is None or part.role != "clip_l" else text_l for part in encoders]
    chunks = [
        tokenize(words, part.config.pad_token, finder(files, part)) for words, part in zip(texts, encoders, strict=True)
    ]
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
    is_weighted = any(weight != 1 for chunk in chunks for _, weight in chunk)
    batch = [*chunks, *tokenize("", model.config.pad_token)] if is_weighted else chunks
    hidden, pooled = states(model, batch, layer)
    z = hidden[: len(chunks)]
    if is_weighted:
        weights, empty = weights_of(chunks).to(z), hidden[-1]
        z = torch.where(weights == 1, z, (z - empty) * weights + empty)
    return Encoding(z.flatten(0, 1)[None], pooled[:1])


def states(model: ClipTextModel, chunks: Sequence[Chunk], layer: int | None = None) -> Encoded:
    """What a text encoder makes of n chunks, float32: states [n, 77, D] before any weights, and pooled [n, P]."""
    config = model.config
    vectors = [
        (row, column, token)
        for row, chunk in enumerate(chunks)
        for column, (token, _) in enumerate(chunk)
        if isinstance(token, Tensor)
    ]
    ids = [[0 if isinstance(token, Tensor) else token for token, _ in chunk] for chunk in chunks]
    tokens = torch.tensor(ids, device=model.text_model.final_layer_norm.weight.device)
    hidden, pooled = model(tokens, config.default_layer if layer is None else layer, config.final_norm, vectors)
    return Encoded(hidden.float(), pooled.float())


def weights_of(chunks: Sequence[Chunk]) -> Tensor:
    """The weights of chunks, [n, 77, 1]."""
    return torch.tensor([[weight for _, weight in chunk] for chunk in chunks])[..., None]


def check_encoders(encoders: Sequence[Part[ClipConfig]]) -> None:
    """Raises ValueError when there is nothing to encode with."""
    if not encoders:
        raise ValueError("there is no text encoder to encode the prompt with; wire one from a checkpoint or CLIPLoader")


def finder(files: Folders | None, part: Part[ClipConfig]) -> Find | None:
    """Looks embeddings up for one text encoder; each file is read once. None where there are no folders."""
    if files is None:
        return None
    return cache(lambda name: read_embedding(find_embedding(files, name), part))


def tokenize(text: str, pad: int, find: Find | None = None) -> list[Chunk]:
    """Cuts a prompt into chunks of 77 tokens with their weights; `pad` fills the last.

    A piece of fewer than 8 tokens that does not fit moves to the next chunk whole; a longer one is split.

    Args:
        text: the prompt.
        pad: the token after the end.
        find: the vectors of an embedding; needed only where the prompt names one.
    """
    chunks: list[list[tuple[Token, float]]] = [[]]
    for piece, weight in ((piece, segment.weight) for segment in segments(text) for piece in pieces(segment.text)):
        group = [(token, weight) for token in tokens_of_piece(piece, find)]
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
    return [filled(chunk, pad) for chunk in chunks]


def tokens_of_piece(piece: Piece, find: Find | None) -> list[Token]:
    """The tokens of a text, or the vectors of an embedding.

    Raises:
        ValueError: it is an embedding, and there is no `find`.
    """
    if not piece.is_embedding:
        return [*tokens_of(piece.text)]
    if find is None:
        raise ValueError(f"the embedding {piece.text!r} cannot be looked up here; remove it from the prompt")
    return list(find(piece.text).unbind())


def tokens_of(text: str) -> list[int]:
    """CLIP's tokens of a text, without start and end."""
    return _tokenizer().encode(text, add_special_tokens=False).ids


def filled(chunk: Sequence[tuple[Token, float]], pad: int) -> Chunk:
    """Up to 75 tokens with start, end and padding."""
    whole = [(START, 1.0), *chunk, (END, 1.0)]
    return (*whole, *[(pad, 1.0)] * (CHUNK - len(whole)))


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
