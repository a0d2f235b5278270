"""Workflows opened from wherever they are: a file that is sent, a picture or a run the server has, the library."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import ConfigDict, Field, ValidationError, model_validator

from nodegraph.a1111 import from_infotext
from nodegraph.checks import problems_of
from nodegraph.comfy_file import is_editor_file
from nodegraph.documents import PICTURES, infotext_in, texts_of, with_named_links
from nodegraph.errors import FileProblem, WorkflowError
from nodegraph.session import Session
from nodegraph.workflow import Workflow, parsed
from server.files import find
from server.pictures import check_picture
from server.problems import Fault, Refusal, View, in_words, misfits
from server.v1.forms import form_of
from server.v1.models import PLAIN, Document, RunId, WorkflowName, faults_of
from server.v1.operation import Answer, Call, operation
from server.v1.reading import Body
from server.v1.runs import record_of
from server.v1.submission import read_document

LARGEST = 64 << 20  # bytes of a file
Source = Literal["nodegraph", "comfyui-api", "comfyui-editor", "a1111"]


class FilePlace(Body):
    """A file the server has."""

    type: Literal["input", "output", "temp"] = "output"
    subfolder: str = Field(default="", max_length=400, pattern=PLAIN)
    filename: Annotated[str, Field(min_length=1, max_length=255, pattern=PLAIN)]


class Opening(Body):
    """What is opened: one of these."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    file: FilePlace | None = Field(default=None, description="a picture or a JSON file")
    run: RunId | None = None
    workflow: WorkflowName | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Opening:
        if sum(each is not None for each in (self.file, self.run, self.workflow)) != 1:
            raise ValueError("expected one of file, run and workflow")
        return self


class OpeningForm(Body):
    """A file that is opened."""

    file: Annotated[
        str, Field(json_schema_extra={"format": "binary"}, description="PNG, WEBP, JPEG, JSON or A1111's text")
    ]


class Opened(View):
    """A workflow as a document of ours."""

    document: Document
    name: str = Field(description="its own, else that of the file")
    source: Source = Field(description="what it was read from")
    problems: list[Fault] = Field(description="what is wrong with it; it opens nevertheless")
    notes: list[str] = Field(default=[], description="what of it could not be carried over, a sentence each")


@operation("POST", "/v1/open", tag="workflows", scope="run", problems=(404, 507), form=OpeningForm,
           answers={200: Answer("The document.", Opened)})  # fmt: skip
async def open_file(call: Call, *, body: Opening | None) -> web.Response:
    """Reads a workflow from a picture, a JSON file, a run or the library, as a document with links by output name."""
    desk = call.service.desk
    session = await desk.session()
    if body is None:
        async with form_of(call, LARGEST) as form:
            _check(form.fields, form.files)
            upload = form.files["file"]
            text = await desk.do(_answer, session, upload.draft.path, upload.name, call.service.settings.max_pixels)
    elif body.file is not None:
        place = await desk.do(find, desk.folders, body.file.filename, body.file.type, body.file.subfolder)
        text = await desk.do(_answer, session, place, place.name, call.service.settings.max_pixels)
    elif body.workflow is not None:
        name = body.workflow.removesuffix(".json")
        place = await desk.do(desk.folders.path, "workflows", f"{name}.json")
        text = await desk.do(_answer, session, place, name, call.service.settings.max_pixels)
    else:
        record = await record_of(call, body.run or "")
        text = await desk.do(lambda: _opened(session, [record.document or record.graph], record.name))
    return web.Response(text=text, content_type="application/json")


def _check(fields: dict[str, str], files: dict[str, Any]) -> None:
    """Raises Refusal unless the form has a file, and nothing else."""
    texts = {name: text for name, text in fields.items() if name != "file"}
    try:
        OpeningForm.model_validate({**texts, **dict.fromkeys(files, "")})
    except ValidationError as error:
        faults = misfits(error, "form", OpeningForm.model_fields)
        raise Refusal("invalid", in_words(faults), problems=faults) from None


def _answer(session: Session, path: Path, name: str, max_pixels: int) -> str:
    """The answer for a file, as JSON.

    Raises:
        Refusal: it carries no workflow.
        NotAPicture, TooLarge: as `check_picture`.
        WorkflowError: what it holds is none.
    """
    try:
        with open(path, "rb") as file:
            begin = file.read(12)
        if begin.startswith((b"\x89PNG", b"\xff\xd8")) or (begin[:4], begin[8:]) == (b"RIFF", b"WEBP"):
            check_picture(path, max_pixels, repr(name))
            return _opened(session, _carried(path, name), _stem(name))
        if path.stat().st_size > LARGEST:
            raise Refusal("too-large", f"{name!r} has more than {LARGEST} bytes; a workflow has less")
        return _opened(session, [path.read_bytes()], _stem(name))
    except OSError as error:
        raise FileProblem(f"{name!r} cannot be read: {error.strerror or error}; send it anew") from error


def _carried(path: Path, name: str) -> list[str]:
    """The documents that a picture carries: first ours, then the editor's with its places, what ran, A1111's text.

    Raises:
        Refusal: it carries none.
    """
    try:
        texts = texts_of(path)
    except FileProblem as error:
        raise Refusal("invalid", str(error).replace(path.name, repr(name), 1)) from None
    found = [text for key in ("nodegraph", "workflow", "prompt") if isinstance(text := texts.get(key), str)]
    written = texts.get("parameters")
    found += [written] if isinstance(written, str) and infotext_in(written) is not None else []
    if not found:
        raise Refusal(
            "invalid",
            f"{name!r} carries no workflow; use a picture saved by nodegraph, ComfyUI or A1111, with its metadata kept",
        )
    return found


def _opened(session: Session, texts: Sequence[str | bytes], name: str) -> str:
    """The first of some documents that can be read, as the answer.

    Raises:
        WorkflowError: none can; what is wrong with the first.
    """
    first: WorkflowError | None = None
    for text in texts:
        try:
            written, notes = infotext_in(text), list[str]()
            if written is not None:
                document, notes = from_infotext(written, session.folders.names)
                workflow = Workflow.of(document)
            else:
                document = parsed(text)
                workflow = read_document(document, session.registry)
        except WorkflowError as error:
            first = first or error
            continue
        named = with_named_links(workflow, cache(session.spec))
        found = {
            "document": named.as_json(), "name": named.name or name,
            "source": _source(document) if written is None else "a1111", "notes": notes,
            "problems": [fault.model_dump() for fault in _faults(named, session)],
        }  # fmt: skip
        return json.dumps(found)
    assert first is not None
    raise first


def _faults(workflow: Workflow, session: Session) -> list[Fault]:
    return faults_of(problems_of(workflow, session)).problems


def _source(document: dict[str, Any]) -> Source:
    if is_editor_file(document):
        return "comfyui-editor"
    return "nodegraph" if "nodegraph" in document else "comfyui-api"


def _stem(name: str) -> str:
    """The name of a file without folders and ending; half surrogates stand for bytes that were no UTF-8."""
    path = Path(name.encode("utf-8", "replace").decode().replace("\\", "/"))
    return path.stem if path.suffix.lower() in (".json", ".txt", *PICTURES) else name
