"""Drafts: what is open in the tabs of an editor, kept for its caller so that no tab writes over another."""

from __future__ import annotations

import json
import sqlite3
import time
from typing import Annotated, Any

from aiohttp import web
from pydantic import AwareDatetime, Field

from server.problems import Refusal, View
from server.v1.conditions import SaveHeaders, compare
from server.v1.library import count_of
from server.v1.models import ETAG, PLAIN, Document, WorkflowName, moment
from server.v1.operation import Answer, Call, Reply, operation
from server.v1.reading import Body, Parameters

LARGEST = 16 << 20  # bytes of one
MOST = 500  # of one caller
TAGGED = {"ETag": "its revision; for If-Match"}
COLUMNS = "id, name, workflow, base, revision, modified, nodes"
OLDEST = (
    "delete from drafts where owner = ? and revision <= "
    "(select revision from drafts where owner = ? order by revision desc limit 1 offset ?)"
)


class DraftEntry(View):
    """A draft without its document."""

    id: str
    name: str
    workflow: str | None = Field(description="the workflow of the library it is to become")
    base: str | None = Field(description="the ETag of that workflow when the draft was begun from it")
    revision: int = Field(description="grows with every save; the ETag without its quotes")
    modified: AwareDatetime
    nodes: int


class DraftList(View):
    """The caller's drafts, the newest first."""

    drafts: list[DraftEntry]


class Draft(DraftEntry):
    """A draft."""

    document: Document


class NewDraft(Body):
    """A draft to be kept."""

    name: str = Field(default="", max_length=200, pattern=PLAIN)
    workflow: WorkflowName | None = None
    base: Annotated[str | None, Field(max_length=200, pattern=ETAG)] = None
    document: Document = Field(description="as it is in the tab, sound or not")


class DraftSaved(View):
    """A draft that is on disk."""

    id: str
    revision: int


class DraftPath(Parameters):
    """A draft."""

    id: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$", description="the client's own")]


@operation("GET", "/v1/drafts", tag="drafts", scope="run", answers={200: Answer("The drafts.", DraftList)})
async def list_drafts(call: Call) -> DraftList:
    """Lists what the caller has open, in whichever tab."""
    query = f"select {COLUMNS} from drafts where owner = ? order by revision desc"
    rows = await call.service.store.read(lambda database: database.execute(query, (call.caller.name,)).fetchall())
    return DraftList(drafts=[_entry(row) for row in rows])


@operation("GET", "/v1/drafts/{id}", tag="drafts", scope="run", problems=(404,),
           answers={200: Answer("The draft.", Draft, headers=TAGGED)})  # fmt: skip
async def get_draft(call: Call, *, path: DraftPath) -> web.Response:
    """Gives a draft of the caller."""
    query, wanted = f"select {COLUMNS}, document from drafts where owner = ? and id = ?", (call.caller.name, path.id)
    row = await call.service.store.read(lambda database: database.execute(query, wanted).fetchone())
    if row is None:
        raise _unknown(path.id)
    entry = _entry(row)
    text = f'{entry.model_dump_json()[:-1]},"document":{row["document"]}}}'  # long, and JSON already
    return web.Response(text=text, content_type="application/json", headers=_tagged(entry.revision))


@operation("PUT", "/v1/drafts/{id}", tag="drafts", scope="run", problems=(412, 428, 507), answers={
    200: Answer("It is saved in place of the one before.", DraftSaved, headers=TAGGED),
    201: Answer("It is saved; there was none.", DraftSaved, headers=TAGGED | {"Location": "the draft"}),
})  # fmt: skip
async def save_draft(call: Call, *, path: DraftPath, headers: SaveHeaders, body: NewDraft) -> Reply:
    """Keeps a draft of the caller.

    To replace one, send the revision it had as `If-Match`, such as `"7"`; `If-None-Match: *` only makes a new one. When
    another tab has saved meanwhile the answer is 412.
    """
    if len(await call.request.read()) > LARGEST:
        raise Refusal("too-large", f"draft {path.id!r} has more than {LARGEST} bytes; send less")
    owner = call.caller.name
    document = await call.service.desk.do(json.dumps, body.document, separators=(",", ":"))
    nodes = count_of(body.document)
    row = (owner, path.id, body.name, body.workflow, body.base, nodes, time.time(), document)
    revision, is_new = await call.service.store.write(lambda database: _write(database, row, headers))
    call.service.feed.notify("DraftsChanged", owner, id=path.id, revision=revision)
    more = {"Location": call.request.rel_url.raw_path} if is_new else {}
    return Reply(DraftSaved(id=path.id, revision=revision), 201 if is_new else 200, {**_tagged(revision), **more})


@operation("DELETE", "/v1/drafts/{id}", tag="drafts", scope="run", problems=(404, 507),
           answers={204: Answer("It is gone.")})  # fmt: skip
async def delete_draft(call: Call, *, path: DraftPath) -> Reply:
    """Forgets a draft of the caller."""
    wanted, query = (call.caller.name, path.id), "delete from drafts where owner = ? and id = ?"
    if not await call.service.store.write(lambda database: database.execute(query, wanted).rowcount):
        raise _unknown(path.id)
    call.service.feed.notify("DraftsChanged", call.caller.name, id=path.id, revision=None)
    return Reply(None, 204)


def _write(database: sqlite3.Connection, row: tuple[Any, ...], headers: SaveHeaders) -> tuple[int, bool]:
    """Saves a draft -> its revision, which no other had or will have, and whether there was none."""
    owner, name, *_ = row
    now = database.execute("select revision from drafts where owner = ? and id = ?", (owner, name)).fetchone()
    compare(f"draft {name!r}", None if now is None else f'"{now[0]}"', headers)
    revision = database.execute(
        "insert or replace into drafts(owner, id, name, workflow, base, nodes, modified, document)"
        " values(?, ?, ?, ?, ?, ?, ?, ?)", row,
    ).lastrowid  # fmt: skip
    database.execute(OLDEST, (owner, owner, MOST))
    return revision or 0, now is None


def _entry(row: sqlite3.Row) -> DraftEntry:
    return DraftEntry(id=row["id"], name=row["name"], workflow=row["workflow"], base=row["base"], nodes=row["nodes"],
                      revision=row["revision"], modified=moment(float(row["modified"])))  # fmt: skip


def _tagged(revision: int) -> dict[str, str]:
    return {"ETag": f'"{revision}"', "Cache-Control": "no-cache"}


def _unknown(name: str) -> Refusal:
    return Refusal("not-found", f"there is no draft {name!r}; GET /v1/drafts lists those of the caller")
