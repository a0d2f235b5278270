"""One attempt at a run: what its events add up to, for the history and for ComfyUI's clients."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from server.comfy_messages import Message, Teller
from server.feed import Feed
from server.records import Ending, FileRecord, NodeRecord, Record

PREVIEW_METHODS = ("auto", "latent2rgb", "taesd")
"""What ComfyUI's clients may ask for in `extra_data.preview_method`; each gives what the sampling node makes."""


class Attempt:
    """Takes the events of a run on lease, and hands them on.

    Args:
        record: the run.
        feed: where its events are told.
    """

    def __init__(self, record: Record, feed: Feed) -> None:
        self.record = record
        self._feed = feed
        self._teller = Teller(record.id, {}, record.targets)
        self._asks_for_previews = False
        self._nodes: dict[str, NodeRecord] = {}
        self._files: dict[tuple[str, str, str], FileRecord] = {}
        self.heard = time.monotonic()
        self.cancelled: float | None = None  # when it was told to stop

    @property
    def nodes(self) -> list[NodeRecord]:
        """What has become of the nodes so far."""
        return list(self._nodes.values())

    def order(self) -> dict[str, Any]:
        """What a worker is told; long for large graphs, so a thread's work."""
        record = self.record
        graph = json.loads(record.graph)
        self._teller = Teller(record.id, graph, record.targets)
        self._asks_for_previews = json.loads(record.extra).get("preview_method") in PREVIEW_METHODS
        document = {"nodegraph": 1, "nodes": graph} if record.document is None else json.loads(record.document)
        return {"do": "run", "run": record.id, "document": document, "targets": record.targets, "scope": record.scope,
                "texts": json.loads(record.pictures)}  # fmt: skip

    def start(self, worker: str) -> list[Message]:
        """The attempt begins -> messages for ComfyUI's clients, as all that follow."""
        self._feed.begin(self.record.id, self.record.leases)
        self.tell_feed("RunLeased", worker=worker, attempt=self.record.deaths + 1)
        return self._teller.start()

    def tell_feed(self, type: str, **values: Any) -> None:
        """Tells an event of the server's own."""
        self._feed.tell(self.record.id, {"type": type, "run": self.record.id, "time": time.time(), **values})

    def take(self, event: Mapping[str, Any], image: bytes | None = None) -> list[Message]:
        """Takes an event of the engine."""
        self.heard = time.monotonic()
        self._feed.tell(self.record.id, event, image)
        self._note(event)
        messages = self._teller.tell(event, image)
        if image is not None and self._asks_for_previews:
            return [message._replace(is_asked=message.image is not None) for message in messages]
        return messages

    def over(self, status: str, error: Mapping[str, Any] | None) -> list[Message]:
        """The attempt was the last."""
        return self._teller.over(status, error)

    def tell_over(self, status: str, error: Mapping[str, Any] | None) -> None:
        """Tells the feed that the run is over, once that is written down."""
        self.tell_feed("RunOver", status=status, error=None if error is None else error.get("message"))
        self._feed.end(self.record.id)

    def ending(self, status: str, error: Mapping[str, Any] | None, result: Mapping[str, Any]) -> Ending:
        """What is to be written down."""
        events = [(told.number, told.event) for told in self._feed.so_far(self.record.id)]
        return Ending(
            status, error, self._teller.outputs, result, self.nodes, self._teller.messages, events,
            list(self._files.values()),
        )  # fmt: skip

    def _note(self, event: Mapping[str, Any]) -> None:
        at = event.get("at", 0.0)
        match event["type"]:
            case "NodeStarted":
                node = self._node(event, "running", at)
                node["why"], node["notes"] = event["why"], []
            case "NodeFinished":
                node = self._node(event, "ran", at)
                node["seconds"], node["nbytes"] = event["seconds"], event["nbytes"]
            case "NodeCached":
                self._node(event, "cached", at)["tier"] = event["tier"]
            case "NodeFailed":
                node = self._node(event, "failed", at)
                node["seconds"] = round(at - node["start"], 4)
            case "NodeBlocked":
                self._node(event, "blocked", at)["why"] = f"node {event['because']} failed"
            case "Noted":
                self._nodes[event["node"]]["notes"].append(event["text"])
            case "Saved":
                file = event["file"]
                record = FileRecord(event["node"], *(file[name] for name in FileRecord._fields[1:]))
                self._files[record[1:4]] = record
            case _:
                pass

    def _node(self, event: Mapping[str, Any], state: str, at: float) -> NodeRecord:
        node = self._nodes.setdefault(
            event["node"],
            NodeRecord(node=event["node"], class_type=event["class_type"], state=state, why=None, tier=None, start=at,
                       seconds=0.0, nbytes=0, notes=[]),
        )  # fmt: skip
        node["state"] = state
        return node
