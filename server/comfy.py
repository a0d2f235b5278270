"""ComfyUI's routes of the queue: prompts, their validation, queue, history and what the server is."""

from __future__ import annotations

import hashlib
import json
import platform
import sqlite3
import sys
from collections.abc import Callable, Mapping
from typing import Any, cast

from aiohttp import web

from nodegraph import __version__
from nodegraph.devices import torch_version
from nodegraph.errors import NodegraphError, Problem, StorageError, WorkflowError
from nodegraph.files import Folders
from nodegraph.session import Session
from nodegraph.workflow import Workflow, parsed
from server import comfy_jobs, comfy_rows
from server.auth import Caller
from server.comfy_errors import Submission, no_prompt, node_errors, prompt_error, sound_outputs
from server.object_info import entry, object_info
from server.prompt_graph import sinks_of
from server.records import Draft
from server.runs import QueueFull
from server.service import Service, service_of
from server.submit import draft_of, enqueue

COMFYUI_VERSION = "0.3.64"  # whose behaviour is mirrored
LONGEST_ID = 200
FURTHEST = 1 << 53  # as far as JavaScript counts
LARGE = 1 << 16  # bytes of JSON from which parsing goes to a thread


def routes() -> list[web.RouteDef]:
    """The routes, without `/api`."""
    return [
        web.get("/prompt", _remaining), web.post("/prompt", _prompt), web.get("/queue", _queue),
        web.post("/queue", _change_queue), web.post("/interrupt", _interrupt), web.post("/free", _free),
        web.get("/history", _history), web.get("/history/{run}", _one_history), web.post("/history", _change_history),
        web.get("/object_info", _object_info), web.get("/object_info/{name}", _one_object_info),
        web.get("/system_stats", _system_stats), web.get("/features", _features), web.get("/ws", _socket),
        *comfy_jobs.routes(),
    ]  # fmt: skip


def features(max_upload: int) -> dict[str, Any]:
    """What clients may ask for."""
    return {"supports_preview_metadata": True, "max_upload_size": max_upload}


async def remaining(service: Service) -> int:
    """How many runs wait or run."""
    counts = await service.runs.counts()
    return counts["queued"] + counts["running"]


async def _socket(request: web.Request) -> web.WebSocketResponse:
    return await service_of(request).sockets.handle(request)


async def _remaining(request: web.Request) -> web.Response:
    return web.json_response({"exec_info": {"queue_remaining": await remaining(service_of(request))}})


# Prompts


async def _prompt(request: web.Request) -> web.Response:
    service = service_of(request)
    try:
        body = await _json(request)
    except WorkflowError as error:
        return _refused("invalid_prompt", "The request is not understood", str(error))
    graph: Any = body.get("prompt")
    if not isinstance(graph, dict) or not graph:
        return web.json_response(no_prompt(), status=400)
    return await _submit(service, request["caller"], body, cast("dict[str, Any]", graph))


async def _submit(service: Service, caller: Caller, body: Mapping[str, Any], graph: dict[str, Any]) -> web.Response:
    session = await service.desk.session()
    client = str(body.get("client_id") or "")[:LONGEST_ID]
    try:
        number, wanted = _number(body), _id(body)
        draft, errors = await service.desk.think(_read, session, service.desk.folders, body, graph, client)
        if draft is None:
            return web.json_response(errors, status=400)
        ticket = await enqueue(
            service,
            draft._replace(
                owner=caller.name, client=client, number=number, is_front=bool(body.get("front")), id=wanted
            ),
        )
    except QueueFull as error:
        return _refused("queue_full", "The queue is full", str(error), status=429)
    except StorageError:
        raise
    except NodegraphError as error:
        return _refused("invalid_prompt", "The request is not understood", str(error))
    number = int(ticket.number) if ticket.number == int(ticket.number) else ticket.number
    return web.json_response(
        {"prompt_id": ticket.id, "number": number, "node_errors": errors}, headers={"Nodegraph-Run": ticket.id}
    )


