"""Strengths of a LoRA by block of the UNet, written as text. No torch.

The lists of numbers are those of https://github.com/hako-mikan/sd-webui-lora-block-weight; its presets are here ranges
of blocks, so that they mean the same for every family and for LoRAs of convolutions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

Blocks = tuple[tuple[str, float], ...]
"""Factors by block: BASE (text encoders), IN00.., MID, OUT00... A block that is not named has 1."""

_DEPTH = 12  # of the deepest UNets
_IN, _OUT = (tuple(f"{side}{n:02}" for n in range(_DEPTH)) for side in ("IN", "OUT"))
_ALL = ("BASE", *_IN, "MID", *_OUT)


def _listed(ins: tuple[int, ...] | range, outs: range) -> tuple[str, ...]:
    return ("BASE", *(_IN[n] for n in ins), "MID", *(_OUT[n] for n in outs))


_LISTS: Mapping[int, tuple[str, ...]] = {
    12: _listed((4, 5, 7, 8), range(6)),
    17: _listed((1, 2, 4, 5, 7, 8), range(3, 12)),
    20: _listed(range(9), range(9)),
    26: _ALL,
}
PRESETS: Mapping[str, tuple[str, ...]] = {
    "NONE": (), "ALL": _ALL,
    "INS": ("BASE", *_IN[:5]), "IND": ("BASE", *_IN[5:]), "INALL": ("BASE", *_IN),
    "MIDD": ("BASE", *_IN[5:], "MID", *_OUT[:7]),
    "OUTD": ("BASE", *_OUT[:7]), "OUTS": ("BASE", *_OUT[7:]), "OUTALL": ("BASE", *_OUT),
}  # fmt: skip
_RANGE = re.compile(r"(IN|OUT)(\d{1,2})-(?:\1)?(\d{1,2})$")
_SINGLE = re.compile(r"(IN|OUT)(\d{1,2})$")
_PLACE = re.compile(r"(input|middle|output)_blocks?\.(\d+)\.")


def parse_blocks(text: str) -> Blocks:
    """Reads the strengths of blocks.

    Args:
        text: 12, 17, 20 or 26 numbers, of which what they leave out has 0; the name of a preset; or pairs such as
            `BASE:0, IN01:0.5, OUT03-05:0`, of which what they leave out has 1. Nothing is 1 everywhere.

    Raises:
        ValueError: it is none of these.
    """
    words = [word for word in re.split(r"[,\s]+", re.sub(r"\s*:\s*", ":", text.strip().upper())) if word]
    if len(words) == 1 and ":" not in words[0] and words[0] in PRESETS:
        chosen = PRESETS[words[0]]
        return tuple((block, 1.0 if block in chosen else 0.0) for block in _ALL)
    if any(":" in word for word in words):
        return tuple({block: factor for word in words for block, factor in _pair(word)}.items())
    if words and not all(_is_number(word) for word in words):
        raise ValueError(
            f"{text.strip()[:60]!r} gives no strengths of blocks; expected numbers, pairs such as IN01:0.5, or one of "
            + ", ".join(PRESETS)
        )
    if words and len(words) not in _LISTS:
        raise ValueError(f"{len(words)} numbers are given; expected 12 (SDXL), 17 (SD1), 20 or 26 (every block)")
    given = dict(zip(_LISTS.get(len(words), ()), map(float, words), strict=False))
    return tuple((block, given.get(block, 0.0)) for block in _ALL) if words else ()


def block_of(role: str, name: str) -> str:
    """The block that a tensor belongs to; "" for those of a UNet outside its blocks."""
    if role != "unet":
        return "BASE"
    found = _PLACE.match(name)
    if found is None:
        return ""
    return {"input": f"IN{int(found[2]):02}", "middle": "MID", "output": f"OUT{int(found[2]):02}"}[found[1]]


def _pair(word: str) -> Iterator[tuple[str, float]]:
    name, _, number = word.partition(":")
    if not _is_number(number):
        raise ValueError(f"{word!r} is no block with its number; expected one such as IN01:0.5")
    if name in ("MID", "M00", "BASE"):
        blocks = ["BASE" if name == "BASE" else "MID"]
    elif name in ("IN", "OUT"):
        blocks = [f"{name}{n:02}" for n in range(_DEPTH)]
    elif found := _RANGE.match(name) or _SINGLE.match(name):
        first, last = int(found[2]), int(found[found.lastindex or 2])
        blocks = [f"{found[1]}{n:02}" for n in range(first, last + 1)]
    else:
        blocks = []
    if not blocks or not set(blocks) <= set(_ALL):
        raise ValueError(
            f"{name!r} is no block or range of blocks; expected BASE, IN00 to IN11, MID, OUT00 to OUT11, IN, OUT, or a "
            "range such as OUT03-05"
        )
    for block in blocks:
        yield block, float(number)


def _is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False
