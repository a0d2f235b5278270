"""Models at hand: what each is by its header, and a picture of it."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from aiohttp import web
from pydantic import Field

from nodegraph.errors import FileProblem, did_you_mean
from nodegraph.files import ALIASES, Folders
from server.bodies import file_headers, rendered_answer
from server.headers import cover_of, metadata_of, picture_beside, safetensors_header, told_by
from server.pictures import Rendering, render
from server.problems import Refusal, View
from server.v1.models import PLAIN, moment
from server.v1.operation import Answer, Call, operation
from server.v1.reading import WHOLE, Parameters


class ModelKind(View):
    """A kind of model."""

    kind: str
    models: int = Field(description="how many there are")


class ModelKinds(View):
    """Kinds of models."""

    kinds: list[ModelKind]


class ModelAbout(View):
    """A model file, or a folder as diffusers saves them."""

    name: str
    bytes: int
    modified: datetime | None
    family: str | None = Field(description="such as `sd1` or `sdxl`, where its header tells")
    picture: str | None = Field(description="a picture of it")


class Model(ModelAbout):
    """A model, in short."""

    metadata: bool = Field(description="true when its header says more")


class Models(View):
    """Models of a kind, by name."""

    kind: str
    models: list[Model]


class ModelDetail(ModelAbout):
    """A model with all that its header tells; nothing is worked out from its weights."""

    kind: str
    metadata: dict[str, Any] = Field(description="of the header, as whoever saved it wrote")
    tensors: int | None = Field(description="how many it has")
    dtype: str | None = Field(description="of most of its weights, as the header has it")
    sha256: str | None = Field(description="as a file `NAME.sha256` beside it says")


class KindPath(Parameters):
    """A kind of model."""

    kind: Annotated[str, Field(min_length=1, max_length=100, description="such as `checkpoints`")]


class ModelPath(KindPath):
    """A model."""

    name: Annotated[str, Field(min_length=1, max_length=600, pattern=PLAIN, description="as the list has it")]


class PictureQuery(Parameters):
    """How it is sent."""

    size: Annotated[int, Field(ge=16, le=2048), WHOLE] = Field(default=512, description="its longer side at most")


@operation("GET", "/v1/models", tag="models", scope="run", answers={200: Answer("Kinds of models.", ModelKinds)})
async def list_model_kinds(call: Call) -> ModelKinds:
    """Lists the kinds of models, and how many there are of each."""
    return await call.service.desk.do(_kinds, call.service.desk.folders)


@operation("GET", "/v1/models/{kind}", tag="models", scope="run", problems=(404,),
           answers={200: Answer("Models of the kind.", Models)})  # fmt: skip
async def list_models(call: Call, *, path: KindPath) -> Models:
    """Lists the models of a kind, as nodes name them."""
    folders = call.service.desk.folders
    return await call.service.desk.do(_models, folders, _kind(folders, path.kind))


@operation("GET", "/v1/models/{kind}/{name:.+}", tag="models", scope="run", problems=(404,),
           answers={200: Answer("The model.", ModelDetail)})  # fmt: skip
async def get_model(call: Call, *, path: ModelPath) -> ModelDetail:
    """Tells all that the header of a model tells."""
    folders = call.service.desk.folders
    return await call.service.desk.do(_detail, folders, _kind(folders, path.kind), path.name)


@operation("GET", "/v1/models/{kind}/{name:.+}/picture", tag="models", scope="run", problems=(404, 413), answers={
    200: Answer("The picture.", media=("image/webp",), headers={"ETag": "for If-None-Match"}),
    304: Answer("It is as `If-None-Match` knows it."),
})  # fmt: skip
async def get_model_picture(call: Call, *, path: ModelPath, query: PictureQuery) -> web.StreamResponse:
    """Gives the picture that lies beside a model, or the one in its metadata, as WEBP."""
    desk, rendering = call.service.desk, Rendering("webp", side=query.size)
    place = await desk.do(desk.folders.path, _kind(desk.folders, path.kind), path.name)
    beside = await desk.do(picture_beside, place)
    if beside is not None:
        return await rendered_answer(call.request, beside, rendering)
    cover = await desk.do(cover_of, place)
    if cover is None:
        raise Refusal("not-found", f"model {path.name!r} has no picture; put one beside it, of the same name")
    made = await desk.do(render, cover, rendering, call.service.settings.max_pixels, "the model's cover")
    return web.Response(body=made, content_type="image/webp", headers=file_headers("cover.webp"))


def _kind(folders: Folders, name: str) -> str:
    """A kind by its own name or ComfyUI's old one.

    Raises:
        Refusal: there is no such kind.
    """
    kind = ALIASES.get(name, name)
    if kind not in folders.models:
        near = did_you_mean(name, folders.models) or "GET /v1/models lists them"
        raise Refusal("not-found", f"{name!r} is no kind of model; {near}")
    return kind


def _kinds(folders: Folders) -> ModelKinds:
    return ModelKinds(kinds=[ModelKind(kind=kind, models=len(folders.names(kind))) for kind in folders.models])


def _models(folders: Folders, kind: str) -> Models:
    found: list[Model] = []
    for name in folders.names(kind):
        try:
            path = folders.path(kind, name)
            found.append(Model(**_about(path, kind, name), metadata=told_by(path).has_metadata))
        except (OSError, FileProblem):  # it went meanwhile
            continue
    return Models(kind=kind, models=found)


def _detail(folders: Folders, kind: str, name: str) -> ModelDetail:
    path = folders.path(kind, name)
    try:
        told, about = told_by(path), _about(path, kind, name)
    except OSError as error:
        raise FileProblem(f"{name!r} cannot be read: {error.strerror or error}") from error
    metadata = metadata_of(safetensors_header(path)) if told.has_metadata else {}
    return ModelDetail(
        **about, kind=kind, metadata=metadata, tensors=told.tensors, dtype=told.dtype, sha256=_sha256(path)
    )


def _about(path: Path, kind: str, name: str) -> dict[str, Any]:
    """What both forms tell.

    Raises:
        OSError: it is not there.
    """
    told, status = told_by(path), path.stat()
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    has_picture = told.has_cover or picture_beside(path) is not None
    picture = f"/v1/models/{quote(kind, safe='')}/{quote(name, safe='')}/picture" if has_picture else None
    return {"name": name, "bytes": sum(file.stat().st_size for file in files), "modified": moment(status.st_mtime),
            "family": told.family, "picture": picture}  # fmt: skip


def _sha256(path: Path) -> str | None:
    """The SHA-256 that somebody has written down beside a model, as sha256sum does."""
    for beside in (path.with_name(f"{path.name}.sha256"), path.with_suffix(".sha256")):
        try:
            with open(beside, encoding="ascii") as file:
                found = re.match(r"[0-9a-fA-F]{64}\b", file.read(64))
        except (OSError, ValueError):
            continue
        if found:
            return found[0].lower()
    return None
