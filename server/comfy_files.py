"""ComfyUI's routes for files: pictures shown and uploaded, models listed."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from aiohttp import web

from nodegraph.errors import FileProblem
from nodegraph.files import ALIASES, WEIGHTS, Folders
from server.bodies import Form, Route, Upload, file_answer, file_headers, in_words, read_form, rendered_answer
from server.files import TYPES, BadName, Draft, Missing, Stored, find, inside, keep, place_of, split_name
from server.headers import METADATA, cover_of, picture_beside, safetensors_header
from server.pictures import Rendering, check_picture, paste_alpha, render
from server.service import Service, service_of

Keep = Callable[[Service, Form], Stored]
COVER = Rendering("webp", side=1024)


def routes() -> list[web.RouteDef]:
    """The routes, without a prefix."""
    table: list[tuple[str, Route]] = [
        ("/view", _view),
        ("/view_metadata/{folder}", _view_metadata),
        ("/embeddings", _embeddings),
        ("/models", _kinds),
        ("/models/{folder}", _models),
        ("/experiment/models", _folders),
        ("/experiment/models/{folder}", _model_files),
        ("/experiment/models/preview/{folder}/{index}/{file:.*}", _model_preview),
        ("/internal/folder_paths", _folder_paths),
        ("/internal/files/{type}", _files_by_time),
    ]
    uploads: list[tuple[str, Route]] = [("/upload/image", _upload_image), ("/upload/mask", _upload_mask)]
    return [
        *(web.get(path, in_words(route)) for path, route in table),
        *(web.post(path, in_words(route)) for path, route in uploads),
    ]


def rendering_of(query: Mapping[str, str]) -> Rendering | None:
    """How a picture is wanted, from `preview=webp;90` and `channel`, or our own `format`, `quality` and `size`.

    Returns None where the file is wanted as it is.

    Raises:
        FileProblem: a value cannot be.
    """
    channel = query.get("channel", "rgba")
    if channel not in ("rgba", "rgb", "a"):
        channel = "rgba"  # as ComfyUI takes what it does not know
    if "preview" in query:
        # ComfyUI takes unknown formats, and those without transparency where it is asked for, as webp
        format, _, rest = query["preview"].partition(";")
        quality = rest.rpartition(";")[2] or "90"
        format = "jpeg" if format == "jpeg" and "a" not in query.get("channel", "") else "webp"
        quality = quality if quality.isdecimal() else "90"
    else:
        format, quality = query.get("format", "webp" if "size" in query else "png"), query.get("quality", "90")
        if channel == "rgba" and not {"format", "size"} & set(query):
            return None
    if format not in ("webp", "jpeg", "png"):
        raise FileProblem(f"format: {format[:40]!r} is unknown; one of webp, jpeg, png")
    size = _number("size", query["size"], 1, 16384) if "size" in query else None
    quality = min(_number("quality", quality, 0, 10**6), 100)
    return Rendering(format, max(quality, 1), size, cast(Any, channel))


def _number(name: str, text: str, least: int, most: int) -> int:
    number = int(text) if text.isdecimal() and text.isascii() and len(text) < 10 else -1
    if not least <= number <= most:
        raise FileProblem(f"{name}: {text[:40]!r} is not a whole number from {least} to {most}")
    return number


async def _view(request: web.Request) -> web.StreamResponse:
    service, query = service_of(request), request.query
    if "filename" not in query:
        raise BadName("filename: it is missing; name the file in the query")
    folders = service.desk.folders
    path = await service.desk.do(
        find, folders, query["filename"], query.get("type", "output"), query.get("subfolder", "")
    )
    rendering = rendering_of(query)
    if rendering is None:
        return file_answer(path)
    return await rendered_answer(request, path, rendering)


async def _upload_image(request: web.Request) -> web.StreamResponse:
    return await _uploaded(request, "the picture", lambda service, form: _keep(service, form, _image_of(form).draft))


async def _upload_mask(request: web.Request) -> web.StreamResponse:
    return await _uploaded(request, "the mask", _keep_masked)


async def _uploaded(request: web.Request, name: str, keep: Keep) -> web.StreamResponse:
    service = service_of(request)
    desk, max_pixels = service.desk, service.settings.max_pixels
    async with read_form(request, desk.do, desk.folders.roots("input")[0], request.client_max_size) as form:
        image = _image_of(form)
        _place_of(form)  # a name that cannot be is told before the picture is looked at
        await desk.do(check_picture, image.draft.path, max_pixels, name)
        stored = await desk.do(keep, service, form)
    return web.json_response({"name": stored.name, "subfolder": stored.subfolder, "type": stored.type})


def _image_of(form: Form) -> Upload:
    if "image" not in form.files:
        raise FileProblem("image: the form has no file of this name; add the picture, with a file name")
    return form.files["image"]


def _place_of(form: Form) -> Any:
    type = form.fields.get("type") or "input"
    return place_of(form.files["image"].name, type, form.fields.get("subfolder", ""))


def _keep(service: Service, form: Form, draft: Draft) -> Stored:
    clash = "replace" if form.fields.get("overwrite") in ("true", "1") else "number"
    return keep(service.desk.folders, draft, _place_of(form), clash)


def _keep_masked(service: Service, form: Form) -> Stored:
    """Keeps the original's colours with the upload's transparency."""
    upload = _image_of(form).draft.path
    try:
        named: Any = json.loads(form.fields.get("original_ref", ""))
        texts: list[Any] = [named["filename"], named.get("type") or "output", named.get("subfolder") or ""]
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        texts = [None]
    if not all(isinstance(text, str) for text in texts):
        raise FileProblem(
            'original_ref: it is no picture; write {"filename": "a.png", "subfolder": "", "type": "input"}'
        )
    original = find(service.desk.folders, *texts)
    made = Draft(upload.parent, 1 << 40)
    try:
        paste_alpha(original, upload, made, service.settings.max_pixels)
        made.finish()
        return _keep(service, form, made)
    finally:
        made.drop()


def _kind_of(request: web.Request) -> str:
    """The kind of models in the path, by its own name or ComfyUI's old one."""
    name = request.match_info["folder"]
    kind = ALIASES.get(name, name)
    if kind not in service_of(request).desk.folders.models:
        raise Missing(f"{name[:100]!r} is no kind of models; GET /models lists them")
    return kind


