"""The canvas as the browser takes it: compressed, fresh, complete, and nothing beside it."""

from __future__ import annotations

import asyncio
import gzip
import os
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from yarl import URL

from nodegraph.errors import NodegraphError
from server import web as module
from server.web import Canvas, canvas_folder

APP = "import { html } from './vendor/flow.js';\n" + "export const start = () => html`<p>start</p>`;\n" * 40
FILES = {
    "index.html": "<html><head><title>nodegraph</title></head><body></body></html>",
    "app.js": APP,
    "vendor/flow.js": "export const html = 1;",
    "vendor/flow.d.ts": "export const html: number;",
    "vendor/build.mjs": "build();",
    "vendor/package.json": "{}",
    "vendor/versions.json": "{}",
    "vendor/LICENSES": "MIT",
    "vendor/node_modules/react/index.js": "react();",
    "tsconfig.json": "{}",
    "style/app.css": "body { margin: 0 }\n" * 40,
    "icon.svg": "<svg/>",
}
PLAIN = {"Accept-Encoding": "identity"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "web"
    for name, text in FILES.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    (tmp_path / "secret.js").write_text("secret")
    return place


def change(path: Path, text: str, *, seconds: int = 1_000_000_000) -> None:
    """Writes a file with a time of its own, so that even one of the same length has changed."""
    path.write_text(text)
    os.utime(path, (seconds, seconds))


def ask(folder: Path, *asked):
    """Status, headers and body for each path, or pair of a path and headers; bodies as they were sent."""

    async def main():
        app = web.Application()
        app.add_routes(Canvas(folder).routes())
        async with TestServer(app) as server, ClientSession(auto_decompress=False) as client:
            found = []
            for item in asked:
                path, headers = item if isinstance(item, tuple) else (item, PLAIN)
                url = URL(f"http://{server.host}:{server.port}{path}", encoded=True)  # nothing in it is tidied up
                answer = await client.get(url, headers=headers)
                found.append((answer.status, answer.headers, await answer.read()))
            return found

    return asyncio.run(main())


@pytest.mark.parametrize(("name", "kind"), [
    ("app.js", "text/javascript; charset=utf-8"),
    ("style/app.css", "text/css; charset=utf-8"),
    ("icon.svg", "image/svg+xml; charset=utf-8"),
    ("vendor/versions.json", "application/json; charset=utf-8"),
    ("vendor/LICENSES", "text/plain; charset=utf-8"),
])  # fmt: skip
def test_a_file_is_served_with_the_type_that_browsers_want(folder, monkeypatch, name, kind):
    monkeypatch.setattr("mimetypes.guess_type", lambda *_: ("text/plain", None))  # as some Windows registries say
    ((status, headers, body),) = ask(folder, f"/web/{name}")
    assert (status, headers["Content-Type"], body.decode()) == (200, kind, FILES[name])
    assert headers["Cache-Control"] == "no-cache" and headers["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize("path", ["/", "/form/text_to_image", "/form/mine/portrait"])
def test_the_front_page_and_the_pages_of_forms_are_the_index(folder, path):
    ((status, headers, body),) = ask(folder, path)
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    assert b"<title>nodegraph</title>" in body


@pytest.mark.parametrize("name", [
    "vendor/node_modules/react/index.js", "vendor/flow.d.ts", "vendor/build.mjs", "vendor/package.json",
    "tsconfig.json", "style", "style/", "vendor", "", "missing.js", "%00.js", "a%00.js", "%2e%2e/secret.js",
    "vendor/%2e%2e/%2e%2e/secret.js", "..%2fsecret.js", "..%5csecret.js", "/etc/hosts", "%2fetc%2fhosts", "app.js/x.js",
    "x" * 4000 + ".js", "../secret.js", "style//../../secret.js",
])  # fmt: skip
def test_nothing_else_is_served(folder, name):
    assert ask(folder, f"/web/{name}")[0][0] == 404


def test_a_link_out_of_the_folder_is_not_followed(folder):
    (folder / "link.js").symlink_to(folder.parent / "secret.js")
    assert ask(folder, "/web/link.js")[0][0] == 404


@pytest.mark.parametrize(("accepted", "is_packed"), [
    ("gzip", True), ("br, GZIP;q=0.5", True), ("gzip;q=0, br", False), ("identity", False), ("", False),
])  # fmt: skip
def test_it_is_compressed_for_those_who_take_that(folder, accepted, is_packed):
    ((_, headers, body),) = ask(folder, ("/web/app.js", {"Accept-Encoding": accepted}))
    assert (headers.get("Content-Encoding") == "gzip") is is_packed
    assert (gzip.decompress(body) if is_packed else body).decode() == APP


def test_comments_on_lines_of_their_own_are_not_sent_and_lines_stay_where_they_are(folder):
    code = "/* cast */ const a = 1; /* why */\nconst b = `/* text */`; // c\n"
    typed = "const c = (/** @type {any} */ a) => a;\n"
    change(folder / "app.js", "/** Begins.\n *\n * More. */\n" + code * 40 + "  /* one */\nend();\n" + typed)
    change(folder / "vendor/flow.js", "/*! MIT */\n" * 40)
    packed = {"Accept-Encoding": "gzip"}
    (_, _, sent), (_, _, vendor) = ask(folder, ("/web/app.js", packed), ("/web/vendor/flow.js", packed))
    assert gzip.decompress(sent).decode() == "\n\n\n" + code * 40 + "\nend();\nconst c = (a) => a;\n"
    assert gzip.decompress(vendor).decode() == "/*! MIT */\n" * 40


def test_a_style_sheet_is_sent_with_those_it_imports_and_follows_them(folder):
    change(folder / "style/index.css", '@import "app.css";\n@import "../vendor/flow.css";\n')
    change(folder / "vendor/flow.css", "a {}\n")
    assert ask(folder, ("/web/style/index.css", PLAIN))[0][2].decode() == FILES["style/app.css"] + "\na {}\n\n"
    canvas = Canvas(folder)
    before = canvas.page("style/index.css")
    change(folder / "vendor/flow.css", "b {}\n", seconds=2_000_000_000)
    after = canvas.page("style/index.css")
    assert (before.body[-5:], after.body[-5:]) == (b"a {}\n\n"[-5:], b"b {}\n\n"[-5:]) and before.tag != after.tag


def test_what_compression_would_make_longer_is_sent_as_it_is(folder):
    ((_, headers, body),) = ask(folder, ("/web/icon.svg", {"Accept-Encoding": "gzip"}))
    assert "Content-Encoding" not in headers and body == b"<svg/>"


def test_who_has_a_file_is_not_sent_it_again_until_it_changes(folder):
    change(folder / "app.js", "one")
    canvas = Canvas(folder)
    first = canvas.page("app.js")
    assert first is not None and canvas.page("app.js") is first
    tag = {"If-None-Match": f'W/"{first.tag}"'}
    same, other = ask(folder, ("/web/app.js", tag), ("/web/app.js", {"If-None-Match": '"other"', **PLAIN}))
    assert (same[0], same[2], same[1]["ETag"]) == (304, b"", f'W/"{first.tag}"')
    assert (other[0], other[2]) == (200, b"one")
    change(folder / "app.js", "two", seconds=1_000_000_001)
    assert ask(folder, ("/web/app.js", {**tag, **PLAIN}))[0][2] == b"two"
    again = canvas.page("app.js")
    assert again is not None and again.body == b"two"


def test_a_file_is_kept_once_however_its_name_is_spelt(folder):
    canvas = Canvas(folder)
    assert canvas.page("style/../app.js") is canvas.page("./app.js") is canvas.page("app.js") is not None


def preloaded(canvas: Canvas) -> list[str]:
    page = canvas.index()
    assert page is not None
    lines = page.body.decode().partition("</head>")[0].splitlines()
    return [line.partition('href="/web/')[2][:-2] for line in lines if "modulepreload" in line]


def test_the_index_names_every_module_that_the_first_one_needs(folder):
    (folder / "app.js").write_text(
        'import "./state/a.js";\nimport { b,\n  c,\n} from "./b.js";\nexport * from "./state/../d.js";\n'
        '/** @typedef {import("./types.js").T} T */\nconst later = () => import("./later.js");\n'
        '// import "./old.js"\nimport { gone } from "./gone.js";\nimport x from "outside";\n'
    )
    (folder / "state").mkdir()
    (folder / "state" / "a.js").write_text('import { b } from "../b.js";\nimport app from "../app.js";\n')
    for name in ("b", "d", "types", "later", "old"):
        (folder / f"{name}.js").write_text("export const b = 1;\n")
    assert preloaded(Canvas(folder)) == ["app.js", "state/a.js", "b.js", "d.js"]


def test_the_index_follows_what_its_modules_import(folder):
    canvas = Canvas(folder)
    assert preloaded(canvas) == ["app.js", "vendor/flow.js"]
    before = canvas.index()
    assert canvas.index() is before
    change(folder / "app.js", "start();")
    assert preloaded(canvas) == ["app.js"]
    after = canvas.index()
    assert before is not None and after is not None and before.tag != after.tag


def test_without_an_index_or_modules_there_is_no_error(tmp_path):
    assert [status for status, _, _ in ask(tmp_path, "/", "/web/app.js")] == [404, 404]
    (tmp_path / "index.html").write_text("<html></html>")
    assert ask(tmp_path, "/")[0][2] == b"<html></html>"


def test_the_canvas_is_found_in_the_checkout_and_its_absence_is_told(monkeypatch, tmp_path):
    assert (canvas_folder() / "index.html").is_file()
    monkeypatch.setattr(module, "__file__", str(tmp_path / "server" / "web.py"))
    with pytest.raises(NodegraphError, match="--frontend none"):
        canvas_folder()
    (tmp_path / "web").mkdir()
    with pytest.raises(NodegraphError, match="install nodegraph anew"):
        canvas_folder()  # a folder of this name beside an installed package is someone else's
    (tmp_path / "server" / "static" / "web").mkdir(parents=True)
    assert canvas_folder() == tmp_path / "server" / "static" / "web"