def _read(
    session: Session, folders: Folders, body: Mapping[str, Any], graph: dict[str, Any], client: str
) -> tuple[Draft | None, dict[str, Any]]:
    """Checks a prompt -> what to queue, with the errors of nodes that are left out; or None and ComfyUI's whole error.

    Outputs that need no node with a problem are run although others failed, as ComfyUI does it.
    """
    sinks = sinks_of(graph, session.spec)
    asked = body.get("partial_execution_targets")
    wanted = [name for name in sinks if name in asked] if isinstance(asked, list) else sinks
    submission = Submission(graph, wanted, session.spec, folders.names)
    if sinks and not wanted:
        expected = ", ".join(sinks[:10])
        problem = Problem("none of partial_execution_targets is an output", None, None, None, f"some of {expected}",
                          type="prompt_no_outputs")  # fmt: skip
        return None, prompt_error([problem], submission)
    extra, pictures, scope = _extra(body, client), _pictures(body), client or "api"
    try:
        workflow = Workflow.of({"nodegraph": 1, "nodes": graph})
    except WorkflowError as error:
        return None, prompt_error(error.problems, submission)
    try:
        return draft_of(session, workflow, wanted or None, scope, extra, pictures), {}
    except WorkflowError as error:
        sound = sound_outputs(error.problems, graph, wanted)
        if not sound:
            return None, prompt_error(error.problems, submission)
        draft = draft_of(session, workflow, sound, scope, extra, pictures)
        return draft, node_errors(error.problems, submission)


def _number(body: Mapping[str, Any]) -> float | None:
    if body.get("number") is None:
        return None
    try:
        number = float(body["number"])
        if abs(number) < 1e15:
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    raise NodegraphError(f"number: {str(body['number'])[:40]!r} is no place in line; expected a number, or nothing")


def _id(body: Mapping[str, Any]) -> str | None:
    wanted = body.get("prompt_id")
    if wanted is None:
        return None
    if (
        not isinstance(wanted, str)
        or not 0 < len(wanted) <= LONGEST_ID
        or not wanted.isprintable()
        or "/" in wanted
        or wanted in (".", "..")
    ):
        raise NodegraphError("prompt_id: expected a text such as a UUID, or nothing")
    return wanted


def _extra(body: Mapping[str, Any], client: str) -> dict[str, Any]:
    found: Any = body.get("extra_data")
    return {**(found if isinstance(found, dict) else {}), **({"client_id": client} if client else {})}


def _pictures(body: Mapping[str, Any]) -> dict[str, str | None]:
    """Texts for pictures: the editor's own file, and no second copy of the graph in our form."""
    match body.get("extra_data"):
        case {"extra_pnginfo": {**texts}}:
            return {"nodegraph": None, **{str(name): json.dumps(value) for name, value in texts.items()}}
        case _:
            return {"nodegraph": None}


# The queue and the history


async def _queue(request: web.Request) -> web.Response:
    return _text(await service_of(request).store.read(comfy_rows.queue))


async def _change_queue(request: web.Request) -> web.Response:
    service, owner = service_of(request), _owner(request)
    try:
        body = await _json(request)
    except WorkflowError as error:
        return _refused("invalid_request", "The request is not understood", str(error))
    gone: list[str] = []
    if body.get("clear"):
        gone += await service.runs.drop_queued(None, owner=owner)
    if isinstance(body.get("delete"), list):
        gone += await service.runs.drop_queued([str(run) for run in body["delete"]], owner=owner)
    for run in gone:
        service.dispatcher.dropped(run)
    return web.Response()


async def _interrupt(request: web.Request) -> web.Response:
    service, owner = service_of(request), _owner(request)
    try:
        wanted = (await _json(request)).get("prompt_id")
    except WorkflowError:  # as in ComfyUI: no body, or none that is JSON, stands for whatever runs
        wanted = None
    for run in service.dispatcher.running():
        if run == wanted or not wanted:
            record = await service.runs.get(run)
            if record is not None and owner in (None, record.owner):
                await service.dispatcher.cancel(run)
    return web.Response()


async def _free(request: web.Request) -> web.Response:
    try:
        body = await _json(request)
    except WorkflowError:
        body = {}
    if body.get("unload_models") or body.get("free_memory"):
        await service_of(request).dispatcher.free()
    return web.Response()