async def _view_metadata(request: web.Request) -> web.StreamResponse:
    desk, name = service_of(request).desk, request.query.get("filename", "")
    kind = _kind_of(request)
    if not name.endswith(".safetensors"):
        raise Missing("filename: only .safetensors files carry metadata; name one")
    header = await desk.do(lambda: safetensors_header(model_path(desk.folders, kind, name)))
    found = header.get(METADATA)
    if not isinstance(found, dict):
        raise Missing(f"{name[:100]!r} carries no metadata")
    return web.json_response(found)


def model_path(folders: Folders, kind: str, name: str) -> Path:
    """The place of a model.

    Raises:
        Missing: there is none.
    """
    try:
        return folders.path(kind, name)
    except (FileProblem, OSError) as error:
        raise Missing(f"{name[:100]!r} is not among the {kind}") from error


async def _embeddings(request: web.Request) -> web.StreamResponse:
    desk = service_of(request).desk
    names: list[str] = await desk.do(desk.folders.names, "embeddings")
    return web.json_response([os.path.splitext(name)[0] for name in names])


async def _kinds(request: web.Request) -> web.StreamResponse:
    return web.json_response(list(service_of(request).desk.folders.models))


async def _models(request: web.Request) -> web.StreamResponse:
    desk = service_of(request).desk
    return web.json_response(await desk.do(desk.folders.names, _kind_of(request)))


async def _folders(request: web.Request) -> web.StreamResponse:
    models = service_of(request).desk.folders.models
    return web.json_response(
        [{"name": kind, "folders": list(map(str, roots))} for kind, roots in models.items() if kind != "configs"]
    )


async def _model_files(request: web.Request) -> web.StreamResponse:
    desk = service_of(request).desk
    return web.json_response(await desk.do(_describe_models, desk.folders.roots(_kind_of(request))))


def _describe_models(roots: tuple[Path, ...]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for index, root in enumerate(roots):
        for folder, folders, names in os.walk(root, followlinks=True):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                path = Path(folder, name)
                if name.startswith(".") or not name.lower().endswith(WEIGHTS) or not path.exists():
                    continue
                status = path.stat()
                found.append({
                    "name": path.relative_to(root).as_posix(), "pathIndex": index, "modified": status.st_mtime,
                    "created": status.st_ctime, "size": status.st_size,
                })  # fmt: skip
    return found


async def _model_preview(request: web.Request) -> web.StreamResponse:
    service = service_of(request)
    roots, index = service.desk.folders.roots(_kind_of(request)), request.match_info["index"]
    if not (index.isascii() and index.isdecimal() and len(index) < 6 and int(index) < len(roots)):
        raise Missing(f"{index[:20]!r} is no number of a folder; there are {len(roots)}")
    root, name = roots[int(index)], request.match_info["file"]
    found = await service.desk.do(_preview_of, root, name)
    if isinstance(found, Path):
        return await rendered_answer(request, found, COVER)
    made = await service.desk.do(render, found, COVER, service.settings.max_pixels, "the model's cover")
    return web.Response(body=made, content_type="image/webp", headers=file_headers("cover.webp"))


def _preview_of(root: Path, name: str) -> Path | io.BytesIO:
    """The picture that lies beside a model, or that its metadata holds."""
    parts = split_name(name)
    if not parts:
        raise Missing("the path names no model")
    path = root.joinpath(*parts)  # models and their folders may be links: who installs them is trusted
    found = picture_beside(path) or cover_of(path.with_suffix(".safetensors"))
    if found is None:
        raise Missing("there is no picture for this model; put one beside it, of the same name")
    return found


async def _folder_paths(request: web.Request) -> web.StreamResponse:
    models = service_of(request).desk.folders.models
    return web.json_response({kind: list(map(str, roots)) for kind, roots in models.items()})


async def _files_by_time(request: web.Request) -> web.StreamResponse:
    desk, type = service_of(request).desk, request.match_info["type"]
    if type not in TYPES:
        return web.json_response({"error": f"type: {type[:40]!r} is unknown; one of {', '.join(TYPES)}"}, status=400)
    return web.json_response(await desk.do(_newest_first, desk.folders.roots(type)[0]))


def _newest_first(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    with os.scandir(inside(folder, ())) as entries:
        files = [(-entry.stat().st_mtime, entry.name) for entry in entries if entry.is_file() and entry.name[0] != "."]
    return [name for _, name in sorted(files)]
