"""From a workflow to a run that is on disk."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from nodegraph.documents import comfy_graph
from nodegraph.session import Session
from nodegraph.workflow import Workflow
from server.desk import sketch_of
from server.records import Draft, Ticket
from server.service import Service

NONE: Mapping[str, Any] = MappingProxyType({})
SECRETS = ("auth_token_comfy_org", "api_key_comfy_org")
WORDS = 8000  # characters of a run that searches look at
WORD = 1000  # of one text


async def submit(
    service: Service, workflow: Workflow, *, owner: str = "", client: str = "", priority: int = 0,
    number: float | None = None, is_front: bool = False, targets: Sequence[str] | None = None, scope: str = "",
    extra: Mapping[str, Any] = NONE, pictures: Mapping[str, str | None] = NONE, id: str | None = None,
    key: str = "", body: str = "",
) -> Ticket:  # fmt: skip
    """Checks a workflow and queues a run of it.

    Args:
        service: the server.
        workflow: what to run, its inputs set.
        owner, client: who asks: a token's name, and ComfyUI's `client_id`.
        priority: the highest goes first.
        number, is_front: its place among those of its priority, see `runs`; by default the end.
        targets: ids of nodes or declared outputs; by default every sink and every declared output.
        scope: name under which the last recipe of each node is remembered, to say why it runs again.
        extra: ComfyUI's `extra_data`.
        pictures: texts that pictures carry besides the workflow; None takes one away.
        id: id of the run; by default a new UUID.
        key, body: idempotency, see `Runs.submit`.

    Raises:
        WorkflowError: with every problem.
        QueueFull, KeyReused: see `Runs.submit`.
    """
    known = await service.runs.known(owner, key, body) if key else None
    if known is not None:
        return known
    session = await service.desk.session()
    scope = scope or workflow.name or client or "api"
    draft = await service.desk.think(draft_of, session, workflow, targets, scope, extra, pictures)
    draft = draft._replace(
        owner=owner, client=client, priority=priority, number=number, is_front=is_front, id=id
    )  # fmt: skip
    return await enqueue(service, draft, key=key, body=body)


async def retry(service: Service, run: str, owner: str) -> Ticket | None:
    """Queues a finished run again, as a new one; None when there is no such run that is over."""
    ticket = await service.runs.retry(run, owner)
    if ticket is not None:
        _tell(service, ticket)
    return ticket


async def enqueue(service: Service, draft: Draft, *, key: str = "", body: str = "") -> Ticket:
    """Queues a run that has been checked, and tells of it."""
    ticket = await service.runs.submit(draft, key=key, body=body)
    if ticket.is_new:
        _tell(service, ticket)
    return ticket


def _tell(service: Service, ticket: Ticket) -> None:
    service.feed.begin(ticket.id, 0)
    service.feed.tell(ticket.id, {"type": "RunQueued", "run": ticket.id, "time": time.time(), "number": ticket.number})
    service.dispatcher.wake()


def draft_of(
    session: Session, workflow: Workflow, targets: Sequence[str] | None, scope: str, extra: Mapping[str, Any],
    pictures: Mapping[str, str | None],
) -> Draft:  # fmt: skip
    """Checks a workflow and writes down what a run of it needs; a desk's work.

    Raises:
        WorkflowError: with every problem.
    """
    sketch = sketch_of(session, workflow, targets, scope)
    graph = comfy_graph(workflow, session.spec)
    document = workflow.as_json()
    has_more = document != {"nodegraph": workflow.nodegraph, "nodes": graph}
    kept = {name: value for name, value in extra.items() if name not in SECRETS}
    return Draft(
        json.dumps(graph), json.dumps(document) if has_more else None, workflow.name, scope=scope,
        targets=sketch.targets, extra=json.dumps(kept), pictures=json.dumps(dict(pictures)), words=words_of(graph),
    )  # fmt: skip


def words_of(graph: Mapping[str, Any]) -> str:
    """What searches look at: the types of a graph's nodes, and the texts they were given."""
    found: dict[str, None] = {}
    for node in graph.values():
        found[node["class_type"]] = None
        for value in node["inputs"].values():
            if isinstance(value, str):
                found[value[:WORD]] = None
    return " ".join(found)[:WORDS].casefold()
