"""ComfyUI's routes for files: shapes, statuses, ranges, headers; nothing outside, nothing half, nothing run."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import FormData, web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from yarl import URL

from nodegraph.files import Folders
from server import comfy_files
from server.service import SERVICE
from tests.server.test_pictures import encoded, opened, png_of

Client = TestClient[web.Request, web.Application]
LIMIT = 200_000


def app_of(home: Path, route_list: list[web.RouteDef]) -> web.Application:
    """An app with the routes as the server registers them, and only the parts that they use."""
    app = web.Application(client_max_size=LIMIT)
    desk = SimpleNamespace(folders=Folders.of(home), do=asyncio.to_thread)
    settings = SimpleNamespace(max_upload=1000 * LIMIT, max_pixels=1_000_000)  # this caller's limit is lower
    app[SERVICE] = SimpleNamespace(desk=desk, settings=settings)  # type: ignore[assignment]
    for route in route_list:
        app.router.add_route(route.method, route.path, route.handler)
        app.router.add_route(route.method, f"/api{route.path}", route.handler)
    return app


def serve(home: Path, talk: Callable[[Client], Awaitable[None]]) -> None:
    async def run() -> None:
        async with TestClient(TestServer(app_of(home, comfy_files.routes()))) as client:
            await talk(client)

    asyncio.run(run())


def put(home: Path, place: str, content: bytes) -> Path:
    path = home / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def form_of(content: bytes, name: str = "a.png", **fields: str) -> FormData:
    form = FormData(quote_fields=False)  # browsers send names as they are
    form.add_field("image", content, filename=name)  # first, as the web frontend sends it
    for key, value in fields.items():
        form.add_field(key, value)
    return form


def listed(home: Path, kind: str = "input") -> list[str]:
    return sorted(path.relative_to(home / kind).as_posix() for path in (home / kind).rglob("*") if path.is_file())


def test_an_upload_answers_as_comfyui_does(tmp_path: Path) -> None:
    async def talk(client: Client) -> None:
        first, other = encoded("PNG"), encoded("PNG", (9, 9))
        for content, name in ((first, "ü.png"), (first, "ü.png"), (other, "ü (1).png")):
            async with client.post("/api/upload/image", data=form_of(content, "ü.png", subfolder="x/y")) as answer:
                assert answer.status == 200
                assert await answer.json() == {"name": name, "subfolder": "x/y", "type": "input"}
        async with client.post(
            "/upload/image", data=form_of(other, "ü.png", subfolder="x/y", overwrite="true")
        ) as answer:
            assert (await answer.json())["name"] == "ü.png"
        async with client.post("/upload/image", data=form_of(other, type="temp", overwrite="1")) as answer:
            assert await answer.json() == {"name": "a.png", "subfolder": "", "type": "temp"}

    serve(tmp_path, talk)
    assert listed(tmp_path) == ["x/y/ü (1).png", "x/y/ü.png"]
    assert listed(tmp_path, "temp") == ["a.png"]
    assert (tmp_path / "input/x/y/ü.png").read_bytes() == encoded("PNG", (9, 9))


@pytest.mark.parametrize(
    ("content", "fields", "status", "words"),
    [
        (b"", {}, 400, "is empty (0 bytes)"),
        (b"<html>", {}, 400, "is not a picture"),
        (encoded("JPEG")[:-9], {}, 400, "cut off"),
        (png_of(60000, 60000), {}, 413, "send a smaller picture"),
        (encoded("PNG"), {"name": "../a.png"}, 400, "leads out of its folder"),
        (encoded("PNG"), {"name": "C:/a.png"}, 400, "absolute path"),
        (encoded("PNG"), {"name": ".a.png"}, 400, "hidden"),
        (encoded("PNG"), {"name": ""}, 400, "names no file"),
        (encoded("PNG"), {"subfolder": "../output"}, 400, "leads out of its folder"),
        (encoded("PNG"), {"type": "models"}, 400, "one of input, output, temp"),
        (os.urandom(LIMIT + 1), {}, 413, f"more than {LIMIT}"),
    ],
)
def test_bad_uploads_are_refused_in_words_and_leave_nothing(
    tmp_path: Path, content: bytes, fields: dict[str, str], status: int, words: str
) -> None:
    async def talk(client: Client) -> None:
        for route in ("/upload/image", "/upload/mask"):
            async with client.post(route, data=form_of(content, **fields)) as answer:
                assert (answer.status, words in await answer.text()) == (status, True)

    serve(tmp_path, talk)
    assert listed(tmp_path) == []


def test_an_upload_of_unknown_length_is_stopped_at_the_limit(tmp_path: Path) -> None:
    async def endless() -> Any:
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
        for _ in range(20):
            yield bytes(LIMIT // 10)
        yield b"\r\n--x--\r\n"

    async def talk(client: Client) -> None:
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        async with client.post("/upload/image", data=endless(), headers=headers) as answer:
            assert answer.status == 413 and "more than are taken" in await answer.text()

    serve(tmp_path, talk)
    assert listed(tmp_path) == []


@given(st.binary(max_size=300), st.sampled_from(["", "image", "subfolder", "x" * 300]), st.booleans())
def test_no_form_whatever_breaks_the_server(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, field: str, is_framed: bool
) -> None:
    home = tmp_path_factory.getbasetemp() / "forms"
    part = b'--x\r\nContent-Disposition: form-data; name="%s"; filename="a.png"\r\n' % field.encode()
    body = part + content + b"\r\n--x--\r\n" if is_framed else content

    async def talk(client: Client) -> None:
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        async with client.post("/upload/image", data=body, headers=headers) as answer:
            assert 400 <= answer.status < 500 and await answer.text()

    serve(home, talk)
    assert not home.exists() or listed(home) == []


@pytest.mark.parametrize(
    "content_type", ["application/json", "multipart/form-data", "multipart/mixed; boundary=x", "a"]
)
def test_what_is_no_form_is_refused(tmp_path: Path, content_type: str) -> None:
    async def talk(client: Client) -> None:
        async with client.post("/upload/image", data=b"{}", headers={"Content-Type": content_type}) as answer:
            assert answer.status == 400 and "send" in await answer.text()

    serve(tmp_path, talk)


def test_a_form_without_the_picture_or_with_too_many_fields_is_refused(tmp_path: Path) -> None:
    async def talk(client: Client) -> None:
        bare, full = FormData({"type": "input"}), FormData()
        bare.add_field("image", "text", content_type="text/plain")
        for number in range(100):
            full.add_field(f"f{number}", "x", content_type="text/plain")
        for form, status in ((bare, 400), (full, 413)):
            with aiohttp.MultipartWriter("form-data") as writer:
                for options, _, value in form._fields:  # pyright: ignore[reportPrivateUsage]
                    writer.append(value).set_content_disposition("form-data", name=options["name"])
            async with client.post("/upload/image", data=writer) as answer:
                assert answer.status == status, await answer.text()

    serve(tmp_path, talk)


def test_a_mask_is_joined_with_its_original(tmp_path: Path) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("workflow", "{}")
    path = put(tmp_path, "output/sub/o.png", b"")
    Image.new("RGB", (2, 1), (1, 2, 3)).save(path, pnginfo=texts)
    mask = io.BytesIO()
    Image.new("RGBA", (2, 1), (9, 9, 9, 77)).save(mask, format="PNG")

    async def talk(client: Client) -> None:
        reference = json.dumps({"filename": "o.png", "subfolder": "sub", "type": "output"})
        form = form_of(mask.getvalue(), "m.png", original_ref=reference, subfolder="clipspace")
        async with client.post("/upload/mask", data=form) as answer:
            assert await answer.json() == {"name": "m.png", "subfolder": "clipspace", "type": "input"}

    serve(tmp_path, talk)
    assert listed(tmp_path) == ["clipspace/m.png"]
    made: Any = opened((tmp_path / "input/clipspace/m.png").read_bytes())
    assert made.getpixel((0, 0)) == (1, 2, 3, 77) and made.text == {"workflow": "{}"}


@pytest.mark.parametrize(
    ("reference", "status"),
    [("", 400), ("[]", 400), ("{}", 400), ('{"filename": 3}', 400), ("[" * 9999, 400),
     ('{"filename": "none.png"}', 404), ('{"filename": "../a.png"}', 400),
     ('{"filename": "a", "subfolder": "../.."}', 403)],
)  # fmt: skip
def test_a_mask_without_its_original_is_refused(tmp_path: Path, reference: str, status: int) -> None:
    async def talk(client: Client) -> None:
        async with client.post("/upload/mask", data=form_of(encoded("PNG"), original_ref=reference)) as answer:
            assert answer.status == status and await answer.text()

    serve(tmp_path, talk)
    assert listed(tmp_path) == []


def test_a_file_is_shown_with_ranges_and_not_sent_twice(tmp_path: Path) -> None:
    content = encoded("PNG")
    put(tmp_path, "output/a.png", content)

    async def talk(client: Client) -> None:
        async with client.get("/view?filename=a.png") as answer:
            assert (answer.status, await answer.read()) == (200, content)
            headers = answer.headers
            assert headers["Content-Type"] == "image/png" and headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Content-Disposition"] == 'inline; filename="a.png"'
            tag, changed = headers["ETag"], headers["Last-Modified"]
        for name, value in (("If-None-Match", tag), ("If-Modified-Since", changed)):
            async with client.get("/view?filename=a.png", headers={name: value}) as answer:
                assert (answer.status, await answer.read()) == (304, b"")
        async with client.get("/api/view?filename=a.png", headers={"Range": "bytes=1-3"}) as answer:
            assert (answer.status, await answer.read()) == (206, b"PNG")
            assert answer.headers["Content-Range"] == f"bytes 1-3/{len(content)}"
        async with client.get("/view?filename=a.png", headers={"Range": "bytes=999999-"}) as answer:
            assert answer.status == 416

    serve(tmp_path, talk)


def test_a_strange_name_is_told_whole(tmp_path: Path) -> None:
    put(tmp_path, 'input/ü "猫" %41.png', encoded("PNG"))

    async def talk(client: Client) -> None:
        async with client.get("/view", params={"filename": 'ü "猫" %41.png [input]'}) as answer:
            assert answer.status == 200
            assert answer.content_disposition and answer.content_disposition.filename == 'ü "猫" %41.png'
            assert 'filename="_ ___ _41.png"' in answer.headers["Content-Disposition"]

    serve(tmp_path, talk)


@pytest.mark.parametrize(
    "name", ["a.html", "a.HTM", "a.js", "a.mjs", "a.css", "a.svg", "a.xhtml", "a.xml", "a", "a.png.html"]
)
def test_what_a_browser_could_run_is_bytes_to_download(tmp_path: Path, name: str) -> None:
    put(tmp_path, f"output/{name}", b"<script>alert(1)</script>")

    async def talk(client: Client) -> None:
        async with client.get("/view", params={"filename": name}) as answer:
            assert answer.headers["Content-Type"] == "application/octet-stream"
            assert answer.headers["Content-Disposition"].startswith("attachment;")
            assert answer.headers["X-Content-Type-Options"] == "nosniff"

    serve(tmp_path, talk)


def test_a_packed_file_beside_is_not_sent_in_its_stead(tmp_path: Path) -> None:
    put(tmp_path, "output/a.png", b"right")
    put(tmp_path, "output/a.png.gz", b"wrong")

    async def talk(client: Client) -> None:
        async with client.get("/view?filename=a.png", headers={"Accept-Encoding": "gzip"}) as answer:
            assert await answer.read() == b"right" and "Content-Encoding" not in answer.headers

    serve(tmp_path, talk)


@pytest.mark.parametrize(
    ("query", "status"),
    [("", 400), ("filename=", 400), ("filename=../secret.png", 400), ("filename=/secret.png", 400),
     ("filename=%00", 400), ("filename=a.png&subfolder=..", 403), ("filename=a.png&subfolder=/etc", 403),
     ("filename=link.png", 403), ("filename=none.png", 404), ("filename=a.png&type=models", 400),
     ("filename=a.png&type=temp", 404), ("filename=..%2f..%2fsecret.png%20[output]", 400), ("filename=%ff.png", 404),
     ("filename=a.png&size=0", 400), ("filename=a.png&size=x", 400), ("filename=a.png&format=svg", 400),
     ("filename=a.txt&preview=webp", 400), ("filename=bomb.png&size=64", 413), ("filename=" + "x" * 300, 400)],
)  # fmt: skip
def test_what_cannot_be_shown_is_refused_in_words(tmp_path: Path, query: str, status: int) -> None:
    secret = put(tmp_path, "secret.png", encoded("PNG"))
    put(tmp_path, "output/a.png", encoded("PNG"))
    put(tmp_path, "output/a.txt", b"text")
    put(tmp_path, "output/bomb.png", png_of(60000, 60000))
    (tmp_path / "output" / "link.png").symlink_to(secret)

    async def talk(client: Client) -> None:
        async with client.get(URL(f"/view?{query}", encoded=True)) as answer:
            assert answer.status == status
            assert await answer.text() and str(tmp_path) not in await answer.text()

    serve(tmp_path, talk)


@pytest.mark.parametrize(
    ("query", "format", "mode"),
    [("preview=webp;90", "WEBP", "RGBA"), ("preview=jpeg;50", "JPEG", "RGB"), ("preview=gif", "WEBP", "RGBA"),
     ("preview=jpeg&channel=a", "WEBP", "RGBA"), ("preview=webp&channel=rgb", "WEBP", "RGB"),
     ("channel=rgb", "PNG", "RGB"), ("channel=a", "PNG", "RGBA"), ("channel=rgba", "PNG", "RGBA"),
     ("format=jpeg", "JPEG", "RGB")],
)  # fmt: skip
def test_a_view_is_rendered_as_asked(tmp_path: Path, query: str, format: str, mode: str) -> None:
    Image.new("RGBA", (40, 30), (10, 20, 30, 99)).save(put(tmp_path, "temp/a.b.png", b""))

    async def talk(client: Client) -> None:
        async with client.get(f"/view?filename=a.b.png&type=temp&{query}") as answer:
            picture = opened(await answer.read())
            assert (picture.format, picture.mode, picture.size) == (format, mode, (40, 30))
            assert answer.headers["Content-Type"] == f"image/{format.lower()}"
            assert answer.headers["Content-Disposition"] == f'inline; filename="a.b.{format.lower()}"'
            tag = answer.headers["ETag"]
        async with client.get(f"/view?filename=a.b.png&type=temp&{query}", headers={"If-None-Match": tag}) as answer:
            assert answer.status == 304

    serve(tmp_path, talk)


def test_a_thumbnail_has_the_wanted_side_and_is_kept(tmp_path: Path) -> None:
    put(tmp_path, "output/a.png", encoded("PNG"))

    async def talk(client: Client) -> None:
        async with client.get("/view?filename=a.png&size=8") as answer:
            assert opened(await answer.read()).size == (8, 6)

    serve(tmp_path, talk)
    assert len(listed(tmp_path / "cache", "thumbnails")) == 1


def safetensors(header: Any) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


def test_models_are_listed_by_kind_and_by_old_names(tmp_path: Path) -> None:
    put(tmp_path, "models/embeddings/sub/good.pt", b"")
    put(tmp_path, "models/clip/c.safetensors", b"abc")
    put(tmp_path, "models/loras/.hidden.safetensors", b"")

    async def talk(client: Client) -> None:
        async def told(path: str) -> Any:
            async with client.get(path) as answer:
                return await answer.json() if answer.status == 200 else answer.status

        assert await told("/api/embeddings") == ["sub/good"]
        assert {"checkpoints", "loras", "embeddings"} <= set(await told("/models"))
        assert await told("/models/clip") == await told("/models/text_encoders") == ["c.safetensors"]
        assert await told("/models/loras") == []
        assert [await told(f"/models/{kind}") for kind in ("nothing", "input", "..%2f..")] == [404] * 3
        found = {entry["name"]: entry["folders"] for entry in await told("/experiment/models")}
        places = [str(tmp_path / "models" / "loras"), str(tmp_path / "output" / "loras")]
        assert found["loras"] == places and "configs" not in found
        [model] = await told("/experiment/models/text_encoders")
        assert set(model) == {"name", "pathIndex", "modified", "created", "size"}
        assert (model["name"], model["pathIndex"], model["size"]) == ("c.safetensors", 1, 3)
        assert (await told("/internal/folder_paths"))["loras"] == places

    serve(tmp_path, talk)


@pytest.mark.parametrize(
    ("content", "status"),
    [(safetensors({"__metadata__": {"a": "b"}}), 200), (safetensors({}), 404), (safetensors([1]), 404), (b"", 404),
     (b"\xff" * 99, 404), (struct.pack("<Q", 9) + b"{", 404), (safetensors({"__metadata__": 3}), 404)],
)  # fmt: skip
def test_metadata_of_a_model_is_shown_where_there_is_any(tmp_path: Path, content: bytes, status: int) -> None:
    put(tmp_path, "models/loras/m.safetensors", content)

    async def talk(client: Client) -> None:
        async with client.get("/view_metadata/loras?filename=m.safetensors") as answer:
            assert answer.status == status
            assert status != 200 or await answer.json() == {"a": "b"}
        for query in ("", "?filename=m.bin", "?filename=../m.safetensors", f"?filename={'x' * 400}.safetensors"):
            async with client.get(f"/view_metadata/loras{query}") as answer:
                assert answer.status == 404

    serve(tmp_path, talk)


def test_the_picture_of_a_model_lies_beside_it_or_in_its_metadata(tmp_path: Path) -> None:
    put(tmp_path, "models/loras/x/one.preview.png", encoded("PNG"))
    cover = base64.b64encode(encoded("JPEG")).decode()
    put(
        tmp_path,
        "models/loras/two.safetensors",
        safetensors({"__metadata__": {"ssmd_cover_images": json.dumps([cover])}}),
    )
    put(tmp_path, "models/loras/three.safetensors", safetensors({"__metadata__": {"ssmd_cover_images": "[3]"}}))

    async def talk(client: Client) -> None:
        for name in ("x/one.safetensors", "two.safetensors"):
            async with client.get(f"/api/experiment/models/preview/loras/0/{name}") as answer:
                assert answer.headers["Content-Type"] == "image/webp"
                assert opened(await answer.read()).size == (40, 30)
        for place, status in (
            ("0/three.safetensors", 404), ("0/none.safetensors", 404), ("9/two.safetensors", 404), ("x/two", 404),
            ("0000001/two", 404), ("0/..%2f..%2fsecret", 400), (f"0/{'x' * 250}.safetensors", 400),
            (f"0/{'x' * 250}", 404),
        ):  # fmt: skip
            async with client.get(URL(f"/experiment/models/preview/loras/{place}", encoded=True)) as answer:
                assert answer.status == status, place

    serve(tmp_path, talk)


def test_files_of_a_folder_come_newest_first(tmp_path: Path) -> None:
    for age, name in enumerate(("new.png", "old.png", ".hidden", "sub/below.png")):
        path = put(tmp_path, f"output/{name}", b"")
        os.utime(path, (1000 - age, 1000 - age))

    async def talk(client: Client) -> None:
        async with client.get("/internal/files/output") as answer:
            assert await answer.json() == ["new.png", "old.png"]
        async with client.get("/internal/files/temp") as answer:
            assert await answer.json() == []
        async with client.get("/internal/files/models") as answer:
            assert answer.status == 400 and "one of input" in (await answer.json())["error"]

    serve(tmp_path, talk)