async def _history(request: web.Request) -> web.Response:
    most, offset = _whole(request, "max_items"), _whole(request, "offset")

    def read(database: sqlite3.Connection) -> str:
        return comfy_rows.history(database, most, -1 if offset is None else offset)

    return _text(await service_of(request).store.read(read))


async def _one_history(request: web.Request) -> web.Response:
    run = request.match_info["run"]
    return _text(await service_of(request).store.read(lambda database: comfy_rows.one_history(database, run)))


async def _change_history(request: web.Request) -> web.Response:
    service, owner = service_of(request), _owner(request)
    try:
        body = await _json(request)
    except WorkflowError as error:
        return _refused("invalid_request", "The request is not understood", str(error))
    if body.get("clear"):
        await service.runs.delete(None, owner=owner)
    if isinstance(body.get("delete"), list):
        await service.runs.delete([str(run) for run in body["delete"]], owner=owner)
    service.feed.notify("QueueChanged")
    return web.Response()


# What the server is


async def _object_info(request: web.Request) -> web.Response:
    service = service_of(request)
    registry = await service.desk.registry()
    return await _cached(request, lambda: object_info(registry, service.desk.folders.names))


async def _one_object_info(request: web.Request) -> web.Response:
    service, name = service_of(request), request.match_info["name"]
    spec = (await service.desk.registry()).get(name)
    names = service.desk.folders.names
    return await _cached(request, lambda: {} if spec is None else {name: entry(spec, names)})


async def _features(request: web.Request) -> web.Response:
    return web.json_response(features(service_of(request).settings.max_upload))


async def _system_stats(request: web.Request) -> web.Response:
    service = service_of(request)
    import psutil

    memory = psutil.virtual_memory()
    system: dict[str, Any] = {
        "os": platform.system().lower() if sys.platform != "win32" else "nt", "ram_total": memory.total,
        "ram_free": memory.available, "comfyui_version": COMFYUI_VERSION, "nodegraph_version": __version__,
        "required_frontend_version": "", "installed_templates_version": "", "required_templates_version": "",
        "python_version": sys.version, "pytorch_version": torch_version(), "embedded_python": False, "argv": [],
    }  # fmt: skip
    devices = [
        {"name": worker.device, "type": worker.kind, "index": index, **worker.memory()}
        for index, worker in enumerate(service.dispatcher.workers())
    ]
    return web.json_response({"system": system, "devices": devices})


def _whole(request: web.Request, name: str) -> int | None:
    try:
        return max(-FURTHEST, min(int(request.query[name]), FURTHEST))
    except (KeyError, ValueError):
        return None


def _owner(request: web.Request) -> str | None:
    """Whose runs the caller may change; None is everybody's."""
    caller: Caller = request["caller"]
    return None if caller.may("admin") else caller.name


async def _json(request: web.Request) -> dict[str, Any]:
    """The body as a JSON object.

    Raises:
        WorkflowError: it is none.
    """
    content = await request.read()
    if not content.strip():
        raise WorkflowError.of("the request has no body", "a JSON object")
    found: Any = await service_of(request).desk.do(parsed, content) if len(content) > LARGE else parsed(content)
    if not isinstance(found, dict):
        raise WorkflowError.of("the body is no JSON object", '{"prompt": {...}}')
    return cast("dict[str, Any]", found)


async def _cached(request: web.Request, make: Callable[[], Any]) -> web.Response:
    """JSON that clients keep until it changes."""

    def encode() -> tuple[bytes, str]:
        content = json.dumps(make()).encode()
        return content, hashlib.blake2b(content, digest_size=16).hexdigest()

    content, tag = await service_of(request).desk.do(encode)
    headers = {"ETag": f'"{tag}"', "Cache-Control": "no-cache"}
    if request.headers.get("If-None-Match", "").strip('W/"') == tag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=content, content_type="application/json", headers=headers)


def _text(text: str) -> web.Response:
    return web.Response(text=text, content_type="application/json")


def _refused(type: str, message: str, details: str, status: int = 400) -> web.Response:
    error: dict[str, Any] = {"type": type, "message": message, "details": details, "extra_info": {}}
    return web.json_response({"error": error, "node_errors": {}}, status=status)
