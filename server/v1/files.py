"""Files: pictures brought in, what runs saved, and files as they are, smaller, or in another format."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import AwareDatetime, Field, ValidationError

from server.bodies import CONTENT_TYPES, Form, file_answer, file_headers, rendered_answer
from server.files import find
from server.pictures import Rendering
from server.plain import without_metadata
from server.problems import Refusal, View, in_words, misfits
from server.records import FileRecord
from server.v1.conditions import tag_of
from server.v1.forms import form_of, keep_picture
from server.v1.models import PLAIN, File, file_of, file_url, moment
from server.v1.operation import Answer, Call, operation
from server.v1.reading import WHOLE, Body, Flag, Parameters

OUTPUTS = (
    "select f.node, f.type, f.subfolder, f.filename, f.format, f.nbytes, f.position, r.id as run, r.created,"
    " {seq} as seq from files f join runs r on r.id = f.run where {where} {group}"
)


class UploadForm(Body):
    """A picture, and where in the input folder it goes."""

    file: Annotated[str, Field(json_schema_extra={"format": "binary"}, description="the picture")]
    subfolder: str = Field(default="", max_length=200, pattern=PLAIN)
    overwrite: Literal["true", "false"] = Field(
        default="false", description="`true`: replace another picture of that name; else this one gets a number"
    )


class Uploaded(View):
    """A picture in the input folder."""

    name: str = Field(description="what inputs of workflows call it, with its subfolder")
    type: Literal["input"] = "input"
    format: str
    width: int
    height: int
    bytes: int
    digest: str = Field(description="SHA-256 of its content")
    is_new: bool = Field(description="false when the same picture was there by that name")
    url: str


class Output(File):
    """A file, and the newest run that saved or reused it."""

    run: str
    created: AwareDatetime


class OutputList(View):
    """Some files, those of the newest runs first."""

    outputs: list[Output]
    next: str | None = Field(description="`cursor` of the next page")


class OutputsQuery(Parameters):
    """Which files."""

    run: str = Field(default="", max_length=200, pattern=PLAIN, description="only those of this run")
    type: Literal["output", "temp"] | None = Field(default=None, description="only those of this folder")
    search: str = Field(default="", max_length=200, pattern=PLAIN, description="words in its name or its workflow")
    limit: Annotated[int, Field(ge=1, le=500), WHOLE] = 50
    cursor: str | None = Field(
        default=None, pattern=r"^[0-9]{1,18}\.[0-9]{1,9}$", description="`next` of the page before"
    )


class FilePath(Parameters):
    """A file."""

    type: Literal["input", "output", "temp"]
    path: Annotated[str, Field(min_length=1, max_length=600, description="its name, with its subfolder")]


class ViewQuery(Parameters):
    """How it is sent; as it is, unless one of these says otherwise."""

    format: Literal["png", "webp", "jpeg"] | None = Field(default=None, description="the format of the picture")
    size: Annotated[int, Field(ge=16, le=8192), WHOLE] | None = Field(
        default=None, description="its longer side at most"
    )
    quality: Annotated[int, Field(ge=1, le=100), WHOLE] = Field(default=90, description="of webp and jpeg")
    metadata: Flag = Field(
        default=True, description="false leaves the workflow and all else but the pixels out of a PNG, WEBP or JPEG; "
        "another format or size never has them",
    )  # fmt: skip


@operation("POST", "/v1/uploads", tag="files", scope="run", problems=(409, 507), form=UploadForm,
           answers={201: Answer("It is in the input folder.", Uploaded, headers={"Location": "the file"})})  # fmt: skip
async def upload_picture(call: Call) -> web.StreamResponse | Any:
    """Puts a picture into the input folder, for workflows to use by its name."""
    async with form_of(call) as form:
        fields = _fields(form)
        clash = "replace" if fields.overwrite == "true" else "number"
        stored, measures = await keep_picture(call, form.files["file"], fields.subfolder, clash)
    url = file_url("input", stored.subfolder, stored.name)
    model = Uploaded(
        name="/".join(filter(None, [stored.subfolder, stored.name])), format=measures.format, width=measures.width,
        height=measures.height, bytes=stored.nbytes, digest=stored.digest, is_new=stored.is_new, url=url,
    )  # fmt: skip
    return web.Response(
        status=201, text=model.model_dump_json(), content_type="application/json", headers={"Location": url}
    )


@operation("GET", "/v1/outputs", tag="files", scope="run", answers={200: Answer("A page of files.", OutputList)})
async def list_outputs(call: Call, *, query: OutputsQuery) -> OutputList:
    """Lists the files of runs in the history, each once, those of the newest runs first."""
    rows = await call.service.store.read(lambda database: _outputs(database, query))
    found = [
        Output(**dict(file_of(FileRecord(*row[:6]))), run=row["run"], created=moment(float(row["created"])))
        for row in rows[: query.limit]
    ]
    last = rows[query.limit - 1] if len(rows) > query.limit else None
    return OutputList(outputs=found, next=None if last is None else f"{last['seq']}.{last['position']}")


@operation("GET", "/v1/files/{type}/{path:.+}", tag="files", scope="run", problems=(404, 413), answers={
    200: Answer("The file.", media=("image/*", "video/*", "audio/*", "text/plain", "application/*", "model/*"),
                headers={"ETag": "for If-None-Match", "Content-Disposition": "its name"}),
    206: Answer("The part of the file that `Range` asked for.", media=("*/*",)),
    304: Answer("It is as `If-None-Match` or `If-Modified-Since` knows it."),
    412: Answer("It is not as `If-Match` or `If-Unmodified-Since` asks."),
    416: Answer("It has no such `Range`."),
})  # fmt: skip
async def get_file(call: Call, *, path: FilePath, query: ViewQuery) -> web.StreamResponse:
    """Gives a file, or a picture in another format or size."""
    desk = call.service.desk
    place = await desk.do(find, desk.folders, path.path, path.type)
    if query.format is None and query.size is None:
        return file_answer(place) if query.metadata else await _plain(call, place)
    own = CONTENT_TYPES.get(place.suffix.lower(), "").removeprefix("image/")
    form: Any = query.format or (own if own in ("png", "webp", "jpeg") else "png")
    rendering = Rendering(form, query.quality, query.size)
    return await rendered_answer(call.request, place, rendering)


async def _plain(call: Call, place: Path) -> web.Response:
    """A picture as it is, without its metadata."""
    body = await call.service.desk.do(without_metadata, place, call.service.settings.max_pixels)
    tag = await call.service.desk.do(tag_of, body)
    headers = {**file_headers(place.name), "ETag": tag}
    if any(known.value in (tag.strip('"'), "*") for known in call.request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, content_type=CONTENT_TYPES.get(place.suffix.lower(), "image/*"), headers=headers)


def _fields(form: Form) -> UploadForm:
    """The fields of an upload.

    Raises:
        Refusal: there is no file, or a field is not known or not what it should be.
    """
    texts = {name: text for name, text in form.fields.items() if name != "file"}
    try:
        return UploadForm.model_validate({**texts, **dict.fromkeys(form.files, "")})
    except ValidationError as error:
        faults = misfits(error, "form", UploadForm.model_fields)
        raise Refusal("invalid", in_words(faults), problems=faults) from None


def _outputs(database: sqlite3.Connection, query: OutputsQuery) -> list[sqlite3.Row]:
    tests, values = ["1"], list[Any]()
    for column, wanted in (("r.id", query.run), ("f.type", query.type)):
        if wanted:
            tests.append(f"{column} = ?")
            values.append(wanted)
    for word in query.search.casefold().split():
        tests.append("(instr(r.words, ?) or instr(lower(f.subfolder || '/' || f.filename), ?))")
        values += [word] * 2
    inner = OUTPUTS.format(
        seq="max(r.seq)", where=" and ".join(tests), group="group by f.type, f.subfolder, f.filename"
    )
    onward = ""
    if query.cursor:
        onward = "where (seq, position) < (?, ?)"
        values += [int(part) for part in query.cursor.split(".")]
    order = f"select * from ({inner}) {onward} order by seq desc, position desc limit ?"
    return database.execute(order, [*values, query.limit + 1]).fetchall()
