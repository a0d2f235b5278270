"""The vocabulary of node signatures: ports, widgets, choices, files, lazy inputs and lists."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")
ANY = "*"


@dataclass(frozen=True, slots=True)
class Port:
    """Names the type of a link: `Annotated[Tensor, Port("IMAGE")]`. `"*"` fits anything.

    Values on ports marked `kin` must come from files of one family where they meet (a model and its prompts).
    """

    name: str
    kin: bool = False


@dataclass(frozen=True, slots=True)
class Widget:
    """How a literal is edited: hints for canvases and command lines, never for validation."""

    multiline: bool = False
    step: float | None = None
    round: float | None = None
    display: str | None = None
    tooltip: str | None = None
    control_after_generate: bool = False
    image_upload: bool = False
    dynamic_prompts: bool = False
    label_on: str | None = None
    label_off: str | None = None


@dataclass(frozen=True, slots=True)
class Choices:
    """The values a string input may take, in the order they are shown."""

    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Names:
    """The inputs that `**values` stands for, all alike: for names that no parameter can have, such as `out.`.

    `**ratios: Annotated[float, Names(("time_embed.", "out."), default=1.0)]`
    """

    names: tuple[str, ...]
    default: Any


@dataclass(frozen=True, slots=True)
class File:
    """Marks an input as the name of a file of one kind (`checkpoints`, `loras`, `input`, ...).

    The document holds the name; the key holds the content; the node receives a `FileRef`.
    """

    kind: str


class FileRef(NamedTuple):
    """A file found on this machine: the name in the document, its path, and the digest of its content."""

    name: str
    path: str
    digest: str


class Each(tuple[T, ...], Generic[T]):
    """A result that maps the nodes after it: each item runs them once (ComfyUI's OUTPUT_IS_LIST)."""

    __slots__ = ()


class Lazy(Generic[T]):
    """A handle to an input that has not been evaluated.

    A control node returns it to forward the input without touching it, or awaits it to get its value.
    """

    __slots__ = ("_fetch", "source")

    def __init__(self, source: object, fetch: Callable[[object], Awaitable[T]]) -> None:
        self.source = source
        self._fetch = fetch

    def __await__(self) -> Generator[Any, Any, T]:
        return self._fetch(self.source).__await__()


def bypassed(output: object, slot: int, inputs: Sequence[object]) -> int | None:
    """The place of the input that a skipped node passes on for an output, by ComfyUI's rule; None where none fits.

    That of the output's own place comes first, then each in turn; the same type goes before any type.

    Args:
        output: type of the output.
        slot: place of the output.
        inputs: types of the inputs, in their order.
    """
    places = [*([slot] if 0 <= slot < len(inputs) else []), *range(len(inputs))]
    if output == ANY:
        return next(iter(places), None)
    exact = next((place for place in places if inputs[place] == output), None)
    return next((place for place in places if inputs[place] == ANY), None) if exact is None else exact


def accepts(source: str, target: str) -> bool:
    """True when an output of type `source` may feed an input of type `target`.

    `*` fits anything on either side; `"A,B"` is a union; INT widens to FLOAT; a COMBO is a string.
    """
    if source == target or ANY in (source, target):
        return True
    sources, targets = set(source.split(",")), set(target.split(","))
    if "INT" in sources:
        sources.add("FLOAT")
    if sources & {"COMBO", "STRING"}:
        sources |= {"COMBO", "STRING"}
    return ANY in sources or ANY in targets or not sources.isdisjoint(targets)
