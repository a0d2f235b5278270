"""Every error a user can meet. Each message reads `where: what; expected; nearest fix`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import Enum


class Kind(str, Enum):
    """What sort of problem a document has; decides the exit code and the HTTP status."""

    INVALID = "invalid"
    MISSING_NODE = "missing_node"
    MISSING_MODEL = "missing_model"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a document: where it is, what it is, what was expected and the nearest fix.

    `type` is ComfyUI's name for the mistake where it has one (`required_input_missing`, `value_not_in_list`, ...).
    """

    what: str
    node: str | None = None
    class_type: str | None = None
    input: str | None = None
    expected: str | None = None
    fix: str | None = None
    type: str = "invalid"
    kind: Kind = Kind.INVALID

    @property
    def where(self) -> str:
        """The place as people read it: `node 3 (KSampler) steps`."""
        if self.node is None:
            return "workflow"
        class_type = f" ({self.class_type})" if self.class_type else ""
        return f"node {self.node}{class_type}" + (f" {self.input}" if self.input else "")

    def __str__(self) -> str:
        return "; ".join(
            filter(None, [f"{self.where}: {self.what}", self.expected and f"expected {self.expected}", self.fix])
        )

    def as_json(self) -> dict[str, str | None]:
        """The problem as a flat JSON object."""
        return {**asdict(self), "kind": self.kind.value, "message": str(self)}


class NodegraphError(Exception):
    """Base of everything raised on purpose; the message is one sentence for the user."""


class WorkflowError(NodegraphError):
    """A document that cannot run. Holds every problem found, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))

    @classmethod
    def of(cls, what: str, expected: str | None = None, fix: str | None = None) -> WorkflowError:
        """An error of the document as a whole."""
        return cls([Problem(what, expected=expected, fix=fix)])

    @property
    def is_only_missing(self) -> bool:
        """True when the document is sound and only models or nodes are not installed."""
        return all(problem.kind is not Kind.INVALID for problem in self.problems)


class DefinitionError(NodegraphError):
    """A node definition that breaks the rules; raised when its file is loaded, with the fix."""


class FileProblem(NodegraphError):
    """A file that is missing, unreadable, of the wrong kind or outside its folder."""


class StorageError(NodegraphError):
    """A disk that is full, read-only or failing, in one sentence."""


class NodeError(NodegraphError):
    """A node that failed while running.

    Attributes:
        node: id of the node.
        class_type: its type.
        inputs: its input values, shortened for display.
        input: the input at fault, where known.
        traceback: the node's own traceback.
        is_out_of_memory: True when the device ran out of memory.
    """

    def __init__(
        self, node: str, class_type: str, message: str, *, inputs: dict[str, str] | None = None,
        input: str | None = None, traceback: str = "", is_out_of_memory: bool = False,
    ) -> None:  # fmt: skip
        self.node, self.class_type, self.message = node, class_type, message
        self.inputs, self.input, self.traceback = inputs or {}, input, traceback
        self.is_out_of_memory = is_out_of_memory
        super().__init__(f"node {node} ({class_type})" + (f" {input}" if input else "") + f": {message}")


class Interrupted(BaseException):
    """The run was cancelled. A BaseException, so that a node's `except Exception` cannot swallow it."""


_SHOWN = 3


def some_of(names: Sequence[str]) -> str:
    """The first three of some names, and how many more there are: `a, b, c and 2 more`."""
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice most like `word`, or None when nothing is close. Case and separators count little."""
    options = [choice for choice in choices if choice]
    folded = {option.casefold().replace("-", "_").replace(" ", "_"): option for option in reversed(options)}
    key = word.casefold().replace("-", "_").replace(" ", "_")
    if key in folded:
        return folded[key]
    found = difflib.get_close_matches(key, folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def did_you_mean(word: str, choices: Iterable[str]) -> str | None:
    """`did you mean 'euler'?`, or None."""
    found = nearest(word, choices)
    return None if found is None else f"did you mean {found!r}?"
