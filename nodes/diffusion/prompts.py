"""Reading prompts: weights in parentheses, as ComfyUI writes them. No torch, so that planning can check them."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import NamedTuple

_EMBEDDING = "embedding:"
_DEEPEST = 200


class Segment(NamedTuple):
    """A piece of a prompt and the weight of its tokens."""

    text: str
    weight: float


def segments(text: str) -> list[Segment]:
    r"""Reads a prompt: `(x)` weighs 1.1 times as much, `(x:1.3)` 1.3, parentheses nest, `\(` and `\)` are text.

    Raises:
        ValueError: the prompt names a textual inversion, `embedding:name`, or nests hundreds of parentheses.
    """
    hidden = text.replace("\\)", "\0\1").replace("\\(", "\0\2")
    if _depth(hidden) > _DEEPEST:
        raise ValueError(f"the prompt nests parentheses more than {_DEEPEST} deep; take some away")
    found = [Segment(piece.replace("\0\1", ")").replace("\0\2", "("), weight) for piece, weight in _weigh(hidden, 1.0)]
    for piece, _ in found:
        for word in piece.split():
            if word.startswith(_EMBEDDING):
                name = word.rstrip(",")
                raise ValueError(f"{name!r} in the prompt: textual inversions are not supported yet; remove it")
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
