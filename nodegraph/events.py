"""The closed union of what a run tells. The command line, Python and the server read the same stream."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple


class SavedFile(NamedTuple):
    """A file a sink wrote: its place under the `output` or `temp` folder, its path and size."""

    filename: str
    subfolder: str
    type: Literal["output", "temp"]
    path: str
    nbytes: int
    format: str


class RunStarted(NamedTuple):
    """The run begins; `nodes` are planned."""

    run: str
    nodes: int


class NodeCached(NamedTuple):
    """A node's result was at hand, in `tier` (`memory` or `disk`)."""

    run: str
    node: str
    class_type: str
    tier: str


class NodeStarted(NamedTuple):
    """A node begins; `why` it was not at hand."""

    run: str
    node: str
    class_type: str
    why: str


class NodeProgress(NamedTuple):
    """Step `step` of `total` of a node is done.

    Attributes:
        per_second: steps a second since the first that was told; None with that one.
        seconds_left: what the rest takes at that pace.
    """

    run: str
    node: str
    step: int
    total: int
    per_second: float | None = None
    seconds_left: float | None = None


class NodePreview(NamedTuple):
    """A small picture of a node's work so far, encoded."""

    run: str
    node: str
    format: str
    image: bytes


class NodeFinished(NamedTuple):
    """A node ran: how long, how many bytes it made."""

    run: str
    node: str
    class_type: str
    seconds: float
    nbytes: int


class Saved(NamedTuple):
    """A sink's file is in place; `is_cached` when it was there from an earlier run."""

    run: str
    node: str
    file: SavedFile
    is_cached: bool


class Shown(NamedTuple):
    """A text that a sink is there to show; `is_cached` when it was shown in an earlier run."""

    run: str
    node: str
    text: str
    is_cached: bool


class Noted(NamedTuple):
    """A sentence about a node that is no error; told again where the node's result is taken from the cache."""

    run: str
    node: str
    text: str


class NodeFailed(NamedTuple):
    """A node raised."""

    run: str
    node: str
    class_type: str
    message: str
    inputs: dict[str, str]
    traceback: str
    is_out_of_memory: bool


class NodeBlocked(NamedTuple):
    """A node cannot run as `because` failed."""

    run: str
    node: str
    class_type: str
    because: str


class RunFinished(NamedTuple):
    """The run is over.

    Attributes:
        status: `success`, `error` when a node failed, `cancelled`.
        ran, cached, failed, blocked: numbers of nodes.
        unneeded: nodes not looked at, since what follows them was at hand.
    """

    run: str
    status: Literal["success", "error", "cancelled"]
    seconds: float
    ran: int
    cached: int
    unneeded: int
    failed: int
    blocked: int


Event = (
    RunStarted | NodeCached | NodeStarted | NodeProgress | NodePreview | NodeFinished | Saved | Shown | Noted
    | NodeFailed | NodeBlocked | RunFinished
)  # fmt: skip


def as_json(event: Event) -> dict[str, Any]:
    """The event as a flat JSON object with its `type` first."""
    values = {
        name: value._asdict() if isinstance(value, SavedFile) else value for name, value in event._asdict().items()
    }
    if isinstance(event, NodePreview):
        values["image"] = f"<{len(event.image)} bytes>"
    return {"type": type(event).__name__, **values}
