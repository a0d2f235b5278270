"""The canvas: the files of `web/` as the browser takes them, compressed once and fresh after every change."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from nodegraph.errors import NodegraphError

TYPES = {
    ".js": "text/javascript",  # never what the machine says: browsers refuse a module as text/plain
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webp": "image/webp",
    ".ico": "image/x-icon",
}
PLAIN = ("vendor/LICENSES", "vendor/versions.json")
PACKED = ("text/", "image/svg", "application/json")  # what gzip makes smaller
LEVEL = 9
INDEX, START = "index.html", "app.js"
COMMENT = re.compile(rb"^[ \t]*/\*(?:(?!\*/).)*\*/[ \t]*$", re.MULTILINE | re.DOTALL)
"""A comment that has its lines to itself."""
INLINE_COMMENT = re.compile(rb"/\*\* @(?:(?!\*/).)*\*/ ?", re.DOTALL)
"""A type in the middle of a line."""
SHEET = re.compile(rb"""^@import "([\w./-]+\.css)";$""", re.MULTILINE)
IMPORT = re.compile(r"""^(?:import|export)\s(?:[^'";]*?\sfrom\s*)?["'](\.[^"']+)["']""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Page:
    """A file as it is sent.

    Attributes:
        body: its bytes.
        packed: these under gzip, of scripts and styles without their comments; None where that saves nothing.
        content_type: with its charset.
        tag: digest of the body, for its ETag.
        imports: the modules it imports statically, relative to the folder.
    """

    body: bytes
    packed: bytes | None
    content_type: str
    tag: str
    imports: tuple[str, ...] = ()


class Canvas:
    """The pages of a folder, each read and compressed once for each time it changes.

    Args:
        folder: with `index.html` and what it loads.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._pages: dict[str, tuple[list[tuple[Path, int, int]], Page]] = {}
        self._index: tuple[str, list[str], Page] | None = None

    def routes(self) -> list[web.RouteDef]:
        """The front page, the page of a form, and the files."""
        return [
            web.get("/", self._show_index),
            web.get("/form/{name:.+}", self._show_index),
            web.get("/web/{path:.+}", self._show_file),
        ]

    def page(self, name: str) -> Page | None:
        """A file by its name in the folder; None for what is not there or not for browsers. It reads the disk."""
        try:
            path = (self._folder / name).resolve()
            inside = path.relative_to(self._folder).as_posix()
            if not _is_served(inside) or not path.is_file():
                return None
            known = self._pages.get(inside)
            if known is None or known[0] != _state(part for part, *_ in known[0]):
                known = self._pages[inside] = self._made(path, inside)
        except (OSError, ValueError):  # ValueError: a place outside, or no name at all, such as one with a NUL
            return None
        return known[1]

    def _made(self, path: Path, inside: str) -> tuple[list[tuple[Path, int, int]], Page]:
        """A page, with when its files were changed; a style sheet has those that it imports in place of the imports."""
        body, parts = path.read_bytes(), [path]
        if path.suffix == ".css":
            parts += [path.parent / name.decode() for name in SHEET.findall(body)]
        state = _state(parts)
        if len(parts) > 1:
            body = SHEET.sub(lambda found: (path.parent / found.group(1).decode()).read_bytes(), body)
        return state, _page(inside, body)

    def index(self) -> Page | None:
        """The front page, which tells the browser all modules that it will need, so that none waits for another."""
        page = self.page(INDEX)
        if page is None:
            return None
        modules = self._modules()
        if self._index is None or self._index[:2] != (page.tag, modules):
            links = "".join(f'<link rel="modulepreload" href="/web/{name}">\n' for name in modules).encode()
            head, tag, rest = page.body.partition(b"</head>")
            self._index = (page.tag, modules, _page(INDEX, head + links + tag + rest))
        return self._index[2]

    def _modules(self) -> list[str]:
        """The modules that the first one needs, itself first."""
        found = [START]
        for name in found:  # which grows under way
            page = self.page(name)
            found.extend([other for other in dict.fromkeys(page.imports if page else ()) if other not in found])
        return [name for name in found if self.page(name)]

    async def _show_index(self, request: web.Request) -> web.Response:
        return _answer(request, await asyncio.to_thread(self.index))

    async def _show_file(self, request: web.Request) -> web.Response:
        return _answer(request, await asyncio.to_thread(self.page, request.match_info["path"]))


def canvas_folder() -> Path:
    """Where the canvas is: in the installed package, or beside it in a checkout.

    Raises:
        NodegraphError: it is in neither.
    """
    here = Path(__file__).parent
    places = [here / "static" / "web"]
    if (here.parent / "pyproject.toml").is_file():
        places.append(here.parent / "web")
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None:
        raise NodegraphError(f"the canvas is not in {places[-1]}: install nodegraph anew, or serve --frontend none")
    return folder


def _state(parts: Iterable[Path]) -> list[tuple[Path, int, int]]:
    return [(part, (status := part.stat()).st_mtime_ns, status.st_size) for part in parts]


def _is_served(name: str) -> bool:
    if "node_modules" in name.split("/"):
        return False
    return name == INDEX or name in PLAIN or Path(name).suffix in TYPES


def _page(name: str, body: bytes) -> Page:
    suffix = Path(name).suffix
    kind = TYPES.get(suffix) or {".html": "text/html", ".json": "application/json"}.get(suffix, "text/plain")
    is_text = kind.startswith(PACKED)
    packed = gzip.compress(_bare(name, body), LEVEL, mtime=0) if is_text else None
    if packed is not None and len(packed) >= len(body):
        packed = None
    imports: tuple[str, ...] = ()
    if suffix == ".js":
        folder, text = posixpath.dirname(name), body.decode("utf-8", "replace")
        imports = tuple(posixpath.normpath(posixpath.join(folder, other)) for other in IMPORT.findall(text))
    content_type = f"{kind}; charset=utf-8" if is_text else kind
    return Page(body, packed, content_type, hashlib.sha256(body).hexdigest()[:32], imports)


def _bare(name: str, body: bytes) -> bytes:
    """A script or style of ours without its comments, its lines where they were: a quarter is not sent."""
    if name.startswith("vendor/") or not name.endswith((".js", ".css")):
        return body
    return INLINE_COMMENT.sub(b"", COMMENT.sub(lambda found: b"\n" * found.group().count(b"\n"), body))


def _answer(request: web.Request, page: Page | None) -> web.Response:
    if page is None:
        raise web.HTTPNotFound
    return answer_of(request, page)


def answer_of(request: web.Request, page: Page) -> web.Response:
    """A page as an answer: 304 where the client has it, compressed where the client takes that."""
    headers = {"Cache-Control": "no-cache", "Vary": "Accept-Encoding", "ETag": f'W/"{page.tag}"'}
    if any(known.value in (page.tag, "*") for known in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    headers["Content-Type"] = page.content_type
    if page.packed is None or not _takes_gzip(request.headers.get("Accept-Encoding", "")):
        return web.Response(body=page.body, headers=headers)
    return web.Response(body=page.packed, headers={**headers, "Content-Encoding": "gzip"})


def _takes_gzip(accepted: str) -> bool:
    """True for an Accept-Encoding with gzip that does not give it the weight 0."""
    found = re.search(r"\bgzip\b\s*(?:;\s*q=([0-9.]+))?", accepted, re.IGNORECASE)
    return found is not None and (found.group(1) is None or found.group(1).strip("0.") != "")
