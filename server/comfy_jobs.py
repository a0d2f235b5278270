"""ComfyUI's newer view of queue and history as one list of jobs, which its web frontend reads since 2026."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from aiohttp import web

from nodegraph.errors import WorkflowError
from nodegraph.workflow import parsed
from server.auth import Caller
from server.service import service_of

STATUSES = {
    "pending": "queued", "in_progress": "running", "completed": "success", "failed": "error", "cancelled": "cancelled",
}  # fmt: skip
"""ComfyUI's words for the status of a run, and ours."""

ORDERS = {"created_at": "seq", "execution_duration": "coalesce(finished - started, 0)"}
MOST = 1000  # jobs of one answer
PREVIEWED = ("images", "video", "audio", "3d", "text")
MODELS = (".obj", ".fbx", ".gltf", ".glb", ".usdz")
TEXTS = (".txt", ".md", ".json")
LONGEST_TEXT = 1024  # characters of a preview

WORKFLOW_ID = "case when json_valid(extra) then cast(json_extract(extra, '$.extra_pnginfo.workflow.id') as text) end"
# read by SQLite: an editor's file is large, and parsing it in Python would hold up all else
SUMMARY = (
    f"id, number, status, created, started, finished, outputs, {WORKFLOW_ID} as workflow_id,"
    " case status when 'error' then messages end as messages"
)


def routes() -> list[web.RouteDef]:
    """The routes, without `/api`."""
    return [
        web.get("/jobs", _list), web.get("/jobs/{run}", _one), web.post("/jobs/cancel", _cancel_several),
        web.post("/jobs/{run}/cancel", _cancel),
    ]  # fmt: skip


class Wanted(NamedTuple):
    """Which jobs are asked for, in our words."""

    statuses: Sequence[str]
    workflow: str | None
    order: str
    limit: int
    offset: int


def jobs(database: sqlite3.Connection, wanted: Wanted) -> dict[str, Any]:
    """The body of GET /jobs."""
    where, values = f"status in ({', '.join('?' * len(wanted.statuses))})", list[Any](wanted.statuses)
    if wanted.workflow:
        where += f" and {WORKFLOW_ID} = ?"
        values.append(wanted.workflow)
    total = database.execute(f"select count(*) from runs where {where}", values).fetchone()[0]
    query = f"select {SUMMARY} from runs where {where} order by {wanted.order} limit ? offset ?"
    found = [_job(row) for row in database.execute(query, [*values, wanted.limit, wanted.offset])]
    page = {"offset": wanted.offset, "limit": wanted.limit, "total": total}
    return {"jobs": found, "pagination": {**page, "has_more": wanted.offset + len(found) < total}}


def job(database: sqlite3.Connection, run: str) -> dict[str, Any] | None:
    """The body of GET /jobs/{id}: what the list has of it, with its workflow and all it made; None if there is none."""
    row = database.execute(
        f"select {SUMMARY}, graph, extra, messages as told from runs where id = ?", (run,)
    ).fetchone()
    if row is None:
        return None
    found = _job(row)
    found["workflow"] = {"prompt": json.loads(row["graph"]), "extra_data": json.loads(row["extra"])}
    if row["finished"] is not None:
        is_success = row["status"] == "success"
        found["outputs"] = json.loads(row["outputs"] or "{}")
        found["execution_status"] = {
            "status_str": "success" if is_success else "error", "completed": is_success,
            "messages": json.loads(row["told"] or "[]"),
        }  # fmt: skip
    return found


