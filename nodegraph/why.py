"""Why a node ran: its recipe now against its recipe last time, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from nodegraph.graph import Ref
from nodegraph.plan import Step
from nodegraph.types import FileRef

FIRST = "first run"
GONE = "its result is no longer in the cache"
NOT_KEPT = "its result was not kept on disk"
CHOOSES = "it chooses what runs"
ALWAYS = "it runs every time"
LONGEST = 40


class Recipe(NamedTuple):
    """How a node was run: type, code, key, and each input as bytes of its key and as words."""

    type: str
    version: str
    key: bytes
    parts: tuple[bytes, ...]
    words: Mapping[str, str]

    @classmethod
    def of(cls, step: Step) -> Recipe:
        """The recipe of a step that has its key."""
        words = {name: _words(step.arguments.get(name)) for name in (item.name for item in step.spec.inputs)}
        return cls(step.spec.name, step.spec.version, step.key or b"", step.parts, words)

    def as_json(self) -> dict[str, Any]:
        """As the disk tier keeps it."""
        return {**self._asdict(), "key": self.key.hex(), "parts": [part.hex() for part in self.parts]}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Recipe:
        """As it was kept."""
        parts = tuple(bytes.fromhex(part) for part in found["parts"])
        return cls(found["type"], found["version"], bytes.fromhex(found["key"]), parts, found["words"])


def why(before: Recipe | None, step: Step) -> str:
    """The reason in words: the first input that differs, the code, the settings, or a lost result."""
    if step.spec.kind == "control":
        return CHOOSES
    if not step.spec.is_cached:
        return ALWAYS
    if before is None:
        return FIRST
    now = Recipe.of(step)
    if before.key == now.key:
        return GONE
    if before.type != now.type:
        return f"its type changed from {before.type} to {now.type}"
    reasons = [
        _difference(name, before.words.get(name, "nothing"), now.words[name], step.arguments.get(name))
        for index, name in enumerate(now.words)
        if index >= len(before.parts) or index >= len(now.parts) or before.parts[index] != now.parts[index]
    ]
    if before.version != now.version:
        reasons.insert(0, "its code changed")
    if len(now.parts) > len(now.words) and before.parts[len(now.words) :] != now.parts[len(now.words) :]:
        reasons.append("what it reads outside the workflow changed")
    return "; ".join(reasons) or "settings changed (device, dtype, output folder or versions)"


def _difference(name: str, before: str, now: str, argument: Any) -> str:
    if isinstance(argument, Ref):
        return (
            f"{name} changed upstream (node {argument.node})"
            if before == now
            else f"{name} changed from {before} to {now}"
        )
    if isinstance(argument, FileRef) and before == now:
        return f"the content of {name} {now} changed"
    return f"{name} changed from {before} to {now}"


def _words(value: Any) -> str:
    if isinstance(value, Ref):
        return f"node {value.node} output {value.slot}"
    text = repr(value.name if isinstance(value, FileRef) else value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
