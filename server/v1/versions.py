"""Versions: what own workflows were before they were saved anew or deleted."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Annotated

from aiohttp import web
from pydantic import AwareDatetime, ConfigDict, Field, RootModel

from server.problems import Refusal, View
from server.v1.conditions import tag_of
from server.v1.library import about, bare
from server.v1.models import Document, WorkflowPath, moment
from server.v1.operation import Answer, Call, operation
from server.v1.reading import WHOLE

MOST = 100  # of one name
Keep = Callable[[bytes, float], None]
"""Keeps a text and when it was saved."""


class Version(View):
    """What a workflow was."""

    id: int
    saved: AwareDatetime = Field(description="when it was saved so")
    bytes: int
    nodes: int
    etag: str


class VersionList(View):
    """The versions of a name, the newest first."""

    versions: list[Version]


class VersionDocument(RootModel[Document]):
    """A workflow as it was."""

    model_config = ConfigDict(defer_build=True)


class VersionPath(WorkflowPath):
    """A version of a workflow."""

    id: Annotated[int, Field(ge=1, le=10**15), WHOLE]


@operation("GET", "/v1/workflows/{name}/versions", tag="workflows", scope="run",
           answers={200: Answer("The versions.", VersionList)})  # fmt: skip
async def list_versions(call: Call, *, path: WorkflowPath) -> VersionList:
    """Lists what a workflow was before each save, also when it is deleted by now."""
    query, name = (
        "select id, saved, length(document), nodes, etag from versions where name = ? order by id desc",
        bare(path.name),
    )
    rows = await call.service.store.read(lambda database: database.execute(query, (name,)).fetchall())
    return VersionList(versions=[
        Version(id=number, saved=moment(float(saved)), bytes=nbytes, nodes=nodes, etag=etag)
        for number, saved, nbytes, nodes, etag in rows
    ])  # fmt: skip


@operation("GET", "/v1/workflows/{name}/versions/{id}", tag="workflows", scope="run", problems=(404,),
           answers={200: Answer("The document.", VersionDocument, headers={"ETag": "of the document"})})  # fmt: skip
async def get_version(call: Call, *, path: VersionPath) -> web.Response:
    """Gives a workflow as it was."""
    query, wanted = "select document, etag from versions where name = ? and id = ?", (bare(path.name), path.id)
    row = await call.service.store.read(lambda database: database.execute(query, wanted).fetchone())
    if row is None:
        where = f"GET /v1/workflows/{path.name}/versions lists them"
        raise Refusal("not-found", f"workflow {path.name!r} has no version {path.id}; {where}")
    return web.Response(body=row["document"], content_type="application/json", headers={"ETag": row["etag"]})


def keeper(call: Call, name: str) -> Keep:
    """Keeps what a workflow was; called on a thread, it returns when that is on disk."""
    loop, store = asyncio.get_running_loop(), call.service.store

    def keep(text: bytes, saved: float) -> None:
        asyncio.run_coroutine_threadsafe(
            store.write(lambda database: _add(database, bare(name), text, saved)), loop
        ).result()

    return keep


def _add(database: sqlite3.Connection, name: str, text: bytes, saved: float) -> None:
    """Adds a version, unless the newest is the same; the oldest go."""
    etag = tag_of(text)
    newest = database.execute("select etag from versions where name = ? order by id desc limit 1", (name,)).fetchone()
    if newest is not None and newest["etag"] == etag:
        return
    database.execute(
        "insert into versions(name, saved, nodes, etag, document) values(?, ?, ?, ?, ?)",
        (name, saved, about(text).nodes, etag, text),
    )
    database.execute(
        "delete from versions where name = ? and id <= "
        "(select id from versions where name = ? order by id desc limit 1 offset ?)", (name, name, MOST),
    )  # fmt: skip
