"""AUTOMATIC1111's prompts: schedules, alternation, AND, emphasis and BREAK; its chunks and its weights.

Source: AUTOMATIC1111/stable-diffusion-webui 1.10, `prompt_parser.py`, `sd_hijack_clip.py`, `sd_emphasis.py`, for what
a prompt means; the code is our own. No torch at import, so that planning can read prompts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from nodes.diffusion.prompts import DEEPEST, pieces, tag_problems
from nodes.types import Cond

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph.files import Folders
    from nodes.diffusion.architecture import ClipConfig
    from nodes.diffusion.checkpoints import Part
    from nodes.diffusion.text import Chunk, Encoding, Find, Token, Use

_ROOM = 75  # tokens of a chunk without its start and end
_BACK = 20  # a chunk that is full ends at its last comma, if that is no farther back
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)"
_AND = re.compile(r"\bAND\b")
_WHEN = re.compile(rf"\s*({_NUMBER}(?:[eE][-+]?\d+)?)\s*")
_MARKS = re.compile(r"\\.|[\[\]():|]|[^\\\[\]():|]+|\\", re.DOTALL)
_EMPHASIS = re.compile(rf"\\[()\[\]\\]|\\|[(\[]|:\s*({_NUMBER})\s*\)|[)\]]|[^\\()\[\]:]+|:")
_BREAK = re.compile(r"\bBREAK\b")


class Subprompt(NamedTuple):
    """One of the prompts that AND joins.

    Attributes:
        texts: the last step of each text, from 1, and the text; the last one's step is that of the whole.
        weight: its share.
    """

    texts: tuple[tuple[int, str], ...]
    weight: float


class Run(NamedTuple):
    """A piece of a text and the weight of its tokens; at a break the chunk ends."""

    text: str
    weight: float
    is_break: bool = False


def read(text: str, steps: int) -> list[Subprompt]:
    """Reads a prompt: `a AND b :0.7`, and in each part `[from:to:when]`, `[to:when]`, `[from::when]`, `[a|b]`.

    A `when` with a point is a fraction of the steps, else a step. What is no such form stays text. Weights of parts
    are read only beside an AND.

    Raises:
        ValueError: a tag asks for a LoRA or hypernetwork, brackets nest hundreds deep, or the weights of AND do not
            sum to more than 0.
    """
    for problem in tag_problems(text):
        raise ValueError(problem)
    parts = _AND.split(text)
    if len(parts) == 1:
        return [Subprompt(schedule(text, steps), 1.0)]
    found = [Subprompt(schedule(part, steps), weight) for part, weight in map(_share, parts)]
    if sum(prompt.weight for prompt in found) <= 0:
        raise ValueError("the weights of the parts that AND joins sum to 0 or less; expected a sum above 0")
    return found


def _share(part: str) -> tuple[str, float]:
    """A part of AND without the weight it ends in, and that weight."""
    text, _, number = part.rstrip().rpartition(":")
    if re.fullmatch(_NUMBER, number.strip()) and not text.endswith("embedding"):
        return text.rstrip(), float(number)
    return part.rstrip(), 1.0


def embedding_names(text: str, steps: int) -> list[str]:
    """The embeddings that a prompt names, each once.

    Raises:
        ValueError: as for `read`, or a name is missing.
    """
    texts = dict.fromkeys(variant for prompt in read(text, steps) for _, variant in prompt.texts)
    found = [piece for variant in texts for run in emphasis(variant) for piece in pieces(run.text)]
    return list(dict.fromkeys(piece.text for piece in found if piece.is_embedding))


@dataclass(frozen=True, slots=True)
class _Timed:
    before: list[_Node]
    after: list[_Node]
    when: int


@dataclass(frozen=True, slots=True)
class _Cycle:
    options: list[list[_Node]]


_Node = str | _Timed | _Cycle


@dataclass(slots=True)
class _Bracket:
    """An open bracket: what stands between the separators in it."""

    opener: str
    parts: list[list[_Node]] = field(default_factory=lambda: [[]])
    separators: list[str] = field(default_factory=list)

    def as_text(self) -> list[_Node]:
        found: list[_Node] = [self.opener, *self.parts[0]]
        for separator, part in zip(self.separators, self.parts[1:], strict=True):
            found += [separator, *part]
        return found


def schedule(text: str, steps: int) -> tuple[tuple[int, str], ...]:
    """What a text is at each step: the last step, from 1, and the text, for each stretch in turn.

    Raises:
        ValueError: brackets nest hundreds deep.
    """
    tree = _parse(text, steps)
    ends = sorted({steps, *_changes(tree, steps)})
    return tuple((end, _at(tree, end)) for end in ends)


def _parse(text: str, steps: int) -> list[_Node]:
    stack = [_Bracket("")]
    for mark in _MARKS.findall(text):
        top = stack[-1]
        opener = {")": "(", "]": "["}.get(mark)
        if mark in ("(", "["):
            stack.append(_Bracket(mark))
            if len(stack) > DEEPEST:
                raise ValueError(f"the prompt nests brackets more than {DEEPEST} deep; take some away")
        elif opener is not None and any(bracket.opener == opener for bracket in stack):
            while stack[-1].opener != opener:  # one that is never closed is text
                unclosed = stack.pop()
                stack[-1].parts[-1] += unclosed.as_text()
            closed = stack.pop()
            stack[-1].parts[-1] += _closed(closed, mark, steps)
        elif mark in (":", "|") and top.opener == "[" and not _ends_with_embedding(top.parts[-1]):
            top.separators.append(mark)
            top.parts.append([])
        else:
            top.parts[-1].append(mark)
    while len(stack) > 1:
        unclosed = stack.pop()
        stack[-1].parts[-1] += unclosed.as_text()
    return stack[0].parts[0]


def _closed(bracket: _Bracket, closer: str, steps: int) -> list[_Node]:
    """What a pair of brackets stands for: a change at a step, an alternation, or text."""
    if bracket.separators and set(bracket.separators) == {"|"}:
        return [_Cycle(bracket.parts)]
    if bracket.separators in ([":"], [":", ":"]):
        *before, after, last = bracket.parts
        match = _WHEN.fullmatch("".join(part if isinstance(part, str) else "?" for part in last))
        if match is not None:
            when = float(match[1]) * (steps if "." in match[1] else 1)
            return [_Timed(before[0] if before else [], after, int(min(max(when, -1), steps)))]
    return [*bracket.as_text(), closer]


def _ends_with_embedding(nodes: Sequence[_Node]) -> bool:
    last = nodes[-1] if nodes else ""
    return isinstance(last, str) and re.search(r"(?:^|[ \n])embedding$", last) is not None


def _changes(nodes: Iterable[_Node], steps: int) -> set[int]:
    """The steps, before the last, after which the text may be another."""
    found: set[int] = set()
    for item in nodes:
        if isinstance(item, _Timed):
            found |= {item.when} & set(range(1, steps))
            found |= _changes([*item.before, *item.after], steps)
        elif isinstance(item, _Cycle):
            found.update(range(1, steps))
    return found


def _at(nodes: Iterable[_Node], step: int) -> str:
    """The text at a step."""
    found: list[str] = []
    for item in nodes:
        if isinstance(item, _Timed):
            found.append(_at(item.before if step <= item.when else item.after, step))
        elif isinstance(item, _Cycle):
            found.append(_at(item.options[(step - 1) % len(item.options)], step))
        else:
            found.append(item)
    return "".join(found)


def emphasis(text: str) -> list[Run]:
    r"""Reads weights: `(x)` 1.1, `[x]` 1 / 1.1, `(x:1.3)` 1.3, which multiply where they nest; `\(` is a parenthesis.

    A bracket that is never closed holds the rest, one that was never opened is text, BREAK ends a chunk.
    """
    found: list[Run] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}
    factors = {"(": 1.1, "[": 1 / 1.1}

    def multiply(start: int, factor: float) -> None:
        found[start:] = [run._replace(weight=run.weight * factor) for run in found[start:]]

    for match in _EMPHASIS.finditer(text):
        mark = match[0]
        opener = {")": "(", "]": "["}.get(mark[-1])
        if mark.startswith("\\"):
            found.append(Run(mark[1:], 1.0))
        elif mark in opened:
            opened[mark].append(len(found))
        elif opener is not None and opened[opener]:
            multiply(opened[opener].pop(), factors[opener] if match[1] is None else float(match[1]))
        else:
            first, *others = _BREAK.split(mark)
            found.append(Run(first.rstrip() if others else first, 1.0))
            for other in others:
                found += [Run("", 1.0, is_break=True), Run(other.lstrip(), 1.0)]
    for opener, starts in opened.items():
        for start in starts:
            multiply(start, factors[opener])
    return _merged(found)


def _merged(runs: Iterable[Run]) -> list[Run]:
    """Neighbours of equal weight as one, so that a word that brackets cut is one word."""
    found: list[Run] = []
    for run in runs:
        if found and not run.is_break and not found[-1].is_break and run.weight == found[-1].weight:
            found[-1] = run._replace(text=found[-1].text + run.text)
        elif run.text or run.is_break:
            found.append(run)
    return found


def tokenize(text: str, pad: int, find: Find | None = None) -> list[Chunk]:
    """Cuts a text without schedules into chunks of 77 tokens with their weights; `pad` fills each.

    A chunk that is full ends after its last comma where that is among its last 20 tokens; BREAK ends it too.

    Args:
        text: the prompt at some step.
        pad: the token after the end.
        find: the vectors of an embedding; needed only where the prompt names one.
    """
    from nodes.diffusion.text import filled, tokens_of, tokens_of_piece

    comma = tokens_of(",")
    chunks: list[Chunk] = []
    chunk: list[tuple[Token, float]] = []
    last = -1  # the place of the last comma in the chunk

    def close(stop: int) -> None:
        nonlocal chunk, last
        chunks.append(filled(chunk[:stop], pad))
        chunk, last = chunk[stop:], -1

    for run in emphasis(text):
        if run.is_break:
            close(_ROOM)
        for piece in pieces(run.text):
            tokens = tokens_of_piece(piece, find)
            for group in [tokens] if piece.is_embedding else [[token] for token in tokens]:
                if not piece.is_embedding and group == comma:
                    last = len(chunk)
                elif len(chunk) == _ROOM and last >= 0 and _ROOM - last <= _BACK:
                    close(last + 1)
                if len(chunk) + len(group) > _ROOM and chunk:
                    close(_ROOM)
                chunk += [(token, run.weight) for token in group]
                while len(chunk) > _ROOM:  # an embedding longer than a chunk
                    close(_ROOM)
    if chunk or not chunks:
        close(_ROOM)
    return chunks


def encode(
    encoders: Sequence[Part[ClipConfig]], text: str, use: Use, *, steps: int, normalize: bool = True,
    layer: int | None = None, files: Folders | None = None,
) -> tuple[Cond, ...]:  # fmt: skip
    """Encodes a prompt: one conditioning for each stretch of steps of each part that AND joins.

    Stretches are told as `start_percent` and `end_percent`, parts as `strength`. The sampler takes the mean of the
    parts weighed by strength, where composable diffusion (Liu et al. 2022, arXiv:2206.01714, eq. 11) adds
    cfg * w (cond - uncond) for each: the same with cfg times the sum of the weights.

    Args:
        encoders: one text encoder, or CLIP-L and OpenCLIP-G.
        text: the prompt.
        use: lends the module of a part.
        steps: of the sampler.
        normalize: give the states of each chunk the mean they had before their weights.
        layer: the layer whose states are taken, -1 the last; None for the one the model was trained on.
        files: where the embeddings are that the prompt names.

    Raises:
        ValueError: as for `read`; there is no encoder, or an embedding is not of its width.
        FileProblem: an embedding is not there.
    """
    prompts = read(text, steps)
    encoded = [
        _encode(encoders, [text for _, text in prompt.texts], use, normalize, layer, files) for prompt in prompts
    ]
    longest = max(found.tokens.shape[1] for table in encoded for found in table.values())
    conds: list[Cond] = []
    for prompt, table in zip(prompts, encoded, strict=True):
        share: dict[str, Any] = {"strength": prompt.weight} if len(prompts) > 1 else {}
        tokens = {variant: _lengthened(found.tokens, longest) for variant, found in table.items()}
        for variant, stretch in _stretches(prompt.texts):
            conds.append(Cond(tokens[variant], table[variant].pooled, {**share, **stretch}))
    return tuple(conds)


def _stretches(texts: Sequence[tuple[int, str]]) -> list[tuple[str, dict[str, float]]]:
    """Each text in turn and the part of the sampling it is for; no options where there is but one.

    Step i of n, from 0, lies at i / n of the time in schedules such as `simple`, and at i / (n - 1) in `normal`;
    (2 i - 1) / (2 n - 1) lies between step i - 1 and step i in both.
    """
    steps = texts[-1][0]
    merged: list[tuple[int, str]] = []
    for end, text in texts:
        if merged and merged[-1][1] == text:
            merged.pop()
        merged.append((end, text))
    if len(merged) == 1:
        return [(merged[0][1], {})]
    ends = [(2 * end - 1) / (2 * steps - 1) for end, _ in merged[:-1]]
    return [
        (text, {"start_percent": start, "end_percent": end})
        for (_, text), start, end in zip(merged, [0.0, *ends], [*ends, 1.0], strict=True)
    ]


def _lengthened(tokens: Tensor, length: int) -> Tensor:
    """Tokens [1, T, D] with the last repeated up to a length, as parts of unequal length are made equal."""
    return tokens[:, [min(place, tokens.shape[1] - 1) for place in range(length)]]


def _encode(
    encoders: Sequence[Part[ClipConfig]], texts: Sequence[str], use: Use, normalize: bool, layer: int | None,
    files: Folders | None,
) -> dict[str, Encoding]:  # fmt: skip
    """Each text of a schedule, all of one length; they share the means that `normalize` restores."""
    import torch

    from nodes.diffusion.text import Encoding, check_encoders, finder

    check_encoders(encoders)
    counts = Counter(texts)
    tables = [
        {text: tokenize(text, part.config.pad_token, finder(files, part)) for text in counts} for part in encoders
    ]
    length = max(len(chunks) for table in tables for chunks in table.values())
    found: list[dict[str, Encoding]] = []
    for part, table in zip(encoders, tables, strict=True):
        empty = tokenize("", part.config.pad_token)
        whole = {text: [*chunks, *empty * (length - len(chunks))] for text, chunks in table.items()}
        with use(part) as model:
            found.append(_weighed(model, whole, counts, normalize, layer))
    return {
        text: Encoding(torch.cat([one[text].tokens for one in found], dim=-1), found[-1][text].pooled)
        for text in counts
    }


def _weighed(
    model: Any, table: dict[str, list[Chunk]], counts: Counter[str], normalize: bool, layer: int | None
) -> dict[str, Encoding]:
    """The states of texts times their weights; the mean of each chunk is restored, over all texts together."""
    import torch

    from nodes.diffusion.text import Encoding, states, weights_of

    with torch.no_grad():
        found = {text: states(model, chunks, layer) for text, chunks in table.items()}
        weighed = {text: encoded.hidden * weights_of(table[text]).to(encoded.hidden) for text, encoded in found.items()}
        if normalize:
            before = sum(counts[text] * encoded.hidden.mean((1, 2), keepdim=True) for text, encoded in found.items())
            after = sum(counts[text] * z.mean((1, 2), keepdim=True) for text, z in weighed.items())
            weighed = {text: z * (before / after) for text, z in weighed.items()}
    return {text: Encoding(z.flatten(0, 1)[None], found[text].pooled[:1]) for text, z in weighed.items()}
