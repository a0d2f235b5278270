"""The engine's events of a run as the messages of ComfyUI's WebSocket, in the order in which ComfyUI sends them."""

from __future__ import annotations

import json
import re
import struct
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from server.prompt_graph import class_type_of, outer, parent_of, spared

RUNNING_SHOWN = 16
FORMATS: Mapping[str, int] = {"jpeg": 1, "png": 2}

_KINDS: Mapping[str, Iterable[str]] = {
    "images": ("png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "mp4", "webm"),
    "audio": ("flac", "mp3", "opus", "wav", "ogg"),
    "latents": ("latent",),
    "3d": ("glb", "gltf", "obj"),
}
_KIND_OF = {format: kind for kind, formats in _KINDS.items() for format in formats}
_MOVING = ("mp4", "webm", "gif")


class Message(NamedTuple):
    """One message for the clients of a run.

    Attributes:
        type: as ComfyUI names it; `preview` for a picture, which goes out as a binary frame.
        data: what it says; of a picture, what goes before it in a frame with metadata.
        image: an encoded picture, else None.
        format: of the picture, `jpeg` or `png`.
        is_public: it goes to every client where the run was submitted by none.
        is_asked: the run asked for pictures of work under way.
    """

    type: str
    data: dict[str, Any]
    image: bytes | None = None
    format: str = ""
    is_public: bool = False
    is_asked: bool = False


def done(run: str) -> Message:
    """The last message of a run, by which clients know that it is in the history."""
    return Message("executing", {"node": None, "prompt_id": run})


def preview_frame(image: bytes, format: str) -> bytes:
    """A picture as a binary frame: event 1, its format, its bytes."""
    return struct.pack(">II", 1, FORMATS.get(format, FORMATS["jpeg"])) + image


def preview_frame_with_metadata(image: bytes, metadata: Mapping[str, Any]) -> bytes:
    """A picture as a binary frame for clients that know `supports_preview_metadata`: event 4, JSON, its bytes."""
    text = json.dumps(metadata).encode()
    return struct.pack(">II", 4, len(text)) + text + image


def meta_of(outputs: Iterable[str], graph: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What ComfyUI's history tells of the nodes with outputs: where they are on the canvas."""
    return {
        node: {"node_id": node, "display_node": outer(node, graph), "parent_node": _parent(node, graph),
               "real_node_id": outer(node, graph)}
        for node in outputs
    }  # fmt: skip


class Teller:
    """Tells one attempt of a run.

    Args:
        run: its id.
        graph: the nodes that were submitted, as ComfyUI's API format has them.
        targets: ids of the nodes it is run for; None stands for those that nothing links to.
        clock: seconds since 1970.

    Attributes:
        messages: pairs of type and data, as ComfyUI's history keeps them in `status`.
        outputs: files and texts by node, as ComfyUI's history keeps them.
    """

    def __init__(
        self, run: str, graph: Mapping[str, Any], targets: Sequence[str] | None,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.run, self.messages, self.outputs = run, list[list[Any]](), dict[str, dict[str, Any]]()
        self._graph, self._targets, self._clock = graph, targets, clock
        self._wanted = frozenset(targets or ())
        self._ran: dict[str, None] = {}
        self._cached: dict[str, None] = {}
        self._running: dict[str, tuple[float, float]] = {}  # steps done and in all, in the order of their beginning
        self._pending: dict[str, None] = {}  # cached nodes that are not told yet
        self._shown: str | None = None  # a node with texts that are not told yet
        self._failure: Mapping[str, Any] | None = None
        self._last = ""
        self._has_told_cached = False

    @property
    def executed(self) -> list[str]:
        """Ids of the nodes that ran, in order."""
        return list(self._ran)

    @property
    def current(self) -> str | None:
        """The node that began last and still runs."""
        return next(reversed(self._running), None)

    def start(self) -> list[Message]:
        """What is told as the run begins."""
        return [self._milestone("execution_start")]

    def tell(self, event: Mapping[str, Any], image: bytes | None = None) -> list[Message]:
        """What is told on an event of the engine; nothing on those that ComfyUI has no message for.

        Args:
            event: from `nodegraph.events.as_json`.
            image: the picture of a `NodePreview`.
        """
        kind, node = event["type"], event.get("node", "")
        if kind == "NodeCached":
            self._cached[node] = self._pending[node] = None
            return self._told_texts()
        if kind in ("Saved", "Shown"):
            return self._output(event, node)
        if kind in ("RunStarted", "Noted"):
            return []
        found = [*self._told_texts(), *self._told_cached()]
        if kind == "NodeStarted":
            self.outputs.pop(node, None)
            self._running.pop(node, None)
            self._running[node] = 0.0, 1.0
            self._last = node
            found += [self._progress_state(), self._executing(node)]
        elif kind == "NodeProgress" and node in self._running:
            self._running[node] = event["step"], event["total"]
            data = {"value": event["step"], "max": event["total"], "prompt_id": self.run, "node": node}
            found += [self._progress_state(node), Message("progress", data, is_public=True)]
        elif kind == "NodePreview" and image is not None:
            format = "png" if event["format"] == "png" else "jpeg"
            data = {**self._places(node), "image_type": f"image/{format}"}
            found.append(Message("preview", data, image, format))
        elif kind == "NodeFinished":
            self._ran[node] = None
            if node in self.outputs:
                found.append(self._executed(node))
            found.append(self._ended(node, "finished"))
        elif kind == "NodeFailed":
            self._failure = self._failure or event
            found.append(self._ended(node, "error"))
        return found

    def over(self, status: str, error: Mapping[str, Any] | None = None) -> list[Message]:
        """What is told as the run ends; `done` comes after, when the history has it.

        Args:
            status: `success`, `error` or `cancelled`.
            error: what the run failed of, where no node of it told: `message`, and if known `node`, `class_type` and
                `traceback`.
        """
        found = [*self._told_texts(), *self._told_cached()]
        if status == "success":
            return [*found, self._milestone("execution_success")]
        if status == "cancelled":
            node = self.current or self._last
            place = {"node_id": node, "node_type": self._class_type(node), "executed": self.executed}
            return [*found, self._milestone("execution_interrupted", place, is_public=True)]
        return [*found, self._milestone("execution_error", self._error(error or {}))]

    # Parts of these

    def _output(self, event: Mapping[str, Any], node: str) -> list[Message]:
        """Enters a file or a text; tells it at once where the end of its node was told before."""
        found = self._told_texts(node)
        mine = self.outputs.setdefault(node, {})
        if event["type"] == "Saved":
            file = event["file"]
            format = str(file["format"]).lower()
            place = {"filename": file["filename"], "subfolder": file["subfolder"], "type": file["type"]}
            mine.setdefault(_KIND_OF.get(format, "files"), []).append(place)
            if format in _MOVING or "Animated" in self._class_type(node):  # as ComfyUI's SaveAnimatedWEBP and ...PNG
                mine["animated"] = [True]
        else:
            mine.setdefault("text", []).append(event["text"])
        if node in self._pending or not (event["is_cached"] or event["type"] == "Shown"):
            return found
        if len(mine.get("text", ())) > 1:
            self._shown = node  # many texts of one node are told together
            return found
        return [*found, self._executed(node)]

    def _told_texts(self, but: str | None = None) -> list[Message]:
        """What a node had to show, all of it; not yet when more may come from the same node."""
        node = self._shown
        if node is None or node == but:
            return []
        self._shown = None
        return [self._executed(node)]

    def _told_cached(self) -> list[Message]:
        """The nodes found in the cache since the last time, in one message, and what those of them show.

        The first message also names the nodes that are not looked at since everything after them is cached. As in
        ComfyUI it is sent even when it names none.
        """
        is_first, self._has_told_cached = not self._has_told_cached, True
        names = list(self._pending)
        self._pending.clear()
        if not names and not is_first:
            return []
        extra = spared(self._graph, self._targets, names) if is_first and names else []
        found = [self._milestone("execution_cached", {"nodes": [*names, *extra]})]
        return found + [self._executed(node) for node in names if node in self.outputs or node in self._wanted]

    def _ended(self, node: str, state: Literal["finished", "error"]) -> Message:
        value, most = self._running.pop(node, (0.0, 1.0))
        row = self._row(node, most if state == "finished" else value, most, state)
        return self._progress_state(extra={node: row})

    def _progress_state(self, changed: str | None = None, extra: Mapping[str, Any] = {}) -> Message:
        """The states of the nodes that run and of those that changed just now.

        ComfyUI sends those of all nodes so far each time, which is quadratic in the nodes of a run. What a client knows
        from earlier messages is left out here, and of very many that run at once the earliest.
        """
        shown = list(self._running)[-RUNNING_SHOWN:]
        if changed is not None and changed not in shown:
            shown.insert(0, changed)
        rows = {node: self._row(node, *self._running[node], "running") for node in shown}
        data = {"prompt_id": self.run, "nodes": {**rows, **extra}}
        return Message("progress_state", data, is_public=True)

    def _row(self, node: str, value: float, most: float, state: str) -> dict[str, Any]:
        return {"value": value, "max": most, "state": state, **self._places(node)}

    def _places(self, node: str) -> dict[str, Any]:
        shown = outer(node, self._graph)
        return {
            "node_id": node, "prompt_id": self.run, "display_node_id": shown,
            "parent_node_id": _parent(node, self._graph), "real_node_id": shown,
        }  # fmt: skip

    def _executing(self, node: str) -> Message:
        data = {"node": node, "display_node": outer(node, self._graph), "prompt_id": self.run}
        return Message("executing", data)

    def _executed(self, node: str) -> Message:
        output = self.outputs.get(node)
        copy = None if output is None else {kind: list(items) for kind, items in output.items()}
        shown = outer(node, self._graph)
        return Message("executed", {"node": node, "display_node": shown, "output": copy, "prompt_id": self.run})

    def _milestone(self, type: str, data: Mapping[str, Any] = {}, *, is_public: bool = False) -> Message:
        """A message that the history keeps."""
        whole = {"prompt_id": self.run, **data, "timestamp": int(self._clock() * 1000)}
        self.messages.append([type, whole])
        return Message(type, whole, is_public=is_public)

    def _class_type(self, node: str) -> str:
        return class_type_of(self._graph, node) or class_type_of(self._graph, outer(node, self._graph)) or ""

    def _error(self, error: Mapping[str, Any]) -> dict[str, Any]:
        """Why the run failed, of the first node that did; of a worker that died, with the node that ran."""
        cause = self._failure or error
        node = cause.get("node") or self.current or self._last
        text = str(cause.get("traceback") or "")
        inputs: dict[str, str] = cause.get("inputs") or {}
        return {
            "node_id": node, "node_type": cause.get("class_type") or self._class_type(node), "executed": self.executed,
            "exception_message": str(cause.get("message") or "the run failed"), "exception_type": _exception(text),
            "traceback": [part for part in re.split(r"^(?=  File )", text, flags=re.MULTILINE) if part],
            "current_inputs": {name: [value] for name, value in inputs.items()},
            "current_outputs": list(self._cached | self._ran),
        }  # fmt: skip


def _parent(node: str, graph: Mapping[str, Any]) -> str | None:
    return None if node in graph else parent_of(node) or None


def _exception(traceback: str) -> str:
    """The type of an exception: what the first line of its traceback that is no frame begins with."""
    found = re.search(r"^([A-Za-z_][\w.]*)(?::|$)", traceback, re.MULTILINE)
    return found.group(1) if found else "RuntimeError"