def summary(outputs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """How many files a run made, and the one that stands for it.

    What was saved goes before what was only shown, and pictures, sounds and shapes before texts.

    Args:
        outputs: lists of files and texts by their kind, by node.
    """
    files, previewable, best = 0, 0, (4, dict[str, Any]())
    for node, kinds in outputs.items():
        for kind, items in kinds.items():
            if kind == "animated" or not isinstance(items, list):
                continue
            for item in cast("list[Any]", items):
                rank = _rank(kind, item)
                if isinstance(item, dict):
                    files += 1
                    previewable += rank < 4
                    content = cast("dict[str, Any]", item)
                else:
                    is_long = len(str(item)) > LONGEST_TEXT
                    content = {"content": str(item)[:LONGEST_TEXT], **({"truncated": True} if is_long else {})}
                if rank < best[0]:
                    best = rank, {**content, "nodeId": node, "mediaType": kind}
    counts = {"outputs_count": files, "previewable_outputs_count": previewable}
    return {**counts, "preview_output": best[1]} if best[1] else counts


def _rank(kind: str, item: Any) -> int:
    """How little an output is suited to stand for its run: 0 best, 4 not at all."""
    if not isinstance(item, dict):
        return 3 if kind == "text" else 4
    file = cast("dict[str, Any]", item)
    name, format = str(file.get("filename", "")).lower(), str(file.get("format", ""))
    if kind == "text" or name.endswith(TEXTS):
        return 2
    if kind in PREVIEWED or format.startswith(("video/", "audio/")) or name.endswith(MODELS):
        return 0 if file.get("type") == "output" else 1
    return 4


def _job(row: sqlite3.Row) -> dict[str, Any]:
    """A row in ComfyUI's words; times in milliseconds. What is not known is left out."""
    number = row["number"]
    found = {
        "id": row["id"], "status": next(name for name, ours in STATUSES.items() if ours == row["status"]),
        "priority": int(number) if number == int(number) else number, "create_time": _ms(row["created"]),
        "execution_start_time": _ms(row["started"]), "execution_end_time": _ms(row["finished"]),
        "execution_error": _error(row["messages"]), "workflow_id": row["workflow_id"],
        **summary(json.loads(row["outputs"] or "{}")),
    }  # fmt: skip
    return {name: value for name, value in found.items() if value is not None}


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000)


def _error(messages: str | None) -> Any:
    return next((data for type, data in json.loads(messages or "[]") if type == "execution_error"), None)


async def _list(request: web.Request) -> web.Response:
    try:
        wanted = _wanted(request.query)
    except ValueError as problem:
        return web.json_response({"error": str(problem)}, status=400)
    return web.json_response(await service_of(request).store.read(lambda database: jobs(database, wanted)))


def _wanted(query: Mapping[str, str]) -> Wanted:
    names = [name.strip().lower() for name in query.get("status", "").split(",") if name.strip()]
    for name in names:
        if name not in STATUSES:
            raise ValueError(f"status: {name[:40]!r} is unknown; one or more of {', '.join(STATUSES)}")
    column, way = query.get("sort_by", "created_at").lower(), query.get("sort_order", "desc").lower()
    if column not in ORDERS:
        raise ValueError(f"sort_by: {column[:40]!r} is unknown; one of {', '.join(ORDERS)}")
    if way not in ("asc", "desc"):
        raise ValueError(f"sort_order: {way[:40]!r} is unknown; asc or desc")
    limit, offset = _whole(query, "limit", MOST), _whole(query, "offset", 0)
    if limit <= 0:
        raise ValueError(f"limit: {limit} is too few; expected 1 or more")
    order = f"{ORDERS[column]} {way}, seq {way}"
    statuses = [STATUSES[name] for name in dict.fromkeys(names or STATUSES)]
    return Wanted(statuses, query.get("workflow_id"), order, min(limit, MOST), max(0, offset))


def _whole(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if len(text) > 15:
        raise ValueError(f"{name}: {text[:40]!r} is too long for a number")
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name}: {text!r} is no whole number") from None


async def _one(request: web.Request) -> web.Response:
    run = request.match_info["run"]
    found = await service_of(request).store.read(lambda database: job(database, run))
    if found is None:
        return web.json_response({"error": f"there is no job {run[:80]!r}"}, status=404)
    return web.json_response(found)


async def _cancel(request: web.Request) -> web.Response:
    return await _cancelled(request, [request.match_info["run"]])


async def _cancel_several(request: web.Request) -> web.Response:
    try:
        body: Any = parsed(await request.read())
    except WorkflowError as error:
        return web.json_response({"error": str(error)}, status=400)
    runs: Any = cast("dict[str, Any]", body).get("job_ids") if isinstance(body, dict) else None
    ids = cast("list[Any]", runs) if isinstance(runs, list) else None
    if ids is None or len(ids) > MOST or not all(isinstance(run, str) for run in ids):
        sentence = f'job_ids: expected a list of up to {MOST} ids, as {{"job_ids": ["..."]}}'
        return web.json_response({"error": sentence}, status=400)
    return await _cancelled(request, ids)


async def _cancelled(request: web.Request, runs: Sequence[str]) -> web.Response:
    """Ends those that wait or run; that others are over or unknown is no error."""
    service, caller = service_of(request), cast(Caller, request["caller"])
    is_any = False
    for run in dict.fromkeys(runs):
        record = await service.runs.get(run)
        if record is not None and record.finished is None and (caller.may("admin") or record.owner == caller.name):
            await service.dispatcher.cancel(run)
            is_any = True
    return web.json_response({"cancelled": is_any})
