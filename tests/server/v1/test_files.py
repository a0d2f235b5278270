"""Files over the API: brought in, listed, and given in other forms."""

from __future__ import annotations

import asyncio
import io

import aiohttp
import pytest
from PIL import Image, PngImagePlugin

from tests.server.v1.serving import png, served


def form(content, name="a.png", **fields):
    made = aiohttp.FormData(quote_fields=False)
    made.add_field("file", content, filename=name, content_type="image/png")
    for key, value in fields.items():
        made.add_field(key, value)
    return made


def test_a_picture_is_uploaded_once_and_never_over_another(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            status, headers, first = await api.whole("POST", "/v1/uploads", data=form(png(), subfolder="b"))
            assert (status, headers["Location"], first["name"]) == (201, "/v1/files/input/b/a.png", "b/a.png")
            assert (first["format"], first["width"], first["height"], first["bytes"]) == ("PNG", 40, 20, len(png()))
            assert (await api.ask("GET", first["url"]))[1] == png()
            _, same = await api.ask("POST", "/v1/uploads", data=form(png(), subfolder="b"))
            assert (same["name"], same["is_new"], same["digest"]) == ("b/a.png", False, first["digest"])
            _, other = await api.ask("POST", "/v1/uploads", data=form(png((9, 9)), subfolder="b"))
            assert (other["name"], other["is_new"]) == ("b/a (1).png", True)
            data = form(png((7, 7)), subfolder="b", overwrite="true")
            assert (await api.ask("POST", "/v1/uploads", data=data))[1]["name"] == "b/a.png"
            assert (await api.ask("GET", first["url"]))[1] == png((7, 7))

    asyncio.run(story())


@pytest.mark.parametrize(
    ("data", "status", "word"),
    [
        (form(b"text"), 422, "not a picture"),
        (form(b""), 422, "empty"),
        (form(png()[:-20]), 422, "cut off"),
        (form(png((400, 400))), 413, "pixels"),
        (form(png(), "../a.png"), 422, "out of its folder"),
        (form(png(), subfolder="/x"), 422, "absolute"),
        (form(png(), overwrite="yes"), 422, "overwrite"),
        (form(png(), colour="red"), 422, "colour"),
        (aiohttp.FormData({"file": "text", "x": "y"}, default_to_multipart=True), 422, "form.file: field required"),
    ],
)
def test_an_upload_that_is_no_picture_leaves_nothing(tmp_path, data, status, word):
    async def story():
        async with served(tmp_path, max_pixels=10_000) as api:
            found, problem = await api.ask("POST", "/v1/uploads", data=data)
            assert found == status and word in problem["detail"], problem
            assert [path for path in (tmp_path / "input").rglob("*") if path.is_file()] == []
            assert (await api.ask("POST", "/v1/uploads", json={}))[0] == 415

    asyncio.run(story())


def test_pictures_are_given_in_other_forms_and_sizes(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            folder = tmp_path / "output/sub"
            folder.mkdir(parents=True)
            (folder / "a b.png").write_bytes(png())
            url = "/v1/files/output/sub/a%20b.png"
            assert (await api.ask("GET", "/v1/files/output/sub%2Fa%20b.png"))[1] == png()
            status, headers, body = await api.whole("GET", f"{url}?size=16&format=jpeg")
            picture = Image.open(io.BytesIO(body))
            assert (status, headers["Content-Type"], picture.size) == (200, "image/jpeg", (16, 8))
            tag = {"If-None-Match": headers["ETag"]}
            assert (await api.ask("GET", f"{url}?size=16&format=jpeg", headers=tag))[0] == 304
            assert (await api.whole("GET", f"{url}?size=16"))[1]["Content-Type"] == "image/png"
            assert (await api.whole("GET", url, headers={"Range": "bytes=0-3"}))[2] == b"\x89PNG"
            assert (await api.ask("GET", url, headers={"Range": "bytes=999999-"}))[0] == 416

    asyncio.run(story())


def test_files_outside_or_of_other_kinds_are_not_shown(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            (tmp_path / "output").mkdir()
            (tmp_path / "output/a.html").write_text("<script>1</script>")
            _, headers, _ = await api.whole("GET", "/v1/files/output/a.html")
            assert headers["Content-Type"] == "application/octet-stream"
            assert headers["Content-Disposition"].startswith("attachment")
            assert (await api.ask("GET", "/v1/files/output/a.html?size=16"))[0] == 422
            assert (await api.ask("GET", "/v1/files/output/none.png"))[0] == 404
            for path in (
                "output/..%2Fx",
                "models/x",
                "output/.x",
                "output/a%00b",
                "output/a?size=1",
                "output/a?format=gif",
            ):
                assert (await api.ask("GET", f"/v1/files/{path}"))[0] == 422, path

    asyncio.run(story())


def test_outputs_are_listed_once_each_by_page_run_and_words(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            runs = []
            for _ in range(3):
                await api.submit()
                runs.append(await api.carry())
            _, page = await api.ask("GET", "/v1/outputs?limit=2")
            assert [file["run"] for file in page["outputs"]] == runs[:0:-1]
            _, rest = await api.ask("GET", f"/v1/outputs?limit=2&cursor={page['next']}")
            assert ([file["run"] for file in rest["outputs"]], rest["next"]) == (runs[:1], None)
            for query, count in [
                (f"run={runs[0]}", 1),
                ("type=temp", 0),
                ("search=PLAIN", 3),
                (f"search={runs[1]}.png", 1),
            ]:
                assert len((await api.ask("GET", f"/v1/outputs?{query}"))[1]["outputs"]) == count, query
            await api.service.store.write(lambda database: database.execute("update files set filename = 'same.png'"))
            _, same = await api.ask("GET", "/v1/outputs")
            assert [(file["run"], file["filename"]) for file in same["outputs"]] == [(runs[2], "same.png")]
            assert (await api.ask("GET", "/v1/outputs?cursor=x"))[0] == 422

    asyncio.run(story())


def test_a_picture_is_given_without_its_workflow(tmp_path):
    carried, file = PngImagePlugin.PngInfo(), io.BytesIO()
    carried.add_text("prompt", "the secret prompt")
    Image.new("RGB", (40, 20), (255, 0, 0)).save(file, "PNG", pnginfo=carried)

    async def story():
        async with served(tmp_path) as api:
            (tmp_path / "output").mkdir()
            (tmp_path / "output/a.png").write_bytes(file.getvalue())
            (tmp_path / "output/a.txt").write_text("text")
            _, whole = await api.ask("GET", "/v1/files/output/a.png?metadata=true")
            assert b"secret" in whole
            for query in ("metadata=false", "format=png", "format=png&metadata=true", "size=32"):
                status, headers, body = await api.whole("GET", f"/v1/files/output/a.png?{query}")
                assert (status, headers["Content-Type"], b"secret" in body) == (200, "image/png", False), query
                again = {"If-None-Match": headers["ETag"]}
                assert (await api.ask("GET", f"/v1/files/output/a.png?{query}", headers=again))[0] == 304
            status, problem = await api.ask("GET", "/v1/files/output/a.txt?metadata=false")
            assert status == 422 and "is not a picture" in problem["detail"]

    asyncio.run(story())
