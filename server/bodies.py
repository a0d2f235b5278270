"""What requests bring (forms with files, JSON) and files as answers. Nothing large is ever whole in memory."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import aiohttp
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from nodegraph.errors import FileProblem, NodegraphError, StorageError, WorkflowError
from nodegraph.workflow import parsed
from server.files import Do, Draft, Missing, Outside, Taken, TooLarge, receive
from server.pictures import Rendering, render_tag, thumbnail
from server.service import service_of

log = logging.getLogger(__name__)
Route = Callable[[web.Request], Awaitable[web.StreamResponse]]
FIELDS, FIELD_BYTES, JSON_BYTES = 64, 1 << 20, 16 << 20
CHUNK_BYTES = 64 << 10
STATUSES = ((Outside, 403), (Missing, 404), (Taken, 409), (TooLarge, 413), (FileProblem, 400), (StorageError, 507))

CONTENT_TYPES = {
    ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif",
    ".bmp": "image/bmp", ".tif": "image/tiff", ".tiff": "image/tiff", ".avif": "image/avif", ".mp4": "video/mp4",
    ".webm": "video/webm", ".mov": "video/quicktime", ".mp3": "audio/mpeg", ".wav": "audio/wav", ".ogg": "audio/ogg",
    ".flac": "audio/flac", ".opus": "audio/ogg", ".m4a": "audio/mp4", ".txt": "text/plain", ".json": "application/json",
    ".glb": "model/gltf-binary",
}  # fmt: skip
"""What may be shown in a browser; all else (html, svg, css, scripts) is bytes to download."""


class Upload(NamedTuple):
    """A file of a form: its field, the name the client gave it, and its content, whole and on disk."""

    field: str
    name: str
    draft: Draft


class Form(NamedTuple):
    """The fields of a form as text, and its files; of several values of one field the last."""

    fields: dict[str, str]
    files: dict[str, Upload]


def status_of(problem: NodegraphError) -> int:
    """The HTTP status of a problem with a file."""
    return next((status for kind, status in STATUSES if isinstance(problem, kind)), 400)


def in_words(route: Route) -> Route:
    """Lets a route answer problems with files as a sentence."""

    @wraps(route)
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await route(request)
        except NodegraphError as problem:
            if isinstance(problem, StorageError):
                log.error("%s", problem)
            return web.Response(status=status_of(problem), text=str(problem))
        except FileNotFoundError:  # it went while it was read
            return web.Response(status=404, text="the file is gone")

    return answer


@contextlib.asynccontextmanager
async def read_form(request: web.Request, do: Do, folder: Path, limit: int) -> AsyncGenerator[Form, None]:
    """Reads a multipart form; its files are drafts in a folder, which go at the end unless they were given a name.

    Args:
        request: with the form as its body.
        do: calls a function on a thread.
        folder: where the drafts are.
        limit: bytes of the whole form.

    Raises:
        TooLarge: it has more bytes than that, or more fields than anybody needs.
        FileProblem: it is no form, or malformed.
        StorageError: the disk is full or cannot be written.
    """
    if request.content_type != "multipart/form-data":
        raise FileProblem(f"the body is {request.content_type}; send a form as multipart/form-data")
    check_length(request, limit)
    form = Form({}, {})
    drafts: list[Draft] = []
    try:
        with _told("the form"):
            await _read_parts(request, do, folder, limit, form, drafts)
        yield form
    finally:
        for draft in drafts:
            await do(draft.drop)


async def _read_parts(request: web.Request, do: Do, folder: Path, limit: int, form: Form, drafts: list[Draft]) -> None:
    reader = await request.multipart()
    left, count = limit, 0
    while (part := await reader.next()) is not None:
        count += 1
        if count > FIELDS:
            raise TooLarge(f"the form has more than {FIELDS} fields; send fewer")
        if not isinstance(part, BodyPartReader) or not part.name:
            raise FileProblem("the form has a field without a name, or a form within; name every field")
        transfer = part.headers.get("Content-Transfer-Encoding", "binary").lower()
        if "Content-Encoding" in part.headers or transfer not in ("binary", "8bit", "7bit"):
            raise FileProblem(f"field {part.name!r} is encoded; send its plain bytes")
        if part.filename is None:
            text = await _read_text(part, min(left, FIELD_BYTES))
            form.fields[part.name] = text
            left -= len(text.encode())
        else:
            draft = Draft(folder, left)
            drafts.append(draft)
            await receive(do, draft, _pieces(part))
            form.files[part.name] = Upload(part.name, part.filename, draft)
            left -= draft.nbytes


async def _pieces(part: BodyPartReader) -> AsyncIterator[bytes]:
    while piece := await part.read_chunk(CHUNK_BYTES):
        yield piece


async def _read_text(part: BodyPartReader, limit: int) -> str:
    found = bytearray()
    async for piece in _pieces(part):
        found += piece
        if len(found) > limit:
            raise TooLarge(f"field {part.name!r} has over {limit} bytes; send less")
    try:
        return found.decode()
    except UnicodeDecodeError:
        raise FileProblem(f"field {part.name!r} is not UTF-8 text; send text, or name it as a file") from None


def check_length(request: web.Request, limit: int) -> None:
    """Refuses a body whose length is told to be too large before any of it is read.

    Raises:
        TooLarge: it is.
    """
    if request.content_length is not None and request.content_length > limit:
        raise TooLarge(f"the body has {request.content_length} bytes, more than {limit}; send less")


async def read_json(request: web.Request, do: Do, limit: int = JSON_BYTES) -> Any:
    """The body as JSON.

    Raises:
        TooLarge: it has too many bytes.
        FileProblem: it is no JSON.
    """
    check_length(request, limit)
    body = bytearray()
    with _told("the body"):
        async for piece in request.content.iter_any():
            body += piece
            if len(body) > limit:
                raise TooLarge(f"the body has over {limit} bytes; send less")
    try:
        return await do(parsed, bytes(body))
    except WorkflowError as error:
        raise FileProblem(f"the body is {error.problems[0].what}; send JSON") from None


async def receive_body(request: web.Request, do: Do, draft: Draft) -> None:
    """Writes the body of a request into a draft.

    Raises:
        TooLarge, StorageError: as `receive`.
        FileProblem: the transfer is malformed.
    """
    check_length(request, draft.limit)
    with _told("the body"):
        await receive(do, draft, request.content.iter_chunked(CHUNK_BYTES))


@contextlib.contextmanager
def _told(what: str) -> Any:
    """Names what is wrong with the bytes of a request."""
    try:
        yield
    except (HttpProcessingError, aiohttp.ClientPayloadError, web.RequestPayloadError, ValueError) as error:
        reason = (getattr(error, "message", "") or str(error)).encode("utf-8", "backslashreplace").decode()
        raise FileProblem(f"{what} is malformed: {reason}; send it anew") from None
    except (AssertionError, RuntimeError, LookupError) as error:  # aiohttp at bytes it does not expect
        raise FileProblem(f"{what} is malformed ({type(error).__name__}); send it anew") from error


class _PlainFile(web.FileResponse):
    """A file as it is; aiohttp would send `a.png.gz` for `a.png` where a client has put one there."""

    def _get_file_path_stat_encoding(self, accept_encoding: str) -> tuple[Path | None, os.stat_result, str | None]:
        return super()._get_file_path_stat_encoding("")


def file_answer(path: Path, *, content_type: str | None = None, is_download: bool = False) -> web.StreamResponse:
    """A file as an answer: with ranges, ETag and 304; a browser never runs it.

    Args:
        path: the file.
        content_type: by default after its ending, and bytes to download where that could be run.
        is_download: a browser saves it instead of showing it.
    """
    kind = content_type or CONTENT_TYPES.get(path.suffix.lower(), "application/octet-stream")
    is_download = is_download or kind == "application/octet-stream"
    headers = {"Content-Type": kind, **file_headers(path.name, is_download=is_download)}
    return _PlainFile(path, headers=headers)


async def rendered_answer(request: web.Request, path: Path, rendering: Rendering) -> web.Response:
    """A picture in another format or size as an answer: with ETag and 304, kept among the thumbnails."""
    service = service_of(request)
    tag = await service.desk.do(render_tag, path, rendering)
    headers = file_headers(f"{path.stem}.{rendering.format}")
    if any(known.value in (tag, "*") for known in request.if_none_match or ()):
        answer = web.Response(status=304, headers=headers)
    else:
        folder = service.desk.folders.home / "cache" / "thumbnails"
        made = await service.desk.do(thumbnail, folder, path, rendering, service.settings.max_pixels)
        answer = web.Response(body=made, content_type=rendering.content_type, headers=headers)
    answer.etag = tag
    return answer


def file_headers(name: str, *, is_download: bool = False) -> dict[str, str]:
    """The headers of a file of a name; strange names are told as RFC 5987 has it."""
    plain = "".join(sign if " " <= sign <= "~" and sign not in '"\\%' else "_" for sign in name)
    disposition = f'{"attachment" if is_download else "inline"}; filename="{plain}"'
    if plain != name:
        disposition += f"; filename*=UTF-8''{quote(name.encode('utf-8', 'surrogateescape'), safe='')}"
    return {
        "Content-Disposition": disposition,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-cache",  # ask again each time; the ETag spares the bytes
    }
