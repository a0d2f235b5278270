"""The table of all operations, and the pages about it."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from server.service import service_of
from server.v1 import (
    catalog,
    drafts,
    events,
    files,
    functions,
    library,
    live,
    opening,
    queue,
    runs,
    system,
    versions,
    weights,
    workflows,
)
from server.v1.openapi import text_of
from server.v1.operation import Handler, Operation, routes_of

PREFIX = "/v1"
STATIC = Path(__file__).parent.parent / "static"
PAGE = {
    "docs": ("docs.html", "text/html"), "docs/docs.css": ("docs.css", "text/css"),
    "docs/docs.js": ("docs.js", "text/javascript"),
}  # fmt: skip

OPERATIONS: tuple[Operation, ...] = (
    runs.submit_run, runs.list_runs, runs.delete_runs, runs.get_run, runs.move_run, runs.delete_run,
    runs.get_run_workflow, runs.get_run_trace, runs.wait_for_run, runs.cancel_run, runs.retry_run,
    events.follow_run, events.follow_all, live.open_socket, queue.get_queue, queue.pause_queue, queue.resume_queue,
    library.list_workflows, workflows.get_workflow, workflows.save_workflow, workflows.delete_workflow,
    workflows.get_workflow_schema, library.get_workflow_picture, versions.list_versions, versions.get_version,
    functions.run_workflow, workflows.check_workflow, opening.open_file, drafts.list_drafts, drafts.get_draft,
    drafts.save_draft, drafts.delete_draft, catalog.list_nodes, catalog.get_node, weights.list_model_kinds,
    weights.list_models, weights.get_model_picture, weights.get_model, files.upload_picture, files.list_outputs,
    files.get_file, system.get_system, system.get_me, system.free_memory, system.list_tokens, system.create_token,
    system.delete_token,
)  # fmt: skip


def routes() -> list[web.RouteDef]:
    """Every route under `/v1`; what has none is answered in the shape of an error of this API."""
    pages = [web.get(f"{PREFIX}/{place}", _page(*file)) for place, file in PAGE.items()]
    return [web.get(f"{PREFIX}/openapi.json", openapi), *pages, *routes_of(OPERATIONS, PREFIX)]


async def openapi(request: web.Request) -> web.Response:
    """The OpenAPI document."""
    text = await service_of(request).desk.do(text_of, OPERATIONS)
    headers = {"ETag": text.etag, "Cache-Control": "no-cache"}
    if text.etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    return web.Response(body=text.body, content_type="application/json", headers=headers)


def _page(name: str, kind: str) -> Handler:
    async def page(request: web.Request) -> web.StreamResponse:
        headers = {"Cache-Control": "no-cache", "Content-Type": f"{kind}; charset=utf-8"}
        return web.FileResponse(STATIC / name, headers=headers)

    return page
