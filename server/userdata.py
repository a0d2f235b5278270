"""What ComfyUI's web frontend keeps at the server: settings and files of its one user; and what packs would add."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path
from typing import Any, cast

from aiohttp import web

from nodegraph.errors import FileProblem, WorkflowError
from nodegraph.workflow import parsed
from server.bodies import Route, file_answer, file_headers, in_words, read_json, receive_body
from server.files import DRAFT, BadName, Draft, Missing, Outside, existing, give_name, inside, make_folder, split_name
from server.service import service_of

SETTINGS = "comfy.settings.json"


def routes() -> list[web.RouteDef]:
    """The routes, without a prefix. Call it once for a server: its routes share the lock of the settings."""
    settings = Settings()
    gets: list[tuple[str, Route]] = [
        ("/users", _users),
        ("/settings", settings.read_all),
        ("/settings/{id}", settings.read_one),
        ("/userdata", _list),
        ("/v2/userdata", _list_tree),
        ("/userdata/{file}", _read),
        ("/user.css", _user_css),
        ("/workflow_templates", _nothing_by_name),
        ("/i18n", _nothing_by_name),
        ("/global_subgraphs", _nothing_by_name),
        ("/global_subgraphs/{id}", _no_subgraph),
        ("/extensions", _nothing),
        ("/templates/index.json", _nothing),
        ("/templates/index_logo.json", _nothing_by_name),
    ]
    posts: list[tuple[str, Route]] = [
        ("/users", _add_user),
        ("/settings", settings.merge),
        ("/settings/{id}", settings.write_one),
        ("/userdata/{file}", _write),
        ("/userdata/{file}/move/{dest}", _move),
    ]
    return [
        *(web.get(path, in_words(route)) for path, route in gets),
        *(web.post(path, in_words(route)) for path, route in posts),
        web.delete("/userdata/{file}", in_words(_delete)),
    ]


class Settings:
    """The settings of the user: one JSON object in a file, changed by one request at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    async def read_all(self, request: web.Request) -> web.StreamResponse:
        """Answers with all settings."""
        return web.json_response(await service_of(request).desk.do(_read_settings, _root(request)))

    async def read_one(self, request: web.Request) -> web.StreamResponse:
        """Answers with one value, or null."""
        found = await service_of(request).desk.do(_read_settings, _root(request))
        return web.json_response(found.get(request.match_info["id"]))

    async def merge(self, request: web.Request) -> web.StreamResponse:
        """Sets those that are sent; the others stay."""
        do = service_of(request).desk.do
        changes: Any = await read_json(request, do)
        if not isinstance(changes, dict):
            raise FileProblem("the body is no object of settings; send one, by their names")
        await do(self._change, _root(request), cast("dict[str, Any]", changes))
        return web.Response()

    async def write_one(self, request: web.Request) -> web.StreamResponse:
        """Sets one."""
        do = service_of(request).desk.do
        await do(self._change, _root(request), {request.match_info["id"]: await read_json(request, do)})
        return web.Response()

    def _change(self, root: Path, changes: dict[str, Any]) -> None:
        with self._lock:
            settings = _read_settings(root, keeps_broken=True) | changes
            folder = make_folder(root, ())
            draft = Draft(folder, 1 << 40)
            try:
                draft.write(json.dumps(settings, indent=4).encode())
                draft.finish()
                draft.take(folder, SETTINGS, "replace")
            finally:
                draft.drop()


def _read_settings(root: Path, *, keeps_broken: bool = False) -> dict[str, Any]:
    """The settings in a folder; none where the file is missing or broken, which is then put aside or passed over."""
    try:
        path = existing(root, SETTINGS)
        found: Any = parsed(path.read_bytes())
    except Missing:
        return {}
    except WorkflowError:
        found = None
    if isinstance(found, dict):
        return cast("dict[str, Any]", found)
    if keeps_broken:
        with contextlib.suppress(OSError):
            os.replace(root / SETTINGS, root / f"{SETTINGS}.broken")
    return {}


def _root(request: web.Request) -> Path:
    return service_of(request).desk.folders.home / "user" / "default"


async def _users(request: web.Request) -> web.StreamResponse:
    return web.json_response({"storage": "server", "migrated": True})


async def _add_user(request: web.Request) -> web.StreamResponse:
    return web.json_response({"error": "this server has one user; give others a token of their own"}, status=400)


async def _nothing_by_name(request: web.Request) -> web.StreamResponse:
    return web.json_response({})


async def _no_subgraph(request: web.Request) -> web.StreamResponse:
    return web.json_response(None)


async def _nothing(request: web.Request) -> web.StreamResponse:
    return web.json_response([])


def _parts(name: str) -> tuple[str, ...]:
    """The parts of a path below the user's folder. ComfyUI answers 403 to those it does not take."""
    try:
        return split_name(name, may_hide=True)
    except BadName as problem:
        raise Outside(str(problem)) from None


def _file(root: Path, name: str) -> Path:
    _parts(name)
    return existing(root, name, may_hide=True)


def _is_on(request: web.Request, name: str, default: str = "false") -> bool:
    return request.query.get(name, default).lower() == "true"


