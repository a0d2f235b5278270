"""What AUTOMATIC1111's web UI writes beside a picture, read: prompts, then a line of fields. Nothing executes here.

Source: AUTOMATIC1111/stable-diffusion-webui 1.10, Forge and SD.Next, for what their texts mean; the code is our own.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from nodegraph.errors import WorkflowError

_FIELDS = re.compile(r"^Steps: ?\d+,", re.MULTILINE)
_NAME = re.compile(r'\s*([^\s,:"][^,:"]*):\s*')
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_NEGATIVE = re.compile(r"^Negative prompt:", re.MULTILINE)
_TAG = re.compile(r"<(\w+):([^<>]+)>")
_NUMBER = re.compile(r"\s*[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?\s*")


class Infotext(NamedTuple):
    """A text as A1111 writes it.

    Attributes:
        prompt, negative: as they were written, with their tags.
        fields: the values after `Steps:`, that one included, by name.
        rest: lines that came after the fields.
    """

    prompt: str
    negative: str
    fields: Mapping[str, str]
    rest: str = ""


class Network(NamedTuple):
    """A LoRA or hypernetwork that a prompt loads with a tag.

    Attributes:
        kind: `loras` or `hypernetworks`; empty for tags of extensions, which have all that they say in `name`.
        name: as the tag has it, which is the name of a file without its ending.
        model, clip: strengths for the UNet and for the text encoders.
        extra: arguments of the tag that extensions read, such as weights by block.
    """

    kind: str
    name: str
    model: float
    clip: float
    extra: tuple[str, ...] = ()


def is_infotext(text: str) -> bool:
    """True for a text with a line of fields such as `Steps: 20, Sampler: Euler a, Seed: 1`."""
    return _start(text) is not None


def read(text: str) -> Infotext:
    """Reads a text that A1111 or one of its kin wrote.

    Raises:
        WorkflowError: it has no line of fields.
    """
    text = text.replace("\r\n", "\n").strip("\n\0 ")
    start = _start(text)
    if start is None:
        raise WorkflowError.of("it is no text of A1111's", "a line such as 'Steps: 20, Sampler: Euler a, Seed: 1'")
    line, _, rest = text[start:].partition("\n")
    whole = text[:start]
    parts = _NEGATIVE.split(whole, maxsplit=1)
    return Infotext(parts[0].strip(), parts[1].strip() if len(parts) > 1 else "", fields_of(line), rest.strip())


def fields_of(line: str) -> dict[str, str]:
    """`A: 1, B: "x, y"` as names and values; a value is quoted, JSON, or goes up to the next comma."""
    found: dict[str, str] = {}
    place = 0
    while match := _NAME.match(line, place):
        place = match.end()
        value, place = _value(line, place)
        found[match[1].rstrip()] = value
        comma = line.find(",", place)
        if comma < 0:
            break
        place = comma + 1
    return found


def without_networks(prompt: str) -> tuple[str, list[Network]]:
    """A prompt without its `<lora:name:0.8>` and `<hypernet:name:1>`, and what these ask for, in order."""
    return _TAG.sub("", prompt).strip(), [_network(match[1].lower(), match[2]) for match in _TAG.finditer(prompt)]


def with_embeddings(prompt: str, names: Iterable[str]) -> str:
    """A prompt with `embedding:name` wherever it has one of these names as a word of its own, whatever its case."""
    known = {name.casefold(): name for name in names}
    if not known:
        return prompt
    longest = sorted(known, key=len, reverse=True)
    word = re.compile(rf"(?<!embedding:)(?<![\w.-])({'|'.join(map(re.escape, longest))})(?!\.?\w|-)", re.IGNORECASE)

    def named(match: re.Match[str]) -> str:
        start, end = match.span()
        before = "" if prompt[max(start - 1, 0) : start] in ("", " ", "\n", "(", "[") else " "
        after = "" if prompt[end : end + 1] in ("", " ", "\n", ",", ")", "]", ":", "|") else " "
        return f"{before}embedding:{known[match[1].casefold()]}{after}"

    return word.sub(named, prompt)


def number(text: str) -> float | None:
    """A number, or None."""
    return found if _NUMBER.fullmatch(text) and math.isfinite(found := float(text)) else None


def _start(text: str) -> int | None:
    """Where the line of fields begins: the last that could be one."""
    found = [match.start() for match in _FIELDS.finditer(text)]
    return found[-1] if found else None


def _value(line: str, place: int) -> tuple[str, int]:
    """The value that begins at a place, and where it ends."""
    quoted = _QUOTED.match(line, place)
    try:
        if quoted is not None:
            return str(json.loads(quoted[0])).encode(errors="replace").decode(), quoted.end()
        if line[place : place + 1] in ("[", "{"):
            _, end = json.JSONDecoder().raw_decode(line, place)
            return line[place:end], end
    except (ValueError, RecursionError):
        pass  # it only looked like one
    end = line.find(",", place)
    end = len(line) if end < 0 else end
    return line[place:end].strip(), end


def _network(kind: str, arguments: str) -> Network:
    """`name:te:unet`, or `te=` and `unet=`: the UNet's strength is by default that of the text encoders, which is 1."""
    name, *rest = arguments.split(":")
    numbers: list[float] = []
    named: dict[str, float] = {}
    extra: list[str] = []
    for item in rest:
        key, equals, text = item.partition("=")
        value = number(text if equals else item)
        if value is None or (equals and key not in ("te", "unet")) or len(numbers) > 1:
            extra.append(item)
        elif equals:
            named[key] = value
        else:
            numbers.append(value)
    clip = named.get("te", numbers[0] if numbers else 1.0)
    model = named.get("unet", numbers[1] if len(numbers) > 1 else clip)
    where = "hypernetworks" if kind == "hypernet" else "loras"
    if kind not in ("lora", "lyco", "hypernet"):
        where, name, extra = "", f"{kind}:{arguments}", []
    return Network(where, name.strip(), model, clip, tuple(extra))
