"""The library of workflows: read, saved so that nobody's save is lost, and described as functions."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

from aiohttp import web
from pydantic import ConfigDict, Field, RootModel

from nodegraph import describe
from nodegraph.checks import problems_of
from nodegraph.errors import FileProblem, WorkflowError
from nodegraph.files import Folders
from nodegraph.session import Session
from nodegraph.spec import NodeSpec
from nodegraph.workflow import Workflow, parsed, split_address
from server.files import Draft, make_folder, place_of
from server.problems import Refusal, View
from server.v1.conditions import DeleteHeaders, ReadHeaders, SaveHeaders, compare, tag_of
from server.v1.library import bare, own_folder
from server.v1.models import Document, Problems, WorkflowName, WorkflowPath, faults_of
from server.v1.operation import Answer, Call, Reply, operation
from server.v1.reading import Body
from server.v1.submission import open_workflow, read_document, workflow_of
from server.v1.versions import Keep, keeper

LARGEST = 64 << 20  # bytes of a document as it is saved
TAGGED = {"ETag": "of the document; for If-Match and If-None-Match"}
PORT_TYPES = {"INT": "integer", "FLOAT": "number", "STRING": "string", "COMBO": "string", "BOOLEAN": "boolean"}
PLACE = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("filename", "subfolder", "type", "url")},
}
FILES = {"type": "object", "required": ["files"], "properties": {"files": {"type": "array", "items": PLACE}}}


class WorkflowDocument(RootModel[Document]):
    """A workflow: our document, ComfyUI's API graph or its editor file."""

    model_config = ConfigDict(defer_build=True)


class Saved(Problems):
    """A saved workflow, and what is wrong with it so far."""

    name: str
    etag: str


class Interface(View):
    """A workflow as a function: JSON Schemas of what goes in and of what comes out."""

    name: str
    doc: str
    inputs: dict[str, Any] = Field(description="JSON Schema of `inputs`")
    outputs: dict[str, Any] = Field(description="JSON Schema of the result")


class Check(Body):
    """A workflow to be checked."""

    workflow: WorkflowName | Document


class NewDocument(RootModel[Document]):
    """A workflow to be saved."""

    model_config = ConfigDict(strict=True, defer_build=True)


@operation("GET", "/v1/workflows/{name}", tag="workflows", scope="run", problems=(404,), answers={
    200: Answer("The document.", WorkflowDocument, headers=TAGGED),
    304: Answer("It is as the client has it."),
})  # fmt: skip
async def get_workflow(call: Call, *, path: WorkflowPath, headers: ReadHeaders) -> web.StreamResponse:
    """Gives a workflow as it is saved."""
    text = await call.service.desk.do(_read, call.service.desk.folders, path.name)
    tag = tag_of(text)
    if tag in (headers.none_match or "") or headers.none_match == "*":
        return web.Response(status=304, headers={"ETag": tag})
    return web.Response(body=text, content_type="application/json", headers={"ETag": tag, "Cache-Control": "no-cache"})


@operation("PUT", "/v1/workflows/{name}", tag="workflows", scope="edit", problems=(409, 412, 428, 507), answers={
    200: Answer("It is saved in place of the old one.", Saved, headers=TAGGED),
    201: Answer("It is saved; there was none.", Saved, headers=TAGGED | {"Location": "the workflow"}),
})  # fmt: skip
async def save_workflow(call: Call, *, path: WorkflowPath, headers: SaveHeaders, body: NewDocument) -> Reply:
    """Saves a workflow; what was there is kept as a version.

    A draft with problems is saved too, and they are told. To replace one, send the ETag it had when it was read as
    `If-Match` (or `*`, to replace whatever is there); `If-None-Match: *` only makes a new one.
    """
    desk = call.service.desk
    session = await desk.session()
    workflow = await desk.do(read_document, body.root, session.registry)
    keep = keeper(call, path.name)
    tag, is_new = await desk.do(_save, desk.folders, path.name, workflow, headers, keep)
    call.service.feed.notify("WorkflowsChanged")
    problems = await desk.do(_problems, workflow, session)
    model = Saved(name=bare(path.name), etag=tag, **dict(problems))
    more = {"Location": call.request.rel_url.raw_path} if is_new else {}
    return Reply(model, 201 if is_new else 200, {"ETag": tag, **more})


@operation("DELETE", "/v1/workflows/{name}", tag="workflows", scope="edit", problems=(404, 409, 412, 507),
           answers={204: Answer("It is gone.")})  # fmt: skip
async def delete_workflow(call: Call, *, path: WorkflowPath, headers: DeleteHeaders) -> Reply:
    """Deletes an own workflow, which is kept as a version. One that ships under the same name is seen again."""
    keep = keeper(call, path.name)
    await call.service.desk.do(_delete, call.service.desk.folders, path.name, headers.match, keep)
    call.service.feed.notify("WorkflowsChanged")
    return Reply(None, 204)


