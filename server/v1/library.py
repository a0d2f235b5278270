"""What is in the library: each workflow with what a gallery shows of it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

from aiohttp import web
from pydantic import AwareDatetime, Field

from nodegraph.errors import FileProblem
from nodegraph.files import Folders
from server.bodies import file_answer
from server.problems import Refusal, View
from server.v1.models import WorkflowPath, file_url, moment
from server.v1.operation import Answer, Call, operation

NEWEST = (
    "select f.type, f.subfolder, f.filename from runs r join files f on f.run = r.id where r.name = ? and"
    " r.status = 'success' and f.format in ('png', 'webp', 'jpg', 'jpeg', 'gif')"
    " order by r.seq desc, f.type, f.position limit 1"
)
Place = tuple[str, str, str]
"""Type, subfolder and name of a file."""


class WorkflowEntry(View):
    """A workflow of the library."""

    name: str
    title: str = Field(description="its own name; empty where it has none")
    doc: str
    nodes: int = Field(description="how many it has")
    inputs: list[str] = Field(description="names of the inputs it declares")
    is_own: bool = Field(description="false for those that ship; saving one makes an own one of its name")
    ships: bool = Field(description="true when one of this name ships, also where an own one hides it")
    bytes: int
    modified: AwareDatetime
    url: str
    picture: str | None = Field(description="the newest picture a run of it made, else the one beside it")


class WorkflowList(View):
    """The library, by name."""

    workflows: list[WorkflowEntry]


class About(NamedTuple):
    """What a document says of itself; nothing where it cannot be read."""

    title: str = ""
    doc: str = ""
    nodes: int = 0
    inputs: tuple[str, ...] = ()


@operation("GET", "/v1/workflows", tag="workflows", scope="run", answers={200: Answer("The library.", WorkflowList)})
async def list_workflows(call: Call) -> WorkflowList:
    """Lists the workflows of the library."""
    desk = call.service.desk
    found = await desk.do(_entries, desk.folders)
    names = {entry.title or entry.name for entry in found}  # what runs of them are called
    pictures = await call.service.store.read(lambda database: _pictures(database, names))
    return await desk.do(_with_pictures, desk.folders, found, pictures)


@operation("GET", "/v1/workflows/{name}/picture", tag="workflows", scope="run", problems=(404,), answers={
    200: Answer("The picture.", media=("image/webp",), headers={"ETag": "for If-None-Match"}),
    206: Answer("The part of it that `Range` asked for.", media=("image/webp",)),
    304: Answer("It is as `If-None-Match` or `If-Modified-Since` knows it."),
    412: Answer("It is not as `If-Match` or `If-Unmodified-Since` asks."),
    416: Answer("It has no such `Range`."),
})  # fmt: skip
async def get_workflow_picture(call: Call, *, path: WorkflowPath) -> web.StreamResponse:
    """Gives the picture that lies beside a workflow, `NAME.webp`."""
    desk = call.service.desk
    place = await desk.do(_beside, desk.folders, bare(path.name))
    if place is None:
        raise Refusal(
            "not-found", f"no picture lies beside workflow {path.name!r}; GET /v1/workflows names those of runs"
        )
    return file_answer(place)


def bare(name: str) -> str:
    """The name of a workflow without its ending."""
    return name.removesuffix(".json")


def own_folder(folders: Folders) -> Path:
    """Where own workflows are."""
    return folders.home / "workflows"


def about(text: bytes) -> About:
    """What a document says of itself: ours, ComfyUI's API graph, or a file of its editor."""
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return About()
    if not isinstance(found, dict):
        return About()
    document = cast("dict[str, Any]", found)
    title, doc, inputs = (document.get(name) for name in ("name", "doc", "inputs"))
    names = cast("dict[str, Any]", inputs) if isinstance(inputs, dict) else {}
    return About(
        title if isinstance(title, str) else "", doc if isinstance(doc, str) else "", count_of(document), tuple(names)
    )


def count_of(document: dict[str, Any]) -> int:
    """How many nodes a document has: ours, ComfyUI's API graph, or a file of its editor."""
    nodes: Any = document.get("nodes")
    if isinstance(nodes, dict | list):
        return len(cast("list[Any]", nodes))
    return sum(isinstance(node, dict) and "class_type" in node for node in document.values())


def _entries(folders: Folders) -> list[WorkflowEntry]:
    found: list[WorkflowEntry] = []
    own = own_folder(folders)
    for file in folders.names("workflows"):
        try:
            path = folders.path("workflows", file)
            status = path.stat()
            told = _about(path, status.st_mtime_ns, status.st_size)
        except (OSError, FileProblem):  # it went meanwhile
            continue
        name = bare(file)
        ships = any((root / file).is_file() for root in folders.workflows if root != own)
        found.append(WorkflowEntry(
            name=name, title=told.title, doc=told.doc, nodes=told.nodes, inputs=list(told.inputs), ships=ships,
            is_own=path.is_relative_to(own), bytes=status.st_size, modified=moment(status.st_mtime), picture=None,
            url=f"/v1/workflows/{name.replace('%', '%25').replace('/', '%2F')}",
        ))  # fmt: skip
    return found


@lru_cache(maxsize=4096)
def _about(path: Path, _modified_ns: int, _bytes: int) -> About:
    return about(path.read_bytes())


def _pictures(database: sqlite3.Connection, names: Iterable[str]) -> dict[str, Place]:
    """The newest picture that a successful run of each name made."""
    found = {name: database.execute(NEWEST, (name,)).fetchone() for name in names}
    return {name: tuple(row) for name, row in found.items() if row is not None}


def _with_pictures(folders: Folders, entries: Iterable[WorkflowEntry], pictures: dict[str, Place]) -> WorkflowList:
    found: list[WorkflowEntry] = []
    for entry in entries:
        picture = None
        place = pictures.get(entry.title or entry.name)
        if place is not None and folders.roots(place[0])[0].joinpath(*place[1:]).is_file():
            picture = file_url(*place)
        elif _beside(folders, entry.name) is not None:
            picture = f"{entry.url}/picture"
        found.append(entry.model_copy(update={"picture": picture}))
    return WorkflowList(workflows=found)


def _beside(folders: Folders, name: str) -> Path | None:
    return next((path for root in folders.workflows if (path := root / f"{name}.webp").is_file()), None)