def _described(path: Path, top: Path) -> dict[str, Any]:
    status = path.stat()
    return {
        "path": path.relative_to(top).as_posix(), "size": status.st_size,
        "modified": int(status.st_mtime * 1000), "created": int(status.st_ctime * 1000),
    }  # fmt: skip


async def _list(request: web.Request) -> web.StreamResponse:
    name = request.query.get("dir", "")
    if not name:
        raise BadName("dir: it is missing; name a folder in the query")
    return web.json_response(
        await service_of(request).desk.do(
            _files_below, _root(request), _parts(name), _is_on(request, "recurse"), _is_on(request, "full_info"),
            _is_on(request, "split"),
        )
    )  # fmt: skip


def _files_below(root: Path, parts: tuple[str, ...], recurses: bool, is_full: bool, splits: bool) -> list[Any]:
    top = inside(root, parts)
    if not top.is_dir():
        raise Missing("there is no such folder")
    found: list[Path] = []
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(name for name in folders if recurses and not name.startswith("."))
        found += [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
    found = [path for path in found if path.is_file()]
    if is_full:
        return [_described(path, top) for path in found]
    texts = [path.relative_to(top).as_posix() for path in found]
    return [[text, *text.split("/")] for text in texts] if splits else texts


async def _list_tree(request: web.Request) -> web.StreamResponse:
    try:
        parts = split_name(request.query.get("path", ""), may_hide=True)
        return web.json_response(await service_of(request).desk.do(_tree, _root(request), parts))
    except Outside as problem:
        raise BadName(str(problem)) from None  # 400, unlike its older sister


def _tree(root: Path, parts: tuple[str, ...]) -> list[dict[str, Any]]:
    """All folders, then all files below one, each by name; paths are relative to the user's folder."""
    top, below = inside(root, ()), inside(root, parts)
    if not below.exists():
        if parts:
            raise Missing("there is no such folder")
        return []
    if not below.is_dir():
        raise BadName("path: it is a file; name a folder")
    found: list[dict[str, Any]] = []
    for folder, folders, names in os.walk(below):
        place = Path(folder).relative_to(top)
        found += [{"name": name, "path": (place / name).as_posix(), "type": "directory"} for name in folders]
        for path in (Path(folder, name) for name in names if not DRAFT.fullmatch(name)):
            if path.is_file():
                status = path.stat()
                size = {"size": status.st_size, "modified": status.st_mtime}
                found.append({"name": path.name, "path": (place / path.name).as_posix(), "type": "file", **size})
    return sorted(found, key=lambda entry: (entry["type"] != "directory", entry["name"].lower(), entry["path"]))


async def _read(request: web.Request) -> web.StreamResponse:
    if request.match_info["file"] == "user.css":
        return await _user_css(request)
    path: Path = await service_of(request).desk.do(_file, _root(request), request.match_info["file"])
    return file_answer(path, is_download=True)


async def _user_css(request: web.Request) -> web.StreamResponse:
    try:
        path: Path = await service_of(request).desk.do(_file, _root(request), "user.css")
    except Missing:
        return web.Response(content_type="text/css", headers=file_headers("user.css"))
    return file_answer(path, content_type="text/css")


async def _write(request: web.Request) -> web.StreamResponse:
    do, root = service_of(request).desk.do, _root(request)
    parts = _named(request.match_info["file"])
    draft = Draft(await do(make_folder, root, parts[:-1]), request.client_max_size)
    try:
        await receive_body(request, do, draft)
        path = await do(_settle, root, draft.path, parts, _overwrites(request))
    finally:
        await do(draft.drop)
    return await _told(request, path)


def _named(name: str) -> tuple[str, ...]:
    parts = _parts(name)
    if not parts:
        raise BadName("the path names no file")
    return parts


def _overwrites(request: web.Request) -> bool:
    return request.query.get("overwrite", "true") != "false"


def _settle(root: Path, source: Path, parts: tuple[str, ...], overwrites: bool) -> Path:
    """Gives a file its name below the user's folder, in one step."""
    folder = make_folder(root, parts[:-1])
    give_name(source, folder, parts[-1], "replace" if overwrites else "refuse")
    return folder / parts[-1]


async def _told(request: web.Request, path: Path) -> web.StreamResponse:
    described = await service_of(request).desk.do(lambda: _described(path, inside(_root(request), ())))
    return web.json_response(described if _is_on(request, "full_info") else described["path"])


async def _delete(request: web.Request) -> web.StreamResponse:
    await service_of(request).desk.do(_remove, _root(request), request.match_info["file"])
    return web.Response(status=204)


def _remove(root: Path, name: str) -> None:
    path = _file(root, name)
    path.unlink(missing_ok=True)


async def _move(request: web.Request) -> web.StreamResponse:
    root, do = _root(request), service_of(request).desk.do
    source: Path = await do(_file, root, request.match_info["file"])
    parts = _named(request.match_info["dest"])
    return await _told(request, await do(_rename, root, source, parts, _overwrites(request)))


def _rename(root: Path, source: Path, parts: tuple[str, ...], overwrites: bool) -> Path:
    path = _settle(root, source, parts, overwrites)
    if not overwrites:  # it got its name as a second link
        source.unlink(missing_ok=True)
    return path