@operation("GET", "/v1/workflows/{name}/schema", tag="workflows", scope="run", problems=(404,),
           answers={200: Answer("The interface.", Interface)})  # fmt: skip
async def get_workflow_schema(call: Call, *, path: WorkflowPath) -> Interface:
    """Describes the declared inputs and outputs of a workflow as JSON Schemas."""
    desk = call.service.desk
    session = await desk.session()
    workflow = await open_workflow(call, path.name)
    return await desk.do(_interface, bare(path.name), workflow, session)


@operation("POST", "/v1/check", tag="workflows", scope="run", problems=(404,),
           answers={200: Answer("What is wrong with it.", Problems)})  # fmt: skip
async def check_workflow(call: Call, *, body: Check) -> Problems:
    """Tells every problem of a workflow: each node and input, what is expected, and the nearest fix. Runs nothing."""
    desk = call.service.desk
    session = await desk.session()
    try:
        workflow = await workflow_of(call, body.workflow)
    except WorkflowError as error:
        return faults_of(error.problems)
    return await desk.do(_problems, workflow, session)


def _problems(workflow: Workflow, session: Session) -> Problems:
    return faults_of(problems_of(workflow, session))


def _read(folders: Folders, name: str) -> bytes:
    """The text of a workflow, which is JSON.

    Raises:
        FileProblem: there is none.
        WorkflowError: the file is no JSON.
    """
    try:
        text = folders.path("workflows", f"{bare(name)}.json").read_bytes()
    except OSError as error:
        raise FileProblem(f"workflow {name!r} cannot be read: {error.strerror or type(error).__name__}") from error
    if not isinstance(parsed(text), dict):
        raise WorkflowError.of(f"the file of {name!r} holds no workflow", "an object with nodes")
    return text.removeprefix(b"\xef\xbb\xbf")


def _tag_now(folders: Folders, name: str) -> str | None:
    try:
        return tag_of(_read(folders, name))
    except FileProblem:
        return None
    except WorkflowError:
        return '"unreadable"'


@lru_cache(maxsize=8)
def _lock(_home: Path) -> threading.Lock:
    """One lock for each library: what is compared before a save is still so when it is written."""
    return threading.Lock()


def _save(folders: Folders, name: str, workflow: Workflow, headers: SaveHeaders, keep: Keep) -> tuple[str, bool]:
    """Writes a workflow -> its tag, and whether there was none of that name."""
    text = workflow.dumps().encode()
    place = place_of(f"{bare(name)}.json")
    folder = make_folder(own_folder(folders), place.folders)
    draft = Draft(folder, LARGEST)
    try:
        draft.write(text)
        draft.finish()
        with _lock(folders.home):
            now = _tag_now(folders, name)
            compare(f"workflow {name!r}", now, headers)
            old = folder / place.name
            if old.is_file():
                keep(old.read_bytes(), old.stat().st_mtime)
            draft.take(folder, place.name, "replace")
    finally:
        draft.drop()
    return tag_of(text), now is None


def _delete(folders: Folders, name: str, match: str | None, keep: Keep) -> None:
    with _lock(folders.home):
        now = _tag_now(folders, name)
        path = folders.path("workflows", f"{bare(name)}.json") if now else None
        if path is None:
            raise FileProblem(f"there is no workflow {name!r}; GET /v1/workflows lists them")
        compare(f"workflow {name!r}", now, SaveHeaders.model_validate({"If-Match": match or "*"}))
        if not path.is_relative_to(own_folder(folders)):
            raise Refusal("conflict", f"workflow {name!r} ships with a package and cannot be deleted here")
        keep(path.read_bytes(), path.stat().st_mtime)
        path.unlink()


def _interface(name: str, workflow: Workflow, session: Session) -> Interface:
    inputs = describe.of_inputs(workflow, describe.declared_inputs(workflow, session.spec))
    outputs: dict[str, Any] = {}
    for output, place in workflow.outputs.items():
        node, slot = split_address(place)
        outputs[output] = _output_schema(session.spec(workflow.nodes[node].class_type), slot)
    schema = {"$schema": inputs["$schema"], "type": "object", "properties": outputs, "required": list(outputs)}
    return Interface(name=name, doc=workflow.doc, inputs=inputs, outputs=schema)


def _output_schema(spec: NodeSpec | None, name: str) -> dict[str, Any]:
    """The schema of an output; open where its node type is not known."""
    slot = (int(name) if name.isdecimal() else spec.slots.get(name)) if spec else None
    if spec is None or slot is None or slot >= len(spec.outputs):
        return {}
    port = spec.outputs[slot].port
    if port in ("IMAGE", "MASK"):
        return {**FILES, "x-port": port}
    return {"type": PORT_TYPES[port], "x-port": port} if port in PORT_TYPES else {"x-port": port}
