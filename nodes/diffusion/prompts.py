"""Reading prompts: weights in parentheses and names of embeddings, as ComfyUI has them. No torch, for planning."""

from __future__ import annotations

import math
import re
from itertools import accumulate
from typing import NamedTuple

DEEPEST = 200  # brackets in brackets
_EMBEDDING = re.compile(r"(?:^|[ \n])embedding:")
_TAG = re.compile(r"<(lora|lyco|hypernet):([^>:]*)[^>]*>", re.IGNORECASE)


class Segment(NamedTuple):
    """A piece of a prompt and the weight of its tokens."""

    text: str
    weight: float


class Piece(NamedTuple):
    """A piece of a segment: text, or the name of an embedding."""

    text: str
    is_embedding: bool = False


def segments(text: str) -> list[Segment]:
    r"""Reads a prompt: `(x)` weighs 1.1 times as much, `(x:1.3)` 1.3, parentheses nest, `\(` and `\)` are text.

    Raises:
        ValueError: the prompt nests hundreds of parentheses.
    """
    hidden = text.replace("\\)", "\0\1").replace("\\(", "\0\2")
    if _depth(hidden) > DEEPEST:
        raise ValueError(f"the prompt nests parentheses more than {DEEPEST} deep; take some away")
    return [Segment(piece.replace("\0\1", ")").replace("\0\2", "("), weight) for piece, weight in _weigh(hidden, 1.0)]


def pieces(text: str) -> list[Piece]:
    """Cuts a segment at each `embedding:name` at its start or after a space; a comma after the name is text.

    Raises:
        ValueError: a name is missing.
    """
    starts = list(_EMBEDDING.finditer(text))
    found = [Piece(text[: starts[0].start()] if starts else text)]
    for place, start in enumerate(starts):
        stop = starts[place + 1].start() if place + 1 < len(starts) else len(text)
        words = text[start.end() : stop].lstrip()
        name = (words.split(maxsplit=1) or [""])[0].rstrip(",")
        if not name:
            raise ValueError("'embedding:' in the prompt is followed by no name; write one, or take it away")
        found += [Piece(name, is_embedding=True), Piece(words[len(name) :])]
    return [piece for piece in found if piece.text.strip()]


def embedding_names(text: str) -> list[str]:
    """The embeddings that a prompt names, each once.

    Raises:
        ValueError: as for `segments` and `pieces`.
    """
    named = [piece.text for segment in segments(text) for piece in pieces(segment.text) if piece.is_embedding]
    return list(dict.fromkeys(named))


def tag_problems(text: str) -> list[str]:
    """A sentence on each of A1111's tags, such as `<lora:name:0.8>`, in a prompt: no node reads them."""
    found: list[str] = []
    for tag in _TAG.finditer(text):
        loader = "HypernetworkLoader" if tag[1].lower() == "hypernet" else "LoraLoader"
        fix = f"wire a {loader} node instead, and take the tag out of the prompt"
        found.append(f"the prompt loads {tag[2]!r} with {tag[0]!r}; {fix}")
    return found


def _weigh(text: str, weight: float) -> list[Segment]:
    """Segments of a text whose escapes are hidden. `(x:y)` with no number y, and unbalanced parentheses, are text."""
    found: list[Segment] = []
    for item in _items(text):
        if not (len(item) >= 2 and item[0] == "(" and item[-1] == ")"):
            found.append(Segment(item, weight))
            continue
        inner, inner_weight = item[1:-1], weight * 1.1
        before, colon, after = inner.rpartition(":")
        number = _number(after) if colon and before else None
        found += _weigh(inner, inner_weight) if number is None else _weigh(before, number)
    return found


def _items(text: str) -> list[str]:
    """Cuts a text before and after each outermost pair of parentheses."""
    items, start, depth = [], 0, 0
    for i, char in enumerate(text):
        if char == "(":
            if depth == 0:
                items.append(text[start:i])
                start = i
            depth += 1
        elif char == ")":
            depth -= 1
            if depth == 0:
                items.append(text[start : i + 1])
                start = i + 1
    return [item for item in (*items, text[start:]) if item]


def _depth(text: str) -> int:
    """The deepest nesting of parentheses in a text."""
    return max(accumulate((char == "(") - (char == ")") for char in text), default=0)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
